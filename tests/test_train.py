"""Whole runs through the command line: metrics, resume bit for bit, Ctrl-C, a full disk, and every
kind of bad input."""

import json
import math
import os
import pathlib
import resource
import signal
import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest
from support.commands import (
    PATIENCE,
    ROOT,
    one_error,
    run_command,
    start_in_background,
    wait_for,
)
from support.data import real
from support.environment import CACHE, XLA_QUICK
from support.models import make_hf_folder
from support.training import (
    assert_same_state,
    read_metrics,
    state_of,
    timeless,
    train_command,
)
from tensorboardX.proto.event_pb2 import Event


@pytest.fixture(scope="module")
def finished(hf_folder, tmp_path_factory) -> tuple[pathlib.Path, str]:
    """A run of four steps that nothing interrupted: its workdir and what it printed. What others do
    like it is compared with a process that shares nothing with theirs."""
    workdir = tmp_path_factory.mktemp("finished") / "run"
    done = run_command(*train_command(hf_folder, workdir), real=True, check=True)
    return workdir, done.stdout


def read_events(workdir: pathlib.Path) -> list[Event]:
    """TensorBoard's records: eight bytes that say how long, four of checksum, the event, four of
    checksum."""
    (file,) = (workdir / "tensorboard").glob("events*")
    data, events = file.read_bytes(), []
    while data:
        size = int.from_bytes(data[:8], "little")
        events.append(Event.FromString(data[12 : 12 + size]))
        data = data[16 + size :]
    return events


def test_a_run_writes_what_the_readme_says(finished):
    workdir, printed = finished
    assert {p.name for p in workdir.iterdir()} == {
        "config.json",
        "metrics.jsonl",
        "samples",
        "checkpoints",
        "tensorboard",
    }
    lines = read_metrics(workdir)
    assert [line["step"] for line in lines] == [0, 1, 2, 3, 4]
    assert all(math.isfinite(v) for line in lines for v in line.values())
    for name in (
        "reward/verifiable/mean",
        "reward/self_aligned/mean",
        "completions/mean_length",
        "completions/clipped_ratio",
        "kl",
        "clip_ratio",
        "frac_reward_zero_std",
        "sampling/logp_difference/mean",
        "sampling/logp_difference/max",
        "time/rollout",
        "time/score",
        "time/verify",
        "time/update",
        "tokens_per_second",
        "entropy",
        "rollout/tokens_per_second",
        "rollout/occupancy",
        "time/prefill",
        "time/decode",
        "advantage_share/self_aligned",
        "alpha",
        "alpha_trust",
        "accuracy_error",
        "alarms",
    ):
        assert name in lines[1]
    # of the adaptive weight: it starts where the config says
    weights = [line["alpha"] for line in lines[1:]]
    assert weights[0] == 0.2 and len(set(weights)) == 4
    assert lines[1]["sampling/logp_difference/max"] < 1e-4
    assert [("eval/accuracy" in line) for line in lines] == [True, False, True, False, True]
    assert 0 < lines[1]["time/prefill"] + lines[1]["time/decode"] < lines[1]["time/rollout"]
    drawn = [value for event in read_events(workdir) for value in event.summary.value]
    lengths = [value.histo for value in drawn if value.tag == "completions/length"]
    assert len(lengths) == 4
    rows = pq.read_table(workdir / "samples" / "step_000001.parquet").to_pylist()
    assert len(rows) == 12 and len({r["question"] for r in rows}) == 4
    assert (lengths[0].num, lengths[0].sum) == (12, sum(r["length"] for r in rows))
    for r in rows:
        assert r["reward/self_aligned"] == pytest.approx(
            np.clip((r["ppl_standalone"] - r["ppl_conditional"]) / r["ppl_standalone"], -1, 1),
            abs=1e-6,
        )
        assert r["reward"] == pytest.approx(r["correct"] + 0.2 * r["reward/self_aligned"])
    means = [
        np.mean([r["advantage"] for r in rows if r["question"] == q])
        for q in {r["question"] for r in rows}
    ]
    np.testing.assert_allclose(means, 0, atol=1e-9)
    assert "tokens an answer" in printed and str(workdir / "metrics.jsonl") in printed


def test_nothing_is_compiled_after_the_first_step(finished):
    counts = [line["compilations"] for line in read_metrics(finished[0])[1:]]
    assert counts[0] > 0 and counts[1:] == [0, 0, 0]


def test_a_reference_in_host_memory_and_a_profile_change_nothing(finished, hf_folder, tmp_path):
    run_command(
        *train_command(
            hf_folder,
            tmp_path / "run",
            "--config.model.offload_reference=true",
            "--config.profile_steps=1",
        ),
        check=True,
    )
    assert list(map(timeless, read_metrics(tmp_path / "run"))) == list(
        map(timeless, read_metrics(finished[0]))
    )
    assert len(list((tmp_path / "run/profile").rglob("*.xplane.pb"))) == 1


def test_steps_sample_anew_and_weights_move(finished):
    workdir, _ = finished
    first, second = (
        pq.read_table(workdir / "samples" / f"step_00000{s}.parquet").to_pylist() for s in (1, 4)
    )
    assert {r["question"] for r in first} != {r["question"] for r in second}
    assert any((a != b).any() for a, b in zip(state_of(workdir, 1), state_of(workdir, 4)))


@pytest.mark.parametrize("when", [1, 3])
def test_killed_and_resumed_equals_never_stopped_bit_for_bit(finished, hf_folder, tmp_path, when):
    """SIGKILL as soon as the checkpoint of step `when` is complete, wherever the run is by then."""
    workdir, output = tmp_path / "run", tmp_path / "printed"
    process = start_in_background(*train_command(hf_folder, workdir), output=output)
    wait_for((workdir / "checkpoints" / f"{when:08d}").is_dir, process, output)
    process.kill()
    process.wait()
    again = run_command(*train_command(hf_folder, workdir), check=True)
    assert "resumed at step" in again.stdout
    assert_same_state(finished[0], workdir, 4)
    ours, theirs = ([timeless(line) for line in read_metrics(w)] for w in (finished[0], workdir))
    assert ours == theirs


def test_ctrl_c_saves_says_so_and_exits(finished, hf_folder, tmp_path):
    workdir, output = tmp_path / "run", tmp_path / "printed"
    more = ["--config.steps=1000", "--config.checkpoint.every_steps=1000"]
    process = start_in_background(*train_command(hf_folder, workdir, *more), output=output)
    metrics = workdir / "metrics.jsonl"
    wait_for(lambda: metrics.is_file() and metrics.read_text().count("\n") > 2, process, output)
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE) == 130
    printed = output.read_text()
    step = read_metrics(workdir)[-1]["step"]
    assert (
        f"stopped and saved at step {step} of 1000" in printed and f"--workdir={workdir}" in printed
    )
    assert "Traceback" not in printed
    assert state_of(workdir, step)
    if step <= 4:  # the same run as `finished`, but for its length
        assert_same_state(finished[0], workdir, step)


def test_a_full_disk_leaves_the_previous_checkpoint_good(finished, hf_folder, tmp_path):
    """The system refuses to let any file grow beyond 100 kB: the checkpoint of step 2 cannot be
    written."""
    workdir = tmp_path / "run"
    run_command(*train_command(hf_folder, workdir, "--config.steps=1"), check=True)
    env = os.environ | {"XLA_FLAGS": XLA_QUICK} | CACHE
    # It may read the cache of programs that others use, not write half a file there.
    env |= {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "1e9"}
    limited = subprocess.run(
        [sys.executable, "-m", *train_command(hf_folder, workdir)],
        cwd=ROOT,
        env=env,
        text=True,
        timeout=PATIENCE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)),
    )
    printed = limited.stdout
    assert limited.returncode == 2, printed
    # A thread of Orbax may add a traceback of its own.
    (error,) = (line for line in printed.splitlines() if line.startswith("error: "))
    assert error.startswith("error: the checkpoint of step 2 could not be written")
    assert "(File too large); the checkpoint of step 1 is complete" in error
    assert [p.name for p in (workdir / "checkpoints").iterdir()] == ["00000001"]
    run_command(*train_command(hf_folder, workdir), check=True)
    assert_same_state(finished[0], workdir, 4)


def test_resume_after_files_were_cut_off_and_refusal_of_other_questions(
    finished, hf_folder, tmp_path
):
    """A line of metrics.jsonl that was half written when the machine died; and a data file that
    changed."""
    rows, workdir = tmp_path / "rows.jsonl", tmp_path / "run"
    rows.write_text((hf_folder.parent / "rows.jsonl").read_text())
    own = [f"--config.data.train={rows}", "--config.data.eval="]
    run_command(*train_command(hf_folder, workdir, "--config.steps=1", *own), check=True)
    with (workdir / "metrics.jsonl").open("a") as file:
        file.write('{"step": 2, "rew')
    done = run_command(*train_command(hf_folder, workdir, "--config.steps=2", *own), check=True)
    assert [line["step"] for line in read_metrics(workdir)] == [0, 1, 2]
    assert_same_state(finished[0], workdir, 2)
    rows.write_text(rows.read_text().replace("How many", "How  many"))
    done = run_command(*train_command(hf_folder, workdir, *own))
    assert "was trained on different questions" in one_error(done)


def test_a_model_made_for_fewer_positions_is_refused(tmp_path):
    folder = make_hf_folder(tmp_path / "model", max_position_embeddings=100)
    done = run_command(*train_command(folder, tmp_path / "run"))
    assert "is 132: the model supports only 100 positions" in one_error(done)
    assert not (tmp_path / "run").exists()


def test_eight_devices_train_like_one(finished, hf_folder, tmp_path):
    """The same command on a mesh of eight: same answers and rewards, same weights but for the order
    of sums."""
    more = [
        "--config.mesh.data=2",
        "--config.mesh.fsdp=2",
        "--config.mesh.tensor=2",
        "--config.packing.rows_per_microbatch=4",
    ]
    run_command(
        *train_command(hf_folder, tmp_path / "run", *more),
        XLA_FLAGS=f"--xla_force_host_platform_device_count=8 {XLA_QUICK}",
        check=True,
    )
    ours, theirs = (read_metrics(w) for w in (finished[0], tmp_path / "run"))
    for name in ("reward/mean", "completions/mean_length", "entropy", "kl", "loss", "grad_norm"):
        assert ours[1][name] == pytest.approx(theirs[1][name], rel=2e-3, abs=1e-6), name
    again = run_command(
        *train_command(
            hf_folder, tmp_path / "run2", *more, "--config.packing.rows_per_microbatch=2"
        ),
        XLA_FLAGS="--xla_force_host_platform_device_count=8",
    )
    assert (
        "config.packing.rows_per_microbatch is 2: it must be a multiple of the 4 devices"
        in one_error(again)
    )


def test_workdir_of_another_config_is_refused_and_untouched(finished, hf_folder):
    workdir, _ = finished
    before = (workdir / "config.json").read_text(), (workdir / "metrics.jsonl").read_text()
    done = run_command(*train_command(hf_folder, workdir, "--config.rewards.self_aligned=0.3"))
    assert one_error(done) == (
        f"error: {workdir} holds a run with a different config "
        "(config.rewards.self_aligned: 0.2 there, 0.3 now): "
        "choose another --workdir, or use the old settings to continue"
    )
    assert before == (
        (workdir / "config.json").read_text(),
        (workdir / "metrics.jsonl").read_text(),
    )


@pytest.mark.parametrize(
    "flag, words",
    [
        ("--config.rewards.self_alinged=1", "self_alinged"),
        ("--config.optimizer.lr=fast", "config.optimizer.lr"),
        ("--config.rollout.max_answer_tokens=0", "config.rollout.max_answer_tokens is 0"),
        ("--config.rollout.slots=0", "config.rollout.slots is 0"),
        ("--config.rollout.temperature=-1", "config.rollout.temperature is -1.0"),
        ("--config.rollout.top_p=0", "config.rollout.top_p is 0.0"),
        (
            "--config.data.max_prompt_tokens=3",
            "all 40 prompts are longer than config.data.max_prompt_tokens = 3",
        ),
        ("--config.model.path=nowhere", "nowhere: no such folder"),
        ("--config.data.train=nowhere.jsonl", "nowhere.jsonl: no such file"),
        ("--config.data.train=nosuchset", "unknown data source 'nosuchset'"),
        ("--config.rollout.max_answer_tokens=400", "config.packing.row_tokens is 144"),
        ("--config.rewards.self_aligned=nan", "config.rewards.self_aligned is nan"),
        ("--config.mesh.fsdp=3", "does not multiply to the 1 devices"),
        ("--config=nowhere.py", "nowhere.py"),
        ("--cofnig.steps=3", "cofnig"),
        ("stray", "unexpected argument 'stray'"),
    ],
)
def test_bad_input_is_one_error_before_anything_is_made(hf_folder, tmp_path, flag, words):
    done = run_command(*train_command(hf_folder, tmp_path / "run", flag))
    assert words in one_error(done)
    assert not (tmp_path / "run").exists()


def test_own_jsonl_errors_name_file_and_line(hf_folder, tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text(
        '{"question": "1 + 1?", "answer": "2"}\n{"question": "2 + 2?", "answer": " "}\n'
    )
    done = run_command(*train_command(hf_folder, tmp_path / "run", f"--config.data.train={file}"))
    assert one_error(done) == f"error: {file}, line 2: the field 'answer' is empty"


def test_self_aligned_reward_alone_warns(hf_folder, tmp_path):
    done = run_command(
        *train_command(
            hf_folder,
            tmp_path / "run",
            "--config.rewards.verifiable=0",
            "--config.steps=1",
            "--config.self_aligned.adaptive=false",
            "--config.data.eval=",
        ),
        check=True,
    )
    assert "warning: rewards.verifiable is 0" in done.stdout and "collapses" in done.stdout
    assert read_metrics(tmp_path / "run")[1]["advantage_share/self_aligned"] == 1


def test_variants_all_at_once_train_with_finite_metrics(hf_folder, tmp_path):
    """What the default does not compute: whole answers' sums, the sampler's logps, a weight that
    rises and falls."""
    run_command(
        *train_command(
            hf_folder,
            tmp_path / "run",
            "--config.steps=2",
            "--config.advantage.estimator=leave_one_out",
            "--config.advantage.divide_by_std=true",
            "--config.loss.average=sequences",
            "--config.loss.ratio=sequence",
            "--config.loss.clip_low=3e-4",
            "--config.loss.clip_high=4e-4",
            "--config.loss.importance_cap=2",
            "--config.loss.kl_estimator=k2",
            "--config.self_aligned.form=log",
            "--config.self_aligned.cap=50",
            "--config.self_aligned.adaptive=false",
            "--config.self_aligned.peak_at=0.5",
        ),
        check=True,
    )
    lines = read_metrics(tmp_path / "run")
    assert all(math.isfinite(v) for line in lines for v in line.values())
    assert [line["alpha"] for line in lines[1:]] == [0.1, 0.1]  # at 1/4 and at 3/4 of the run
    assert (
        lines[1]["importance/weight"] == pytest.approx(1, abs=1e-3)
        and lines[1]["importance/capped"] == 0
    )
    assert lines[2]["compilations"] == 0 and lines[2]["grad_norm"] > 0


def test_real_gsm8k_rows_train_with_finite_metrics(tmp_path):
    """Real text of real lengths, from a JSONL file, in bfloat16; the baselines' rewards all at
    once."""
    folder = make_hf_folder(tmp_path / "model", max_position_embeddings=1024)
    data = real("gsm8k")
    rewards = [
        f"--config.rewards.{n}=0.1"
        for n in ("entropy_min", "o1_pruner", "efficient_reasoner", "length")
    ]
    done = run_command(
        *train_command(
            folder,
            tmp_path / "run",
            f"--config.data.train={data}/train.jsonl",
            f"--config.data.eval={data}/test.jsonl",
            "--config.data.max_prompt_tokens=400",
            "--config.rollout.max_answer_tokens=64",
            "--config.packing.row_tokens=512",
            "--config.packing.logprob_chunk=128",
            "--config.model.dtype=bfloat16",
            "--config.model.remat=true",
            "--config.steps=2",
            *rewards,
        ),
        check=True,
    )
    assert "left out because their prompts are longer than 400 tokens" in done.stdout
    lines = read_metrics(tmp_path / "run")
    assert len(lines) == 3
    assert all(math.isfinite(v) for line in lines for v in line.values())
    assert all(
        f"reward/{name}/mean" in lines[1]
        for name in (
            "verifiable",
            "self_aligned",
            "entropy_min",
            "o1_pruner",
            "efficient_reasoner",
            "length",
        )
    )


def test_the_evaluation_command_sees_in_a_workdir_what_training_saw(finished, tmp_path):
    """Of the last step, and of an earlier one: the same questions, the same figures."""
    workdir, _ = finished
    config = json.loads((workdir / "config.json").read_text())
    for step, more in ((4, []), (2, ["--step=2"])):
        output = tmp_path / str(step)
        run_command(
            "sar_jax.evaluate",
            f"--model={workdir}",
            f"--tasks={config['data']['eval']}:5",
            f"--output={output}",
            *more,
            check=True,
            XLA_FLAGS=XLA_QUICK,  # as in training: the same rounding
        )
        found = json.loads((output / "results.json").read_text())
        line = read_metrics(workdir)[step]
        assert found["model"]["step"] == step and found["decoding"]["max_answer_tokens"] == 12
        entry = found["tasks"]["test.jsonl"]
        for name in (
            "accuracy",
            "length",
            "length_correct",
            "length_unclipped",
            "clipped",
            "questions",
            "errors",
        ):
            assert entry[name] == line.get(f"eval/{name}"), name
        seen = pq.read_table(workdir / "samples" / f"eval_{step:06d}.parquet").to_pylist()
        answers = pq.read_table(output / "answers/test.jsonl.parquet").to_pylist()
        assert [a["answer"] for a in answers] == [s["answer"] for s in seen]


def test_questions_of_the_evaluation_set_are_not_trained_on(hf_folder, tmp_path):
    train, test = hf_folder.parent / "rows.jsonl", tmp_path / "test.jsonl"
    own = train_command(hf_folder, tmp_path / "run", f"--config.data.eval={test}")
    lines = train.read_text().splitlines()
    test.write_text("\n".join(lines[:3]).replace('?"', '? "'))  # the same but for white space
    done = run_command(
        *own,
        "--config.steps=1",
        "--config.evaluation.batch=2",
        "--config.data.eval_questions=1",
        check=True,
    )
    assert f" questions from {train}; 3 left out because they are in {test}" in done.stdout
    test.write_text(train.read_text())
    refused = run_command(
        *train_command(hf_folder, tmp_path / "run2", f"--config.data.eval={test}")
    )
    assert "every question is also in the evaluation set" in one_error(refused)
    assert not (tmp_path / "run2").exists()


def test_export_writes_the_step_that_was_asked_for(finished, hf_folder, tmp_path):
    from transformers import AutoModelForCausalLM

    workdir, _ = finished
    output = tmp_path / "hf"
    run_command(
        "sar_jax.export", f"--workdir={workdir}", "--step=3", f"--output={output}", check=True
    )
    norm = AutoModelForCausalLM.from_pretrained(output).model.norm.weight.detach().numpy()
    in_step = lambda step: any(
        x.shape == norm.shape and (x == norm).all() for x in state_of(workdir, step)
    )
    assert in_step(3) and not in_step(4)
    again = run_command("sar_jax.export", f"--workdir={workdir}", f"--output={output}")
    assert "not an empty folder" in one_error(again)
    missing = run_command(
        "sar_jax.export", f"--workdir={workdir}", "--step=9", f"--output={tmp_path / 'x'}"
    )
    assert "there are: 1, 2, 3, 4" in one_error(missing)


def test_export_in_another_dtype_and_in_shards_with_a_card(finished, hf_folder, tmp_path):
    from safetensors.numpy import load_file
    from transformers import AutoModelForCausalLM

    workdir, _ = finished
    outputs = {}
    for dtype in ("float32", "bfloat16"):
        outputs[dtype] = tmp_path / dtype
        done = run_command(
            "sar_jax.export",
            f"--workdir={workdir}",
            f"--output={outputs[dtype]}",
            f"--dtype={dtype}",
            "--max-shard-size=60KB",
            check=True,
        )
        assert dtype in done.stdout
        assert max(f.stat().st_size for f in outputs[dtype].glob("*.safetensors")) < 70_000
        assert str(AutoModelForCausalLM.from_pretrained(outputs[dtype]).dtype) == f"torch.{dtype}"
    read = lambda folder: {
        n: t for f in folder.glob("*.safetensors") for n, t in load_file(f).items()
    }
    whole, half = read(outputs["float32"]), read(outputs["bfloat16"])
    assert whole.keys() == half.keys() == load_file(hf_folder / "model.safetensors").keys()
    for name, tensor in whole.items():  # rounded once, from the float32 masters
        np.testing.assert_array_equal(tensor.astype(half[name].dtype), half[name])
    card = (outputs["bfloat16"] / "README.md").read_text()
    lines = read_metrics(workdir)
    for accuracy in (lines[0]["eval/accuracy"], lines[4]["eval/accuracy"]):
        assert f"| {100 * accuracy:.1f} |" in card
    assert '"max_answer_tokens": 12' in card and "self_aligned (weight 0.2)" in card


@pytest.mark.parametrize(
    "options, words",
    [
        (["--dtype=int8"], "--dtype is 'int8'"),
        (["--max-shard-size=big"], "--max-shard-size is 'big'"),
    ],
)
def test_export_refuses_options_that_cannot_be(finished, tmp_path, options, words):
    done = run_command(
        "sar_jax.export", f"--workdir={finished[0]}", f"--output={tmp_path / 'x'}", *options
    )
    assert words in one_error(done)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("family", ["phi3", "gemma3_text"])
def test_other_families_train_and_come_back(family, tmp_path):
    """Two steps in bfloat16 with a reference, drawn from weights and a cache of eight bits, then
    export: finite metrics, tokens weighed by what the rounding changed, a folder that
    `transformers` loads."""
    from transformers import AutoModelForCausalLM

    folder = make_hf_folder(tmp_path / "model", family=family)
    workdir = tmp_path / "run"
    run_command(
        *train_command(
            folder,
            workdir,
            "--config.steps=2",
            "--config.model.dtype=bfloat16",
            "--config.model.remat=true",
            "--config.rollout.weights_dtype=int8",
            "--config.rollout.cache_dtype=int8",
            "--config.loss.importance_cap=2",
        ),
        check=True,
    )
    lines = read_metrics(workdir)
    assert (
        0
        < abs(lines[1]["importance/weight"] - 1)
        < 0.05
        < 0.3
        > lines[1]["sampling/logp_difference/max"]
        > 1e-4
    )
    assert len(lines) == 3 and all(math.isfinite(v) for line in lines for v in line.values())
    assert lines[2]["compilations"] == 0
    output = tmp_path / "hf"
    run_command("sar_jax.export", f"--workdir={workdir}", f"--output={output}", check=True)
    assert AutoModelForCausalLM.from_pretrained(output).config.model_type == family


@pytest.mark.parametrize(
    "command, words",
    [
        (["sar_jax.export"], "both --workdir and --output are required"),
        (
            ["sar_jax.export", "--workdir=nowhere", "--output=x"],
            "not the workdir of a training run",
        ),
        (["sar_jax.explain", "--model=nowhere"], "--input is missing"),
        (["sar_jax.evaluate", "--model=nowhere", "--output=x"], "--tasks is missing"),
        (
            ["sar_jax.explain", "--model=nowhere", "--input=nowhere.jsonl", "--output=x.jsonl"],
            "nowhere.jsonl: no such file",
        ),
    ],
)
def test_other_commands_name_what_is_missing(command, words):
    done = run_command(*command)
    assert words in one_error(done)


@pytest.mark.parametrize("command", ["train", "pretrain", "export", "explain", "evaluate", "plan"])
def test_help(command):
    done = run_command(f"sar_jax.{command}", "--help")
    assert f"python -m sar_jax.{command}" in done.stdout and "Traceback" not in done.stderr


def test_a_command_that_the_tests_fork_is_what_the_system_starts():
    real, forked = (run_command("sar_jax.train", "--help", real=real) for real in (True, False))
    assert (forked.returncode, forked.stdout, forked.stderr) == (
        real.returncode,
        real.stdout,
        real.stderr,
    )
