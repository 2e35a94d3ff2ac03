"""Slices of TPUs: created, deleted, and created again after a preemption."""

import os
import pathlib
import subprocess

import pytest
from support.cloud import CONFIG, LAUNCH, VARIABLES, command_of
from support.commands import PATIENCE, one_error

# Create and delete


@pytest.mark.parametrize(
    "variables, flags",
    [
        ({}, []),
        ({"CAPACITY": "spot"}, ["--spot"]),
        ({"CAPACITY": "reserved"}, ["--reserved"]),
        (
            {"CAPACITY": "reserved", "RESERVATION_PROJECT": "owner"},
            ["--reserved", "--reservation-host-project=owner"],
        ),
        (
            {"NETWORK": "n", "SUBNETWORK": "s", "SERVICE_ACCOUNT": "a@b"},
            ["--network=n", "--subnetwork=s", "--service-account=a@b"],
        ),
        (
            {"CAPACITY": "flex-start", "MAX_RUN": "12h", "VALID_UNTIL": "6h"},
            [
                "--provisioning-model=flex-start",
                "--max-run-duration=12h",
                "--valid-until-duration=6h",
            ],
        ),
        (
            {"ADDRESSES": "internal", "LABELS": "team=a", "TAGS": "one,two"},
            ["--internal-ips", "--labels=team=a", "--tags=one,two"],
        ),
        ({"ACCELERATOR": "tpu-v6e-slice:4x4", "ADDRESSES": "iap"}, ["--internal-ips"]),
    ],
)
def test_create_asks_for_the_capacity_and_waits(cloud, variables, flags):
    cloud.set(
        states="ABSENT\nWAITING_FOR_RESOURCES SERVICE \n"
        "PROVISIONING SERVICE \nPROVISIONING SERVICE \nACTIVE SERVICE "
    )
    done = cloud.run("create", **variables)
    assert done.returncode == 0, done.stderr
    assert cloud.verbs() == ["auth", "describe", "create", *["describe"] * 4]
    flex = variables.get("CAPACITY") == "flex-start"
    assert cloud.calls()[2] == [
        *(["alpha"] if flex else []),  # gcloud has it there alone
        "compute",
        "tpus",
        "queued-resources",
        "create",
        "slice-1",
        "--accelerator-type=v6e-16",
        "--runtime-version=v2-alpha-tpuv6e",
        "--node-id=slice-1",
        *flags,
        "--project=my-project",
        "--zone=us-east5-b",
        "--quiet",
    ]
    assert [line.split()[1] for line in done.stdout.splitlines()] == [
        "WAITING_FOR_RESOURCES",
        "PROVISIONING",
        "ACTIVE",
    ]


@pytest.mark.parametrize(
    "accelerator, runtime",
    [
        ("v4-16", "tpu-ubuntu2204-base"),
        ("v5litepod-8", "v2-alpha-tpuv5-lite"),
        ("v5p-16", "v2-alpha-tpuv5"),
        ("v6e-1", "v2-alpha-tpuv6e"),
    ],
)
def test_the_image_follows_from_the_accelerator(cloud, accelerator, runtime):
    assert (
        f" --runtime-version={runtime} "
        in cloud.run("create", "--dry-run", ACCELERATOR=accelerator).stdout
    )
    assert (
        " --runtime-version=mine "
        in cloud.run("create", "--dry-run", ACCELERATOR=accelerator, RUNTIME="mine").stdout
    )


def test_create_again_goes_on_waiting(cloud):
    cloud.set(states="WAITING_FOR_RESOURCES SERVICE \nACTIVE SERVICE ")
    assert cloud.run("create").returncode == 0
    assert "create" not in cloud.verbs()


@pytest.mark.parametrize(
    "state, words",
    [
        ("FAILED SERVICE no more quota for v6e", "no more quota for v6e"),
        ("SUSPENDED SERVICE ", "tpu_vm.sh delete"),
        ("WAITING_FOR_RESOURCES SERVICE ", "keeps its place in the queue"),
    ],
)
def test_create_says_why_there_is_no_slice(cloud, state, words):
    cloud.set(states=f"ABSENT\n{state}")
    done = cloud.run("create", WAIT="1", POLL="1")
    assert done.returncode == 1 and words in done.stdout


def test_delete_without_an_answer_deletes_nothing(cloud):
    assert "--yes" in one_error(cloud.run("delete"))
    assert cloud.verbs() == ["auth"]
    assert cloud.run("delete", "--yes").returncode == 0
    assert cloud.calls()[-1] == [
        "compute",
        "tpus",
        "queued-resources",
        "delete",
        "slice-1",
        "--force",
        "--project=my-project",
        "--zone=us-east5-b",
        "--quiet",
    ]


@pytest.mark.parametrize("answer, deletes", [("n", 0), ("", 0), ("yes, but no", 0), ("y", 1)])
def test_delete_asks_at_a_terminal(cloud, answer, deletes):
    parent, child = os.openpty()
    process = subprocess.Popen(
        [LAUNCH / "tpu_vm.sh", "delete"],
        env=cloud.env | VARIABLES,
        stdin=child,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.write(parent, f"{answer}\n".encode())
    status = process.wait(timeout=PATIENCE)
    os.close(parent), os.close(child)
    assert cloud.verbs().count("delete") == deletes and status == (0 if deletes else 2)


@pytest.mark.parametrize(
    "addresses, track, flag",
    [
        ("external", [], None),
        ("internal", [], "--internal-ip"),
        ("iap", ["alpha"], "--tunnel-through-iap"),
    ],
)
def test_machines_without_an_address_are_reached_another_way(cloud, addresses, track, flag):
    for command in (["run", CONFIG], ["install"], ["fetch", "x"]):
        done = cloud.run(*command, "--dry-run", ADDRESSES=addresses)
        line = done.stdout.splitlines()[-1].split()
        assert line[1 : len(track) + 3] == [*track, "compute", "tpus"]
        assert [w for w in line if "iap" in w or "--internal" in w] == ([flag] if flag else [])


def test_several_slices_are_one_request_and_one_run(cloud):
    cloud.set(states="ABSENT\nACTIVE SERVICE ")
    for command in (["create"], ["install"], ["run", CONFIG]):
        done = cloud.run(*command, SLICES="2")
        assert done.returncode == 0, done.stderr
    (create,) = [call for call in cloud.calls() if "create" in call]
    assert {"--node-count=2", "--node-prefix=slice-1"} < set(create)
    assert not [word for word in create if word.startswith("--node-id")]
    cloud.wait_for_end()
    folders = sorted(cloud.here.glob("worker-*"))
    assert len(folders) == 4  # two slices of two workers
    first, *others = [(folder / "argv").read_bytes() for folder in folders]
    assert b"sar_jax.train" in first and set(others) == {first}
    assert cloud.run("status", SLICES="2").stdout.count("ended with status 0") == 4


# Preemption


def test_a_completed_run_ends_the_watching(cloud):
    cloud.ready()
    done = cloud.run("run", "--auto-resume", CONFIG)
    assert done.returncode == 0 and "the run is complete" in done.stdout
    assert not {"create", "delete", "scp"} & set(cloud.verbs())


def test_a_failed_run_is_looked_at_twice_and_not_started_again(cloud):
    cloud.ready()
    cloud.set(play="exit 2")
    done = cloud.run("run", "--auto-resume", CONFIG, POLL="1")
    # one line for each worker
    assert done.returncode == 1 and done.stdout.count("ended with status 2") == 2
    assert cloud.verbs() == ["auth", "look", "start", "describe", "look", "describe", "look"]


SPOT = {"CAPACITY": "spot"}, "--spot"
# its time is over: the machines are deleted, and the request is SUSPENDED
FLEX = {"CAPACITY": "flex-start", "MAX_RUN": "4h"}, "--max-run-duration=4h"
SUSPENDED = (
    "ACTIVE SERVICE \nSUSPENDING SERVICE \nSUSPENDED SERVICE \n"
    "PROVISIONING SERVICE \nACTIVE SERVICE "
)
FAILED = "ACTIVE SERVICE \nFAILED SERVICE broken\nACTIVE SERVICE "
ACTIVE = "ACTIVE SERVICE \nACTIVE SERVICE \nACTIVE SERVICE "


@pytest.mark.parametrize(
    "states, nodes, reachable, capacity, flag",
    [
        (SUSPENDED, "READY", "yes", *SPOT),
        (SUSPENDED, "READY", "yes", *FLEX),
        (FAILED, "READY", "yes", *SPOT),
        (ACTIVE, "PREEMPTED", "yes\nyes\nyes\nno\nyes", *SPOT),
    ],
    ids=["suspended", "flex", "failed", "preempted"],
)
def test_after_a_preemption_the_slice_is_created_again_and_the_run_goes_on(
    cloud, states, nodes, reachable, capacity, flag
):
    cloud.ready()
    # Runs until the slice is gone; on the slice that replaces it, to the end.
    cloud.set(
        states=states,
        nodes=nodes,
        reachable=reachable,
        play='touch "$PLAY.$$"; if [ "$(ls "$PLAY".* | wc -l)" -le 2 ]; then '
        "while [ -e worker.sh ]; do sleep 0.1; done; fi",
    )
    done = cloud.run("run", "--auto-resume", CONFIG, "--config.steps=7", POLL="1", **capacity)
    assert done.returncode == 0, done.stdout + done.stderr
    verbs = cloud.verbs()
    again = verbs[verbs.index("delete") :]
    assert [v for v in again if v != "describe"][:6] == [
        "delete",
        "create",
        "look",
        "ssh",
        "scp",
        "install",
    ]
    assert verbs.count("create") == 1 and verbs.count("start") == 2
    first, second = [
        command_of(c) for c in cloud.calls() if "worker.sh start" in (command_of(c) or "")
    ]
    assert (
        first == second and "--workdir=gs://bucket/run\\ 1" in first and "--config.steps=7" in first
    )
    assert flag in next(c for c in cloud.calls() if "create" in c)
    # without it, machines that are left refuse it
    assert "--force" in next(c for c in cloud.calls() if "delete" in c)
    (shipped,) = {c[5] for c in cloud.calls() if "scp" in c}
    assert pathlib.Path(shipped).parent.parent == cloud.here / "wheels/slice-1"


def test_new_machines_under_the_old_name_get_everything_again(cloud):
    """As after a repair: nobody asked for them, and nothing is installed."""
    cloud.ready()
    cloud.set(
        play='touch "$PLAY.$$"; if [ "$(ls "$PLAY".* | wc -l)" -le 2 ]; then '
        'rm "$HOME"/sar_jax_run/worker.sh; fi'
    )
    done = cloud.run("run", "--auto-resume", CONFIG, POLL="1")
    assert done.returncode == 0, done.stdout + done.stderr
    verbs = cloud.verbs()
    assert not {"create", "delete"} & set(verbs)
    assert verbs.count("install") == 1 and verbs.count("start") == 2


def test_the_attempts_are_bounded(cloud):
    cloud.ready()
    cloud.set(states="SUSPENDED SERVICE ")
    assert "giving up on slice-1 after 3 attempts" in one_error(
        cloud.run("run", "--auto-resume", CONFIG, RESUMES="3")
    )
    assert cloud.verbs().count("create") == cloud.verbs().count("delete") == 3


def test_a_failed_installation_is_tried_again_without_losing_the_slice(cloud):
    cloud.ready()
    cloud.set(states="SUSPENDED SERVICE \nACTIVE SERVICE ", reachable="yes\nyes\nno\nyes")
    done = cloud.run("run", "--auto-resume", CONFIG)
    assert done.returncode == 0, done.stdout + done.stderr
    assert cloud.verbs().count("create") == 1 and "attempt 2 of 20" in done.stdout


@pytest.mark.parametrize(
    "states", ["ABSENT", "SUSPENDED USER ", "DELETING USER ", "SUSPENDED SERVICE \nABSENT"]
)
def test_what_somebody_deleted_is_not_created_again(cloud, states):
    cloud.ready()
    cloud.set(states=states)
    assert "not creating it again" in one_error(cloud.run("run", "--auto-resume", CONFIG))
    assert cloud.verbs().count("create") == (1 if "SERVICE" in states else 0)


def test_attach_watches_without_starting(cloud):
    cloud.ready()
    cloud.run("run", CONFIG)
    cloud.wait_for_end()
    cloud.forget()
    assert cloud.run("run", "--auto-resume", "--attach", CONFIG).returncode == 0
    assert cloud.verbs() == ["auth", "describe", "look"]
