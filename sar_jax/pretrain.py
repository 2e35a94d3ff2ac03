"""Supervised next-token training on worked answers: the tiny model from scratch, or a cold start of
your own.

    python -m sar_jax.pretrain --config=configs/tiny_pretrain.py --output=HF_DIR

Rows need a "solution" (JSONL: question, answer, solution). With `model.path` empty, a Qwen3 model
and its tokenizer are made from scratch; otherwise the folder's model goes on learning. The result
is a Hugging Face folder. The same seed, data and number of devices give the same file."""

import dataclasses
import json
import pathlib
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from absl import flags
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from sar_jax import checks, cli, export
from sar_jax import config as config_lib
from sar_jax.errors import UserError
from sar_jax.evaluation import judged
from sar_jax.model import download, families, hf, parameters
from sar_jax.model import network as network_lib
from sar_jax.parallel import sharding
from sar_jax.rl import packing
from sar_jax.rollout import sampler
from sar_jax.text import prompts, tasks
from sar_jax.text.answers.verifier import Verifier
from sar_jax.text.tokenizer import train_tokenizer
from sar_jax.training import learner
from sar_jax.training import questions as questions_lib

_OUTPUT = flags.DEFINE_string(
    "output", None, "Folder to write the model to; it must not hold anything yet."
)
_TOKENIZER_ROWS = 10_000


def make_tokenizer(source: tasks.Source, config: config_lib.PretrainConfig):
    """A tokenizer for the source's text and the prompt around it."""
    around = f"system\n{config.prompt.system}\nuser\n{config.prompt.instruction}\nassistant\n"
    texts = []
    for i in range(min(len(source), _TOKENIZER_ROWS)):
        texts += [source[i].question, source[i].solution, around]
    return train_tokenizer(texts, config.architecture.vocab_size, config.architecture.max_positions)


def make_config_json(
    arch: config_lib.Architecture, tokenizer: PreTrainedTokenizerBase
) -> dict[str, Any]:
    """config.json of a Qwen3 model from scratch."""
    return families.qwen3_json(
        num_hidden_layers=arch.num_layers,
        hidden_size=arch.embed_dim,
        num_attention_heads=arch.num_heads,
        num_key_value_heads=arch.num_kv_heads,
        head_dim=arch.head_dim,
        intermediate_size=arch.ffw_dim,
        vocab_size=len(tokenizer),
        rope_theta=arch.rope_theta,
        max_position_embeddings=arch.max_positions,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


@dataclasses.dataclass(frozen=True)
class WorkedAnswers:
    """A random-access source of (prompt ids, answer ids); grain shuffles and batches it."""

    rows: Sequence[prompts.Question]
    answers: Sequence[list[int]]
    standalone: list[int]
    empty_question_fraction: float
    seed: int

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Sequence[int], list[int]]:
        alone = random.Random(f"{self.seed}/{index}").random() < self.empty_question_fraction
        return (self.standalone if alone else self.rows[index].prompt), self.answers[index]


def worked_answers(
    rows: list[prompts.Question],
    prompter: prompts.Prompter,
    config: config_lib.PretrainConfig,
) -> tuple[WorkedAnswers, int]:
    """The rows with their solutions tokenised, and how many solutions were too long. Raises
    `UserError`."""
    kept, answers = [], []
    for row in rows:
        if not row.example.solution:
            raise UserError(
                f'{config.data.train}: row {row.example.id} has no "solution" to learn from'
            )
        ids = prompter.answer(row.example.solution)
        if len(ids) <= config.max_answer_tokens:
            kept.append(row)
            answers.append(ids)
    if not kept:
        raise UserError(
            f"{config.data.train}: every solution is longer than config.max_answer_tokens = "
            f"{config.max_answer_tokens}"
        )
    return WorkedAnswers(
        kept, answers, prompter.standalone, config.empty_question_fraction, config.seed
    ), len(rows) - len(kept)


def train(config: config_lib.PretrainConfig, output: pathlib.Path) -> dict[str, Any]:
    """Trains and writes the folder; returns the evaluation's result, or the last loss without
    one."""
    mesh = sharding.make_mesh(**dataclasses.asdict(config.mesh))
    sharding.check_rows(mesh, packing__rows_per_microbatch=config.packing.rows_per_microbatch)
    source = tasks.load(config.data.train, "train")
    folder = download.locate(config.model.path) if config.model.path else None
    longest = config.data.max_prompt_tokens + config.max_answer_tokens
    if folder:
        raw, tokenizer = hf.read_json(folder, "config.json"), prompts.load_tokenizer(folder)
        cfg, named = hf.load_config(folder, longest), hf.read_stop_ids(folder)
    else:
        tokenizer = make_tokenizer(source, config)
        raw, named = make_config_json(config.architecture, tokenizer), []
        cfg = families.parse(raw, longest)
    graphdef = network_lib.build(
        cfg,
        config.model.dtype,
        config.model.remat,
        network_lib.pick_kernel(config.model, cfg, mesh),
    )
    shardings = sharding.param_shardings(parameters.param_specs(cfg), mesh)
    if folder:
        params = hf.load_params(folder, cfg, shardings)
    else:
        params = jax.jit(lambda key: parameters.init_params(cfg, key), out_shardings=shardings)(
            jax.random.key(config.seed)
        )
    prompter = prompts.Prompter(tokenizer, config.prompt, named)
    rows, long_prompts = questions_lib.prepare(
        source, prompter, config.data.max_prompt_tokens, config.data.train
    )
    worked, long_answers = worked_answers(rows, prompter, config)
    print(
        f"{len(worked)} worked answers; left out: {long_prompts} with a long prompt, {long_answers} with a long answer"
    )
    eval_rows = []
    if config.data.eval:  # read now: a mistake there must not cost the training
        eval_rows, _ = questions_lib.prepare(
            tasks.load(config.data.eval, "test"),
            prompter,
            config.data.max_prompt_tokens,
            config.data.eval,
            config.data.eval_questions,
        )
    with jax.set_mesh(mesh):
        params, loss = _fit(config, graphdef, cfg, params, worked, mesh)
        export.write_folder(params, cfg, output, tokenizer, raw, source=folder)
        print(f"wrote {output}", flush=True)
        if not eval_rows:
            return {"loss": loss}
        greedy = sampler.make_sample(
            graphdef,
            prompter.stops,
            1,
            config.max_answer_tokens,
            greedy=True,
            slots=config.eval_batch,
        )
        limits = config_lib.Verification()
        with Verifier(limits.workers, limits.timeout) as verifier:
            result, _ = judged.greedy_evaluation(
                greedy,
                params,
                eval_rows,
                config.eval_batch,
                config.data.max_prompt_tokens,
                tokenizer,
                verifier,
            )
        return {"loss": loss, **dataclasses.asdict(result)}


def _fit(config, graphdef, cfg, params, worked, mesh) -> tuple[parameters.Params, float]:
    """The training loop: the parameters after `config.steps` updates, and the last reported
    loss."""
    packing_cfg = config.packing
    optimizer = learner.make_optimizer(config.optimizer, config.steps, parameters.decayed(cfg))
    state = learner.init_state(params, optimizer)
    update = learner.make_update(
        state, optimizer, learner.make_supervised_loss(graphdef, packing_cfg.logprob_chunk)
    )
    batches, losses, start = (
        questions_lib.batches(worked, config.batch_examples, config.seed),
        [],
        time.perf_counter(),
    )
    tokens = 0
    bar = tqdm(range(1, config.steps + 1), unit="step", disable=None, file=sys.stdout)
    for step in bar:
        batch = next(batches)
        packed, _ = packing.pack(
            [p for p, _ in batch],
            [a for _, a in batch],
            packing_cfg.row_tokens,
            packing_cfg.rows_per_microbatch,
        )
        micro = packing.microbatches(packed, packing_cfg.rows_per_microbatch)
        state, metrics = update(
            state,
            [sharding.place(m, sharding.by_rows(mesh)) for m in micro],
            1 / float(packed.mask.sum()),
        )
        losses.append(metrics["loss"])
        tokens += int((packed.segment_ids > 0).sum())
        if step % config.log_every_steps == 0 or step == config.steps:
            loss = float(np.mean(jax.device_get(losses)))
            bar.set_postfix(
                loss=f"{loss:.4f}", tokens_per_second=int(tokens / (time.perf_counter() - start))
            )
            if bar.disable:
                print(
                    f"step {step}  loss {loss:.4f}  {tokens / (time.perf_counter() - start):.0f} tokens/s",
                    flush=True,
                )
            losses = []
    return state.params, loss


def main(get_config) -> None:
    config = get_config()
    checks.check_pretrain(config)
    output = pathlib.Path(_OUTPUT.value or tempfile.mkdtemp(prefix="sar_jax_pretrain_"))
    export.check_output(output)
    print(
        f"sar_jax.pretrain on {jax.device_count()} {jax.devices()[0].device_kind} device(s)",
        flush=True,
    )
    print(json.dumps(train(config, output)))


if __name__ == "__main__":
    get_config = cli.config_flag(config_lib.PretrainConfig)
    cli.run(lambda: main(get_config), __doc__)
