"""The self-aligned reward of given answers, token by token, so that anyone can check it by hand.

    python -m sar_jax.explain --model=HF_DIR|WORKDIR --input=answers.jsonl --output=scored.jsonl
                              [--config=FILE]

Reads lines {"question", "answer", optional "id"} and writes, for each, its fields and

    ppl_conditional   exp(-mean_j log P(a_j | q, a_<j))            over the answer and its EOS
    ppl_standalone    exp(-mean_j log P(a_j | a_<j))               in place of the question
    self_aligned      clip((ppl_standalone - ppl_conditional) / ppl_standalone, -1, 1)
    tokens            the answer's pieces as text
    token_values      v_j = log P(a_j | q, a_<j) - log P(a_j | a_<j), in nats

through the same `score` as training. A workdir brings its own prompt and dtype, an exported model
its prompt; for another folder they come from --config, or are the defaults (in float32). The
command prints which prompt it used.
"""

import datetime
import json
import pathlib
from typing import Any

import jax
import numpy as np
from absl import flags
from transformers import PreTrainedTokenizerBase

from sar_jax import cli, files
from sar_jax import config as config_lib
from sar_jax.errors import UserError
from sar_jax.model.network import Network
from sar_jax.model.parameters import ModelConfig, Params
from sar_jax.parallel import backend, sharding
from sar_jax.rl import packing, rewards
from sar_jax.text import prompts
from sar_jax.text.tasks import jsonl
from sar_jax.training import score
from sar_jax.training import trained as trained_lib

_MODEL = flags.DEFINE_string(
    "model",
    None,
    "A Hugging Face folder, or a training run's workdir, whose latest step is used.",
)
_INPUT = flags.DEFINE_string("input", None, "JSONL file with question and answer on each line.")
_OUTPUT = flags.DEFINE_string("output", None, "JSONL file to write; it must not exist yet.")
_BATCH_ROWS = 4
_WIDTH = 128  # rows are as wide as the longest answer needs, rounded up to this


def explain(
    rows: list[dict[str, Any]],
    params: Params,
    cfg: ModelConfig,
    tokenizer: PreTrainedTokenizerBase,
    config: config_lib.TrainConfig,
    day: datetime.date | None = None,
) -> list[dict[str, Any]]:
    """The rows with their scores.

    rows   dicts with question and answer; an answer is tokenised here, and ended as the model would
           end it
    day    that a template is told which asks for the date; by default today's
    """
    prompter = prompts.Prompter(tokenizer, config.prompt, vocab_size=cfg.vocab_size, day=day)
    answers = [prompter.answer(row["answer"]) for row in rows]
    contexts = [prompter.prompt(row["question"]) for row in rows]
    given, alone = _token_logps(
        params, cfg, config, answers, [contexts, [prompter.standalone] * len(rows)]
    )
    column = lambda values: np.array([[x.mean(dtype=np.float64)] for x in values])
    lengths = np.array([[len(a)] for a in answers])
    signals = rewards.Signals(
        correct=np.zeros_like(lengths, bool),
        lengths=lengths,
        mean_logp=column(given),
        mean_logp_alone=column(alone),
        max_length=int(lengths.max()),
    )
    reward = rewards.self_aligned(signals)
    return [
        {
            **row,
            "ppl_conditional": float(np.exp(-signals.mean_logp[i, 0])),
            "ppl_standalone": float(np.exp(-signals.mean_logp_alone[i, 0])),
            "self_aligned": float(reward[i, 0]),
            "tokens": [tokenizer.decode([t]) for t in answers[i]],
            "token_values": [float(v) for v in given[i] - alone[i]],
        }
        for i, row in enumerate(rows)
    ]


def _token_logps(
    params: Params,
    cfg: ModelConfig,
    config: config_lib.TrainConfig,
    answers: list[list[int]],
    kinds: list[list[list[int]]],
) -> list[list[np.ndarray]]:
    """For each kind of contexts, the logprobs of each answer's tokens after its context."""
    mesh = jax.tree.leaves(params)[0].sharding.mesh
    rows = _BATCH_ROWS * jax.device_count()
    longest = max(len(c) + len(a) for kind in kinds for c, a in zip(kind, answers))
    width = -(-longest // _WIDTH) * _WIDTH
    network = Network.of(config.model, cfg, mesh)
    scorer = score.make_score(network, config.packing.logprob_chunk)
    found = []
    with jax.set_mesh(mesh):
        for contexts in kinds:
            packed, layout = packing.pack(contexts, answers, width, rows)
            parts = [
                scorer(params, sharding.place(part, sharding.by_rows(mesh))).logps
                for part in packing.microbatches(packed, rows)
            ]
            found.append(packing.from_grid(np.concatenate(jax.device_get(parts)), layout))
    return found


def main(get_config) -> None:
    for name, flag in (("model", _MODEL), ("input", _INPUT), ("output", _OUTPUT)):
        if not flag.value:
            raise UserError(f"--{name} is missing (see --help)")
    output = pathlib.Path(_OUTPUT.value)
    if output.exists():
        raise UserError(f"{output} exists: nothing is overwritten, choose another --output")
    rows = jsonl.read(_INPUT.value, ("question", "answer"))
    config = get_config() if flags.FLAGS["config"].present else None
    if config is not None and trained_lib.is_workdir(_MODEL.value):
        raise UserError(f"{_MODEL.value} is a workdir with a config of its own: leave out --config")
    found = trained_lib.locate(_MODEL.value, config, _default_config())
    print(found.told(), flush=True)
    backend.open_backend()
    params = trained_lib.load_params(found, sharding.make_mesh(1, -1, 1), "float32")
    scored = explain(rows, params, found.cfg, found.tokenizer, found.config, found.day)
    output.parent.mkdir(parents=True, exist_ok=True)
    files.write_atomically(output, "".join(json.dumps(row) + "\n" for row in scored))
    mean = float(np.mean([row["self_aligned"] for row in scored]))
    print(f"{len(scored)} answers, mean self-aligned reward {mean:.4f}; wrote {output}")


def _default_config() -> config_lib.TrainConfig:
    config = config_lib.TrainConfig()
    config.model.dtype = "float32"
    return config


if __name__ == "__main__":
    get_config = cli.config_flag(config_lib.TrainConfig)
    cli.run(lambda: main(get_config), __doc__)
