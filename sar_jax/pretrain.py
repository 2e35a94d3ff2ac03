"""Supervised next-token training on worked answers.

    python -m sar_jax.pretrain --config=configs/tiny_pretrain.py --output=HF_DIR

For the tiny model from scratch, or a cold start of your own. Rows need a "solution" (JSONL:
question, answer, solution). With `model.path` empty, a Qwen3 model and its tokenizer are made from
scratch; otherwise the folder's model learns from these answers. The result is a Hugging Face
folder. The same seed, data and number of devices give the same file.
"""

import dataclasses
import json
import math
import pathlib
import random
import tempfile
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import flags
from jax.sharding import Mesh
from transformers import PreTrainedTokenizerBase

from sar_jax import cli
from sar_jax import config as config_lib
from sar_jax.errors import UserError
from sar_jax.evaluation import judged
from sar_jax.evaluation.records import Result
from sar_jax.model import download, families, hf, parameters
from sar_jax.model.network import Network
from sar_jax.model.parameters import ModelConfig, Params
from sar_jax.parallel import backend, compiled, progress, sharding
from sar_jax.rl import packing
from sar_jax.rollout import shapes as shapes_lib
from sar_jax.rollout.sampler import Sample
from sar_jax.text import carried, prompts, tasks
from sar_jax.text.answers.verifier import Verifier
from sar_jax.text.tokenizer import train_tokenizer
from sar_jax.training import checks, exported, learner
from sar_jax.training import questions as questions_lib
from sar_jax.training.own import families as own_families

_TOKENIZER_ROWS = 10_000
_EXAMPLE_BYTES = 100  # of a worked answer in a batch on the host, at least


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
class WorkedAnswers(Sequence):
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


class Kept(NamedTuple):
    """The worked answers that fit, and how many solutions were too long."""

    worked: WorkedAnswers
    left_out: int


def worked_answers(
    rows: list[prompts.Question], prompter: prompts.Prompter, config: config_lib.PretrainConfig
) -> Kept:
    """The rows with their solutions tokenised. Raises `UserError` where there is none."""
    for row in rows:
        if not row.example.solution:
            raise UserError(
                f'{config.data.train}: row {row.example.id} has no "solution" to learn from'
            )
    kept, answers = [], []
    for row, ids in zip(rows, prompter.answers([row.example.solution for row in rows])):
        if len(ids) <= config.max_answer_tokens:
            kept.append(row)
            answers.append(ids)
    if not kept:
        raise UserError(
            f"{config.data.train}: every solution is longer than config.max_answer_tokens = "
            f"{config.max_answer_tokens}"
        )
    worked = WorkedAnswers(
        kept, answers, prompter.standalone, config.empty_question_fraction, config.seed
    )
    return Kept(worked, len(rows) - len(kept))


class Start(NamedTuple):
    """What is trained: a folder's model, or one from scratch. folder: None for that."""

    folder: str | None
    raw: dict[str, Any]  # config.json
    tokenizer: PreTrainedTokenizerBase
    cfg: ModelConfig
    prompter: prompts.Prompter


def start(config: config_lib.PretrainConfig, source: tasks.Source) -> Start:
    """Everything of the model but its weights. Raises `UserError` where its files are at fault."""
    longest = config.data.max_prompt_tokens + config.max_answer_tokens
    if config.model.path:
        folder = download.locate(config.model.path)
        raw, tokenizer = hf.read_json(folder, "config.json"), prompts.load_tokenizer(folder)
        own_families.use(config.model.families)
        cfg, named = hf.load_config(folder, longest), hf.read_stop_ids(folder)
    else:
        folder, tokenizer = None, make_tokenizer(source, config)
        raw, named = make_config_json(config.architecture, tokenizer), []
        cfg = families.parse(raw, longest)
    checks.check_positions(config, cfg.max_positions)
    prompter = prompts.Prompter(tokenizer, config.prompt, named, cfg.vocab_size)
    return Start(folder, raw, tokenizer, cfg, prompter)


def _check_memory(config: config_lib.PretrainConfig, network: Network, mesh: Mesh) -> None:
    """Raises `UserError` where a batch, or the weights and two moments, cannot be in memory."""
    shapes_lib.check_microbatch(config.packing, network, mesh)
    if config.batch_examples * _EXAMPLE_BYTES > shapes_lib.host_bytes():
        raise UserError(
            f"config.batch_examples is {config.batch_examples}: the host cannot hold this many"
        )
    is_spec = lambda s: isinstance(s, parameters.ParamSpec)
    specs = jax.tree.leaves(parameters.param_specs(network.cfg), is_leaf=is_spec)
    count = sum(math.prod(spec.shape) for spec in specs)
    needed, available = 3 * 4 * count, shapes_lib.device_bytes(mesh) * mesh.size
    if needed > available:
        raise UserError(
            f"a model of {count / 1e9:.1f} billion parameters needs {needed / 2**30:.0f} GiB to be "
            f"trained, and all devices together have {available / 2**30:.0f} GiB"
        )


def _load_params(config: config_lib.PretrainConfig, begun: Start, mesh: Mesh) -> Params:
    """The weights to begin with, in float32."""
    cfg = begun.cfg
    shardings = sharding.param_shardings(parameters.param_specs(cfg), mesh)
    if begun.folder:
        return hf.load_params(begun.folder, cfg, shardings)
    init = jax.jit(lambda key: parameters.init_params(cfg, key), out_shardings=shardings)
    return init(jax.random.key(config.seed))


def train(config: config_lib.PretrainConfig, output: pathlib.Path) -> dict[str, Any]:
    """Trains and writes the folder.

    Returns the last loss and, where `data.eval` is given, the evaluation's result.
    """
    mesh = sharding.make_mesh(**dataclasses.asdict(config.mesh))
    sharding.check_rows(mesh, packing__rows_per_microbatch=config.packing.rows_per_microbatch)
    source = tasks.load(config.data.train, "train", questions_lib.columns(config.data))
    begun = start(config, source)
    data, prompter = config.data, begun.prompter
    network = Network.of(config.model, begun.cfg, mesh)
    _check_memory(config, network, mesh)
    params = _load_params(config, begun, mesh)
    fitting = questions_lib.prepare(source, prompter, data.max_prompt_tokens, data.train)
    kept = worked_answers(fitting.rows, prompter, config)
    print(
        f"{len(kept.worked)} worked answers; left out: {fitting.left_out} with a long prompt, "
        f"{kept.left_out} with a long answer"
    )
    eval_rows = []
    if data.eval:  # read now: a mistake there must not cost the training
        test = tasks.load(data.eval, "test", questions_lib.columns(data))
        eval_rows = questions_lib.prepare(
            test, prompter, data.max_prompt_tokens, data.eval, data.eval_questions
        ).rows
    with jax.set_mesh(mesh):
        fitted = _fit(config, network, params, kept.worked, mesh)
        exported.write_folder(
            fitted.params,
            begun.cfg,
            output,
            begun.tokenizer,
            begun.raw,
            source=begun.folder,
            asked=carried.Carried(
                config.prompt,
                data.max_prompt_tokens,
                config.max_answer_tokens,
                list(prompter.stops),
                prompter.day if prompter.asks_day else None,
            ),
        )
        print(f"wrote {output}", flush=True)
        if not eval_rows:
            return {"loss": fitted.loss}
        result = _evaluate(config, begun, network, fitted.params, eval_rows)
        return {"loss": fitted.loss, **dataclasses.asdict(result)}


def _evaluate(
    config: config_lib.PretrainConfig,
    begun: Start,
    network: Network,
    params: Params,
    rows: list[prompts.Question],
) -> Result:
    greedy = Sample(
        network,
        begun.prompter.decoder_stops,
        1,
        config.max_answer_tokens,
        greedy=True,
        slots=min(config.eval_batch, len(rows)),
        ended=begun.prompter.stopping.length if config.prompt.stop else None,
    )
    limits = config_lib.Verification()
    with Verifier(limits.workers, limits.timeout) as verifier:
        decoder = judged.Decoder(
            greedy,
            samples=1,
            batch=config.eval_batch,
            width=config.data.max_prompt_tokens,
            tokenizer=begun.tokenizer,
            verifier=verifier,
            prefix=config.prompt.assistant_prefix,
        )
        return judged.greedy_evaluation(decoder, params, rows)[0]


class Fitted(NamedTuple):
    """The parameters after all updates, and the last reported loss."""

    params: Params
    loss: float


def _fit(
    config: config_lib.PretrainConfig,
    network: Network,
    params: Params,
    worked: WorkedAnswers,
    mesh: Mesh,
) -> Fitted:
    """The training loop."""
    rows = config.packing.rows_per_microbatch
    decayed = parameters.decays(parameters.param_specs(network.cfg))
    optimizer = learner.make_optimizer(config.optimizer, config.steps, decayed)
    state = learner.init_state(params, optimizer)
    loss_fn = learner.make_supervised_loss(network, config.packing.logprob_chunk)
    update = learner.make_update(state, optimizer, loss_fn)
    batches = questions_lib.batches(worked, config.batch_examples, config.seed)
    losses, tokens, positions, begin = [], 0, 0, time.perf_counter()
    with progress.bar("training", "steps", config.steps) as bar:
        for step in range(1, config.steps + 1):
            batch = next(batches)
            contexts, answers = [p for p, _ in batch], [a for _, a in batch]
            width, narrowest = config.packing.row_tokens, config.packing.narrowest
            packed, _ = packing.pack(contexts, answers, width, rows, narrowest)
            micro = packing.microbatches(packed, rows, narrowest)
            micro = [sharding.place(part, sharding.by_rows(mesh)) for part in micro]
            state, metrics = update(state, micro, 1 / float(packed.mask.sum()))
            losses.append(metrics["loss"])
            tokens += int((packed.segment_ids > 0).sum())
            positions += sum(part.tokens.size for part in micro)
            bar.advance()
            if step % config.log_every_steps == 0 or step == config.steps:
                loss = float(np.mean(jax.device_get(losses)))
                speed = tokens / (time.perf_counter() - begin)
                bar.tell(f"loss {loss:.4f}, {speed:.0f} tokens/s")
                filled = f"rows {100 * tokens / positions:.0f}% full"
                print(f"step {step}  loss {loss:.4f}  {speed:.0f} tokens/s  {filled}", flush=True)
                losses = []
    return Fitted(state.params, loss)


def main(get_config) -> None:
    config = get_config()
    checks.check_pretrain(config)
    output = pathlib.Path(flags.FLAGS.output or tempfile.mkdtemp(prefix="sar_jax_pretrain_"))
    exported.check_output(output)
    backend.open_backend()
    print(
        f"sar_jax.pretrain on {jax.device_count()} {jax.devices()[0].device_kind} device(s)",
        flush=True,
    )
    compiled.keep(flags.FLAGS.compilation_cache)
    print(json.dumps(train(config, output)))


if __name__ == "__main__":
    flags.DEFINE_string(
        "output", None, "Folder to write the model to; it must not hold anything yet."
    )
    flags.DEFINE_string("compilation_cache", None, compiled.OPTION)
    get_config = cli.config_flag(config_lib.PretrainConfig)
    cli.run(lambda: main(get_config), __doc__)
