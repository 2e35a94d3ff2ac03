"""Runs on a GKE cluster: the manifests, and what their pods do, on a cluster that is played."""

import json
import re

import pytest
import yaml
from support.cloud import CONFIG, HOSTILE, LAUNCH, environment_of
from support.commands import one_error

GKE = {
    "CLUSTER": "cluster-1",
    "IMAGE": "europe-docker.pkg.dev/p/r/sar_jax:tpu",
    "WORKDIR": "gs://bucket/run 1",
}


def gke(cloud, *words, cwd=None, **variables):
    return cloud.run(*words, script="gke", cwd=cwd, **GKE | variables)


def manifests(cloud, *words, **variables) -> dict[str, dict]:
    """What a dry run would apply, by kind; as Kubernetes would read it."""
    done = gke(cloud, *words, "--dry-run", **variables)
    assert done.returncode == 0, done.stderr
    (text,) = re.findall(r"<<'YAML'\n(.*?)^YAML$", done.stdout, re.M | re.S)
    return {document["kind"]: document for document in yaml.safe_load_all(text)}


def pod_of(jobset) -> dict:
    return jobset["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]


@pytest.mark.parametrize(
    "accelerator, slices, label, topology, hosts, chips",
    [
        ("v6e-8", "1", "tpu-v6e-slice", "2x4", 1, 8),
        ("v6e-8", "2", "tpu-v6e-slice", "2x4", 2, 4),  # GKE joins slices of several machines
        ("ct6e-standard-4t:2x4", "1", "tpu-v6e-slice", "2x4", 2, 4),
        ("v5litepod-16", "1", "tpu-v5-lite-podslice", "4x4", 4, 4),
        ("tpu7x:2x2x2", "3", "tpu7x", "2x2x2", 2, 4),
        ("tpu-v5p-slice 4x4x4", "1", "tpu-v5p-slice", "4x4x4", 16, 4),
    ],
)
def test_the_jobset_fits_its_slices(cloud, accelerator, slices, label, topology, hosts, chips):
    jobset = manifests(cloud, "run", CONFIG, ACCELERATOR=accelerator, SLICES=slices)["JobSet"]
    assert jobset["apiVersion"] == "jobset.x-k8s.io/v1alpha2"
    (job,) = jobset["spec"]["replicatedJobs"]
    spec, pod = job["template"]["spec"], pod_of(jobset)
    (container,) = pod["containers"]
    assert pod["nodeSelector"] == {
        "cloud.google.com/gke-tpu-accelerator": label,
        "cloud.google.com/gke-tpu-topology": topology,
    }
    assert job["replicas"] == int(slices)
    assert spec["completions"] == spec["parallelism"] == hosts
    assert container["resources"]["limits"]["google.com/tpu"] == chips
    # restarted as a whole, in the same workdir, but not on an error of the settings
    assert spec["backoffLimit"] == 0 and pod["restartPolicy"] == "Never"
    assert jobset["spec"]["failurePolicy"]["maxRestarts"] == 20
    (rule,) = spec["podFailurePolicy"]["rules"]
    assert rule["onExitCodes"]["containerName"] == container["name"]
    assert jobset["spec"]["ttlSecondsAfterFinished"] == 86400  # cleaned up


@pytest.mark.parametrize(
    "variables, selector, annotation",
    [
        ({"CAPACITY": "spot"}, {"cloud.google.com/gke-spot": "true"}, None),
        (
            {"CAPACITY": "reservation", "RESERVATION": "r"},
            {"cloud.google.com/reservation-name": "r"},
            None,
        ),
        (
            {"CAPACITY": "flex-start", "MAX_RUN": "1d2h", "QUEUE": "q"},
            {"cloud.google.com/gke-queued": "true"},
            str(26 * 3600),
        ),
        (
            {"CAPACITY": "flex-start", "MAX_RUN": "4h", "ACCELERATOR": "v6e-8"},
            {"cloud.google.com/gke-flex-start": "true"},
            None,
        ),
        ({"QUEUE": "q"}, {}, None),
    ],
)
def test_pods_go_to_the_nodes_of_their_capacity(cloud, variables, selector, annotation):
    jobset = manifests(cloud, "run", CONFIG, **variables)["JobSet"]
    found = pod_of(jobset)["nodeSelector"]
    assert {k: v for k, v in found.items() if "gke-tpu" not in k} == selector
    meta = jobset["metadata"]
    assert meta["annotations"].get("provreq.kueue.x-k8s.io/maxRunDurationSeconds") == annotation
    assert meta.get("labels", {}).get("kueue.x-k8s.io/queue-name") == variables.get("QUEUE")


@pytest.mark.parametrize("flex", [False, True])
def test_the_queue_has_the_chips_of_all_slices(cloud, flex):
    more = {"CAPACITY": "flex-start", "MAX_RUN": "4h"} if flex else {}
    found = manifests(cloud, "queue", QUEUE="mine", SLICES="2", **more)
    flavor = found["ResourceFlavor"]
    assert flavor["spec"]["nodeLabels"]["cloud.google.com/gke-tpu-topology"] == "4x4"
    queue = found["ClusterQueue"]["spec"]
    ((resource,),) = [f["resources"] for f in queue["resourceGroups"][0]["flavors"]]
    assert resource == {"name": "google.com/tpu", "nominalQuota": 32}
    assert found["LocalQueue"]["metadata"]["name"] == "mine"
    assert found["LocalQueue"]["spec"]["clusterQueue"] == found["ClusterQueue"]["metadata"]["name"]
    assert ("AdmissionCheck" in found) == flex == ("admissionChecks" in queue)
    if flex:
        check = found["AdmissionCheck"]
        assert queue["admissionChecks"] == [check["metadata"]["name"]]
        settings = found["ProvisioningRequestConfig"]
        assert check["spec"]["parameters"]["name"] == settings["metadata"]["name"]
        assert settings["spec"]["managedResources"] == ["google.com/tpu"]


@pytest.mark.parametrize(
    "variables, flags",
    [
        ({}, ["--num-nodes=4", "--tpu-topology=4x4", "--machine-type=ct6e-standard-4t"]),
        ({"ACCELERATOR": "v5e-8"}, ["--num-nodes=2", "--machine-type=ct5lp-hightpu-4t"]),
        ({"CAPACITY": "spot"}, ["--spot"]),
        (
            {"CAPACITY": "reservation", "RESERVATION": "r"},
            ["--reservation=r", "--reservation-affinity=specific"],
        ),
        (
            {"CAPACITY": "flex-start", "MAX_RUN": "4h", "QUEUE": "q"},
            ["--flex-start", "--enable-queued-provisioning", "--max-nodes=4", "--num-nodes=0"],
        ),
        ({"ACCELERATOR": "tpu7x:2x2x2"}, ["--placement-policy=slice-1", "--num-nodes=2"]),
        ({"LOCATION": "us-east5", "LABELS": "a=b"}, ["--location=us-east5", "--labels=a=b"]),
    ],
)
def test_every_slice_gets_a_pool_which_goes_again(cloud, variables, flags):
    assert gke(cloud, "create", SLICES="2", **variables).returncode == 0
    made = [call for call in cloud.calls() if "node-pools" in call]
    assert [call[3] for call in made] == ["slice-1-0", "slice-1-1"]
    assert all(set(flags) < set(call) for call in made)
    policies = [call for call in cloud.calls() if "resource-policies" in call]
    assert len(policies) == ("tpu7x" in variables.get("ACCELERATOR", ""))
    cloud.forget()
    assert gke(cloud, "delete", "--yes", SLICES="2", **variables).returncode == 0
    gone = [call[3] for call in cloud.calls() if "node-pools" in call and "delete" in call]
    assert gone == ["slice-1-0", "slice-1-1"]
    assert len([c for c in cloud.calls() if "resource-policies" in c]) == len(policies)


def pods(cloud):
    return sorted(cloud.here.glob("pod-*"))


def test_pods_run_the_command_with_arguments_secrets_and_files(cloud, tmp_path):
    here = tmp_path / "here"
    (here / "data").mkdir(parents=True)
    (here / "data/rows.jsonl").write_text("{}\n")
    (here / "my.py").write_text("")
    (here / "secrets").write_text("# mine\n\nSECRET=hush $(hush) 'x'\n")
    own = ["--config.data.train=data/rows.jsonl", "--config.rewards.custom=my.py:f"]
    variables = {"ENV_FILE": "secrets", "ACCELERATOR": "tpu7x:2x2x2", "SLICES": "2"}
    done = gke(cloud, "run", CONFIG, *own, *HOSTILE, cwd=here, **variables)
    assert done.returncode == 0, done.stderr
    assert len(pods(cloud)) == 4 and json.loads((cloud.here / "codes").read_text()) == [0] * 4
    for pod in pods(cloud):
        argv = (pod / "argv").read_text().split("\0")[:-1]
        workdir = "--workdir=gs://bucket/run 1"
        assert argv == ["-u", "-m", "sar_jax.train", CONFIG, *own, *HOSTILE, workdir]
        assert (pod / "data/rows.jsonl").exists() and (pod / "my.py").exists()
        assert environment_of(pod)["SECRET"] == "hush $(hush) 'x'"
    assert "hush" not in (cloud.here / "calls").read_text()
    assert "hush" not in (cloud.here / "applied-JobSet.json").read_text()
    assert not list((cloud.here / "wheels").glob("*.env"))


def test_a_lost_pod_restarts_all_until_the_run_is_complete(cloud):
    cloud.set(play='[ "$ATTEMPT" != 0 ] || [ "$TPU_WORKER_ID" != 1 ] || exit 137')
    assert gke(cloud, "run", CONFIG).returncode == 0
    assert (cloud.here / "attempts").read_text() == "2" and len(pods(cloud)) == 4


def test_a_finished_run_makes_room_for_the_next_and_a_running_one_does_not(cloud):
    assert gke(cloud, "run", CONFIG).returncode == 0
    cloud.forget()
    assert gke(cloud, "run", CONFIG).returncode == 0
    verbs = [call[1] for call in cloud.calls() if call[0] == "kubectl"]
    assert verbs == ["get", "delete", "apply"]
    (cloud.here / "going").touch()
    cloud.forget()
    assert "a run is under way as slice-1" in one_error(gke(cloud, "run", CONFIG))
    assert [call[1] for call in cloud.calls() if call[0] == "kubectl"] == ["get"]


def test_an_error_in_the_settings_is_not_tried_again(cloud):
    cloud.set(play="exit 2")
    assert gke(cloud, "run", CONFIG).returncode == 0
    assert (cloud.here / "attempts").read_text() == "1"


def test_what_another_command_writes_is_in_the_bucket(cloud, tmp_path):
    cloud.set(play="mkdir results && echo good >results/results.md")
    one = {"ACCELERATOR": "v6e-8", "WORKDIR": "gs://bucket/run"}
    words = ["evaluate", "--model=gs://bucket/run", "--tasks=gsm8k", "--output=results"]
    assert gke(cloud, "run", *words, **one).returncode == 0
    (pod,) = pods(cloud)
    assert (pod / "argv").read_text().split("\0")[:-1] == [
        "-u",
        "-m",
        "sar_jax.evaluate",
        *words[1:],
    ]
    here = tmp_path / "here"
    here.mkdir()
    assert gke(cloud, "fetch", "results", cwd=here, **one).returncode == 0
    assert (here / "results/results.md").read_text() == "good\n"
    cloud.set(play="exit 1")
    assert gke(cloud, "run", *words, RESUMES="0", **one).returncode == 0
    assert json.loads((cloud.here / "codes").read_text()) == [1]


@pytest.mark.parametrize(
    "words, variables, message",
    [
        (["run", CONFIG], {"WORKDIR": "/mnt/run"}, "must be gs://BUCKET/PATH"),
        (["run", CONFIG], {"WORKDIR": "gs://bucket"}, "must be gs://BUCKET/PATH"),
        (["run", CONFIG], {"IMAGE": ""}, "not set: IMAGE"),
        (["run", CONFIG], {"CAPACITY": "flex-start", "MAX_RUN": "4h"}, "needs QUEUE"),
        (["run", CONFIG], {"ACCELERATOR": "v6e-4", "SLICES": "2"}, "slices of several machines"),
        (["run", CONFIG], {"KEEP": "1d"}, "KEEP is '1d'"),
        (["run", CONFIG], {"MAX_RUN": "1d"}, "only flex-start has an end"),
        (["run", CONFIG], {"PACKAGES": "scipy"}, "PACKAGES is set, but the image has"),
        (["create"], {"VALID_UNTIL": "1h"}, "VALID_UNTIL is set"),
        (["run", "evaluate", "--model=m"], {}, "a slice of one machine"),
        (["queue"], {}, "not set: QUEUE"),
        (["create"], {"CLUSTER": ""}, "not set: CLUSTER"),
        (["delete"], {}, "--yes"),
        (["install"], {}, "not 'install'"),
    ],
)
def test_wrong_settings_are_one_error(cloud, words, variables, message):
    assert message in one_error(gke(cloud, *words, **variables))
    assert {call[0] for call in cloud.calls()} <= {"auth"}


def test_help_names_every_command_and_variable(cloud):
    text = (LAUNCH / "gke.sh").read_text()
    shown = gke(cloud, "--help").stdout
    used = set(re.findall(r"\b([A-Z][A-Z_]+)=\$\{\1:-", text))
    commands = set(re.findall(r"^do_(\w+)\(\)", text, re.M))
    assert len(commands) == 8 and not [
        w for w in used | commands if not re.search(rf"\b{w}\b", shown)
    ]
