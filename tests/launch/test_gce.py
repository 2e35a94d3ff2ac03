"""Slices of Compute Engine: one machine or a group, in every capacity, and again when lost."""

import pytest
from support.cloud import CONFIG, HOSTILE, VARIABLES, command_of
from support.commands import one_error, wait_for

ONE = {"ACCELERATOR": "v6e-8"}
GROUP = {"ACCELERATOR": "tpu7x:2x2x2"}  # two machines
RUNNING = {1: "RUNNING", 2: "RUNNING RUNNING"}


def gce(cloud, *words, **variables):
    return cloud.run(*words, script="gce", **variables)


def created(cloud, kind: str) -> dict[str, str]:
    """The options of the call that creates something of this kind."""
    (call,) = [c for c in cloud.calls() if kind in c and "create" in c]
    return dict(word.partition("=")[::2] for word in call if word.startswith("--"))


def ready(cloud, slice):
    cloud.ready("gce", RUNNING[2 if slice is GROUP else 1], **slice)


@pytest.mark.parametrize(
    "accelerator, machine, image",
    [
        ("v6e-1", "ct6e-standard-1t", "ubuntu-accel-2204-amd64-tpu-v5e-v5p-v6e"),
        ("ct6e-standard-8t", "ct6e-standard-8t", "ubuntu-accel-2204-amd64-tpu-v5e-v5p-v6e"),
        ("v5p-8", "ct5p-hightpu-4t", "ubuntu-accel-2204-amd64-tpu-v5e-v5p-v6e"),
        ("tpu7x-8", "tpu7x-standard-4t", "ubuntu-accel-2404-amd64-tpu-tpu7x"),
    ],
)
def test_a_slice_of_one_machine_is_an_instance(cloud, accelerator, machine, image):
    cloud.set(states="ABSENT\nPROVISIONING\nSTAGING\nRUNNING")
    done = gce(cloud, "create", ACCELERATOR=accelerator)
    assert done.returncode == 0, done.stderr
    assert cloud.verbs() == ["auth", "describe", "create", *["describe"] * 3]
    options = created(cloud, "instances")
    assert options == {
        "--project": "my-project",
        "--zone": "us-east5-b",
        "--machine-type": machine,
        "--image-project": "ubuntu-os-accelerator-images",
        "--image-family": image,
        "--boot-disk-size": "200GB",
        "--maintenance-policy": "TERMINATE",
        "--scopes": "cloud-platform",
        "--async": "",
        "--quiet": "",
    }


def test_a_larger_slice_is_a_group_whose_policy_has_its_shape(cloud):
    cloud.set(states="ABSENT\nPROVISIONING STAGING\nRUNNING STAGING\nRUNNING RUNNING")
    done = gce(cloud, "create", **GROUP)
    assert done.returncode == 0, done.stderr
    assert [line.split(",")[0] for line in done.stdout.splitlines()] == [
        "slice-1: WAITING", "slice-1: WAITING", "slice-1: ACTIVE",
    ]  # fmt: skip
    policy = created(cloud, "resource-policies")
    assert policy["--accelerator-topology"] == "2x2x2" and policy["--region"] == "us-east5"
    assert policy["--type"] == "HIGH_THROUGHPUT"
    assert created(cloud, "instance-templates")["--machine-type"] == "tpu7x-standard-4t"
    group = created(cloud, "instance-groups")
    assert (group["--size"], group["--template"]) == ("2", "slice-1")
    place = "projects/my-project/regions/us-east5/resourcePolicies"
    assert group["--workload-policy"] == f"{place}/slice-1"
    assert group["--default-action-on-vm-failure"] == "do-nothing"
    assert "--target-size-policy-mode" not in group


@pytest.mark.parametrize("slice", [ONE, GROUP], ids=["one", "group"])
@pytest.mark.parametrize(
    "capacity, flags",
    [
        ({"CAPACITY": "spot"}, {"provisioning-model": "SPOT"}),
        (
            {"CAPACITY": "flex-start", "MAX_RUN": "1d12h"},
            {"provisioning-model": "FLEX_START", "max-run-duration": "1d12h"},
        ),
        (
            {"CAPACITY": "reservation", "RESERVATION": "projects/o/reservations/r"},
            {
                "provisioning-model": "RESERVATION_BOUND",
                "reservation-affinity": "specific",
                "reservation": "projects/o/reservations/r",
            },
        ),
        ({"MAX_RUN": "8h"}, {"max-run-duration": "8h"}),
        (
            {"NETWORK": "n", "SUBNETWORK": "s", "SERVICE_ACCOUNT": "a@b", "ADDRESSES": "iap"},
            {"network": "n", "subnet": "s", "service-account": "a@b", "no-address": ""},
        ),
        ({"LABELS": "team=a", "TAGS": "x,y", "DISK": "50"},
         {"labels": "team=a", "tags": "x,y", "boot-disk-size": "50GB"}),
    ],
)  # fmt: skip
def test_capacity_and_network_are_those_that_were_asked_for(cloud, slice, capacity, flags):
    cloud.set(states=f"ABSENT\n{RUNNING[2 if slice is GROUP else 1]}")
    assert gce(cloud, "create", **slice, **capacity).returncode == 0
    machine = created(cloud, "instances" if slice is ONE else "instance-templates")
    assert flags.items() <= {k[2:]: v for k, v in machine.items()}.items()
    kind = capacity.get("CAPACITY", "on-demand")
    all_at_once = slice is GROUP and kind in ("flex-start", "reservation")
    ends = kind != "on-demand" or "MAX_RUN" in capacity
    expected = ("DELETE" if all_at_once else "STOP") if ends else None
    assert machine.get("--instance-termination-action") == expected
    waits = "2h" if slice is ONE and kind == "flex-start" else None
    assert machine.get("--request-valid-for-duration") == waits
    if slice is GROUP:
        group = created(cloud, "instance-groups")
        assert group.get("--target-size-policy-mode") == ("bulk" if all_at_once else None)


@pytest.mark.parametrize(
    "variables, words",
    [
        ({"ACCELERATOR": "v5e-8"}, "see launch/tpu_vm.sh, launch/gke.sh"),
        ({"ACCELERATOR": ""}, "not set: ACCELERATOR"),
        ({"SLICES": "2"}, "several slices are for"),
        ({"CAPACITY": "reserved"}, "on-demand spot flex-start reservation"),
        ({"CAPACITY": "reservation"}, "needs RESERVATION"),
        ({"RESERVATION": "r"}, "CAPACITY is 'on-demand'"),
        ({"CAPACITY": "flex-start"}, "needs MAX_RUN"),
        ({"CAPACITY": "flex-start", "MAX_RUN": "1h", "VALID_UNTIL": "3h"}, "at most 2 hours"),
        ({"VALID_UNTIL": "1h"}, "VALID_UNTIL is for"),
        ({"DISK": "10GB"}, "DISK is '10GB'"),
    ],
)
def test_wrong_settings_are_one_error_and_call_nothing(cloud, variables, words):
    assert words in one_error(gce(cloud, "create", **ONE | variables)) and not cloud.calls()


@pytest.mark.parametrize("slice", [ONE, GROUP], ids=["one", "group"])
def test_a_run_starts_on_every_machine_which_know_of_each_other(cloud, slice):
    ready(cloud, slice)
    done = gce(cloud, "run", CONFIG, *HOSTILE, **slice)
    assert done.returncode == 0, done.stderr
    cloud.wait_for_end()
    workers = sorted(cloud.here.glob("worker-*"))
    assert len(workers) == (2 if slice is GROUP else 1)
    for number, worker in enumerate(workers):
        peers = ["--coordinator=10.0.0.1:8476", "--processes=2", f"--process={number}"]
        argv = (worker / "argv").read_text().split("\0")[:-1]
        expected = ["-u", "-m", "sar_jax.train", CONFIG, *HOSTILE]
        expected.append(f"--workdir={VARIABLES['WORKDIR']}")
        assert argv == expected + (peers if slice is GROUP else [])


@pytest.mark.parametrize("slice", [ONE, GROUP], ids=["one", "group"])
def test_other_commands_and_what_they_write_are_of_worker_0(cloud, slice, tmp_path):
    """Whatever the order in which a group lists its machines."""
    ready(cloud, slice)
    cloud.set(play="echo page >page.html")
    done = gce(cloud, "run", "report", "gs://b/run", "--output=page.html", **slice)
    assert done.returncode == 0, done.stderr
    wait_for((cloud.here / "worker-0/sar_jax_run/status").exists)
    assert not (cloud.here / "worker-1/argv").exists()
    here = tmp_path / "here"
    here.mkdir()
    done = cloud.run("fetch", "page.html", script="gce", cwd=here, **slice)
    assert done.returncode == 0, done.stderr
    assert (here / "page.html").read_text() == "page\n"


@pytest.mark.parametrize(
    "slice, variables, lost",
    [
        (ONE, {"CAPACITY": "spot"}, "TERMINATED"),
        (GROUP, {"CAPACITY": "spot"}, "TERMINATED TERMINATED"),
        (GROUP, {"CAPACITY": "flex-start", "MAX_RUN": "4h"}, " "),  # the group has none left
    ],
    ids=["spot", "spot-group", "flex-group"],
)
def test_a_lost_slice_is_created_again_and_the_run_goes_on(cloud, slice, variables, lost):
    ready(cloud, slice)
    running = RUNNING[2 if slice is GROUP else 1]
    count = 2 if slice is GROUP else 1
    cloud.set(
        states=f"{running}\n{lost}\n{running}",
        play=f'touch "$PLAY.$$"; if [ "$(ls "$PLAY".* | wc -l)" -le {count} ]; then '
        "while [ -e worker.sh ]; do sleep 0.1; done; fi",
    )
    done = gce(cloud, "run", "--auto-resume", CONFIG, POLL="1", **slice, **variables)
    assert done.returncode == 0, done.stdout + done.stderr
    verbs = cloud.verbs()
    assert "delete" in verbs and verbs.index("delete") < verbs.index("create")
    assert verbs.count("install") == count and verbs.count("start") == 2 * count
    commands = [command_of(call) or "" for call in cloud.calls()]
    starts = {command for command in commands if "worker.sh start" in command}
    assert len(starts) == 1 and "--workdir=gs://bucket/run\\ 1" in starts.pop()


def test_what_somebody_deleted_is_not_created_again(cloud):
    ready(cloud, ONE)
    cloud.set(states="RUNNING\nABSENT", play="while [ -e worker.sh ]; do sleep 0.1; done")
    done = gce(cloud, "run", "--auto-resume", CONFIG, **ONE)
    assert "not creating it again" in one_error(done) and "create" not in cloud.verbs()


def test_everything_of_a_group_is_given_back(cloud):
    ready(cloud, GROUP)
    assert gce(cloud, "delete", "--yes", **GROUP).returncode == 0
    gone = [call[1] for call in cloud.calls() if "delete" in call]
    assert gone == ["instance-groups", "instance-templates", "resource-policies"]
