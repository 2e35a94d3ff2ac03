"""A run with as many slots as fit, in eight bits, that recomputes little and pads little."""

import json

from support.commands import run_command
from support.training import read_metrics, train_command


def test_slots_that_fit_are_said_once_and_kept(hf_folder, tmp_path):
    command = train_command(
        hf_folder,
        tmp_path / "run",
        "--config.rollout.slots=auto",
        "--config.rollout.precision=int8",
        "--config.model.remat=dots_but_up",
        "--config.packing.narrowest=4",
        "--config.data.eval=",
    )
    first = run_command(*command, "--config.steps=2", check=True).stdout
    facts = json.loads((tmp_path / "run/run.json").read_text())
    config = json.loads((tmp_path / "run/config.json").read_text())
    answers = config["rollout"]["questions"] * config["rollout"]["samples"]
    assert facts["slots"] == answers  # on a machine with memory for all
    assert f"rollout.slots=auto: {answers} slots, with which decoding takes 0." in first
    set_by = config["rollout"]["weights_dtype"], config["rollout"]["cache_dtype"]
    assert set_by == ("int8", "int8") and config["loss"]["importance_cap"] == 2
    assert config["rollout"]["slots"] == "auto" and config["model"]["remat"] == "dots_but_up"
    # another machine's number, which is still the run's
    (tmp_path / "run/run.json").write_text(json.dumps(facts | {"slots": answers // 2}))
    second = run_command(*command, "--config.steps=4", check=True).stdout
    assert "resumed at step 2" in second and "rollout.slots=auto" not in second
    assert json.loads((tmp_path / "run/run.json").read_text())["slots"] == answers // 2
    lines = read_metrics(tmp_path / "run")
    assert [line["step"] for line in lines] == [0, 1, 2, 3, 4]
    # whatever a step's last micro-batch looks like
    assert [lines[step]["compilations"] for step in (2, 4)] == [0, 0]


def test_sampled_logprobs_are_measured_against_scored_ones_now_and_then(hf_folder, tmp_path):
    command = train_command(
        hf_folder,
        tmp_path / "run",
        "--config.loss.old_logps=sampled",
        "--config.data.eval=",
        "--config.steps=3",
    )
    run_command(*command, check=True)
    lines = read_metrics(tmp_path / "run")[1:]
    gaps = [line.get("sampling/logp_difference/max") for line in lines]
    assert gaps[1] is None and max(gaps[0], gaps[2]) < 1e-4  # evaluation.every_steps is 2
    assert all("entropy" in line and line["ratio"] for line in lines)
    assert [line["compilations"] for line in lines[1:]] == [0, 0]
