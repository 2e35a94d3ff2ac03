"""The tiny model that comes with the package, and `explain` on what it answers."""

import importlib.resources
import json
import pathlib

import jax
import numpy as np
import pytest
from support.commands import one_error, run_command
from support.models import Loaded
from support.rollouts import make_tools
from support.training import shipped, write_lines

from sar_jax import config as config_lib
from sar_jax.evaluation import judged
from sar_jax.rollout import sampler
from sar_jax.text import prompts
from sar_jax.text.tasks import arithmetic
from sar_jax.training import experience
from sar_jax.training import questions as questions_lib

TINY = pathlib.Path(str(importlib.resources.files("sar_jax") / "assets/tiny"))


@pytest.fixture(scope="module")
def tiny(mesh) -> Loaded:
    return Loaded(TINY, mesh)


def test_the_tiny_model_is_small_and_has_learnt_its_task(tiny, verifier):
    assert sum(f.stat().st_size for f in TINY.iterdir()) <= 3_000_000
    config = shipped("tiny")
    prompter = prompts.Prompter(tiny.tokenizer, config.prompt)
    rows, _ = questions_lib.prepare(arithmetic.Arithmetic("test"), prompter, 80, "arithmetic", 64)
    greedy = sampler.Sample(tiny.network, tiny.stop, 1, 96, greedy=True)
    decoder = judged.Decoder(greedy, 1, 64, 80, tiny.tokenizer, verifier)
    result, _ = judged.greedy_evaluation(decoder, tiny.params, rows)
    assert result.accuracy > 0.8 and result.clipped == 0


def test_explain_gives_an_answer_the_reward_that_training_gave_it(tiny, verifier, tmp_path):
    config = shipped("tiny")
    config.rollout = config_lib.Rollout(questions=4, samples=4, slots=16, max_answer_tokens=96)
    config.loss.minibatch_questions = 4
    prompter = prompts.Prompter(tiny.tokenizer, config.prompt)
    tools = make_tools(tiny, config, prompter, verifier)
    rows, _ = questions_lib.prepare(arithmetic.Arithmetic("train"), prompter, 80, "arithmetic", 4)
    samples = experience.collect(tools, lambda: rows, tiny.params, None, jax.random.key(0)).records
    # An answer can be scored again from its text if its text has the same ids.
    kept = [
        s for s in samples if not s["clipped"] and len(prompter.answer(s["answer"])) == s["length"]
    ]
    assert len(kept) > 8
    write_lines(
        tmp_path / "in.jsonl",
        (
            {"id": f"a{i}", "question": s["question"], "answer": s["answer"]}
            for i, s in enumerate(kept)
        ),
    )
    done = run_command(
        "sar_jax.explain",
        f"--model={TINY}",
        "--config=configs/tiny.py",
        f"--input={tmp_path / 'in.jsonl'}",
        f"--output={tmp_path / 'out.jsonl'}",
        f"--html={tmp_path / 'out.html'}",
        "--show=2",
        check=True,
    )
    assert done.stdout.count("R_SA ") == 2
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines] == [f"a{i}" for i in range(len(kept))]
    for line, s in zip(lines, kept):
        for ours, theirs in (
            ("ppl_conditional", "ppl_conditional"),
            ("ppl_standalone", "ppl_standalone"),
            ("self_aligned", "reward/self_aligned"),
        ):
            assert line[ours] == pytest.approx(s[theirs], rel=1e-3, abs=1e-5)
        assert len(line["token_values"]) == len(line["tokens"]) == s["length"]
        assert line["self_aligned"] == pytest.approx(
            np.clip(1 - np.exp(-np.mean(line["token_values"])), -1, 1), abs=1e-6
        )
        assert "".join(line["tokens"]).startswith(s["answer"])
        alone = np.array(line["token_logps_standalone"])
        np.testing.assert_allclose(line["token_logps"], alone + line["token_values"], atol=1e-5)
    data = (tmp_path / "out.html").read_text().partition('id="data">')[2].partition("<")[0]
    for shown, line in zip(json.loads(data)["answers"], lines, strict=True):
        assert shown["tokens"] == line["tokens"] and shown["id"] == line["id"]
        np.testing.assert_allclose(shown["token_values"], line["token_values"], atol=1e-4)
    again = run_command(
        "sar_jax.explain",
        f"--model={TINY}",
        f"--input={tmp_path / 'in.jsonl'}",
        f"--output={tmp_path / 'out.jsonl'}",
    )
    assert "nothing is overwritten" in one_error(again)


def test_filler_earns_less_than_the_same_answer_without_it(tiny):
    """The reward's point, on the model that ships: padding dilutes what the question explains."""
    from sar_jax.training.commands.explained import explain

    source, rows = arithmetic.Arithmetic("test"), []
    for i in range(40):
        example = source[i]
        bare = (
            ". ".join(
                p.rstrip(".") for p in example.solution.split(". ") if "=" in p or "answer" in p
            )
            + "."
        )
        if bare != example.solution:
            rows += [{"question": example.question, "answer": a} for a in (example.solution, bare)]
    scored = explain(rows, tiny.params, tiny.cfg, tiny.tokenizer, shipped("tiny"))
    gains = [
        bare["self_aligned"] - padded["self_aligned"]
        for padded, bare in zip(scored[::2], scored[1::2])
    ]
    assert len(gains) > 20 and np.mean([g > 0 for g in gains]) > 0.95
