"""Supervised next-token training on worked answers.

    python -m sar_jax.pretrain --config=configs/tiny_pretrain.py --output=HF_DIR

For the tiny model from scratch, or a cold start of your own. Rows need a "solution" (JSONL:
question, answer, solution). With `model.path` empty, a Qwen3 model and its tokenizer are made from
scratch; otherwise the folder's model learns from these answers. The result is a Hugging Face
folder. The same seed, data and number of devices give the same file.

Ctrl-C, SIGTERM or the end of the terminal stop it after an update, and the same command goes on:
until HF_DIR is written, HF_DIR.unfinished holds checkpoints (--config.checkpoint.every_steps).
"""

import dataclasses
import json
import math
import pathlib
import tempfile
from typing import Any, NamedTuple

import jax
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
from sar_jax.parallel import backend, compiled, multihost, sharding
from sar_jax.rollout import shapes as shapes_lib
from sar_jax.rollout.sampler import Sample
from sar_jax.text import carried, prompts, tasks
from sar_jax.text.answers.verifier import Verifier
from sar_jax.text.tokenizer import train_tokenizer
from sar_jax.training import questions as questions_lib
from sar_jax.training import stopping
from sar_jax.training.commands import exported, supervised
from sar_jax.training.commands.unfinished import Unfinished
from sar_jax.training.own import families as own_families
from sar_jax.training.settings import checks
from sar_jax.training.storage import identity
from sar_jax.training.storage import workdir as workdir_lib

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


class Start(NamedTuple):
    """What is trained: a folder's model, or one from scratch. folder: None for that."""

    folder: str | None
    raw: dict[str, Any]  # config.json
    tokenizer: PreTrainedTokenizerBase
    cfg: ModelConfig
    prompter: prompts.Prompter


def start(
    config: config_lib.PretrainConfig, source: tasks.Source, facts: workdir_lib.Facts
) -> Start:
    """Everything of the model but its weights. Raises `UserError` where its files are at fault."""
    longest = config.data.max_prompt_tokens + config.max_answer_tokens
    if config.model.path:
        folder = download.locate(config.model.path, facts.revision)
        raw, tokenizer = hf.read_json(folder, "config.json"), prompts.load_tokenizer(folder)
        own_families.use(config.model.families)
        cfg, named = hf.load_config(folder, longest), hf.read_stop_ids(folder)
    else:
        folder, tokenizer = None, make_tokenizer(source, config)
        raw, named = make_config_json(config.architecture, tokenizer), []
        cfg = families.parse(raw, longest)
    checks.check_positions(config, cfg.max_positions)
    prompter = prompts.Prompter(tokenizer, config.prompt, named, cfg.vocab_size, facts.day)
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


def train(config: config_lib.PretrainConfig, output: pathlib.Path) -> dict[str, Any] | None:
    """Trains and writes the folder; where an earlier call was stopped, goes on.

    Returns the last loss and, where `data.eval` is given, the evaluation's result; None where
    Ctrl-C, SIGTERM or SIGHUP has stopped it, when it is saved.
    """
    mesh = sharding.make_mesh(**dataclasses.asdict(config.mesh))
    sharding.check_rows(mesh, packing__rows_per_microbatch=config.packing.rows_per_microbatch)
    data = config.data
    with Unfinished(output, config) as unfinished:
        source = tasks.load(data.train, "train", questions_lib.columns(data))
        begun = start(config, source, unfinished.facts)
        network = Network.of(config.model, begun.cfg, mesh)
        _check_memory(config, network, mesh)
        worked = _read_worked(config, source, begun.prompter)
        eval_rows = _read_evaluation(config, begun.prompter)
        folder = begun.folder
        checkpoints = unfinished.claim(
            multihost.first(lambda: identity.of_model(folder)) if folder else {},
            worked.fingerprint(),
            download.revision_of(folder) if folder else None,
        )
        with jax.set_mesh(mesh), stopping.handlers_kept():
            load = lambda: _load_params(config, begun, mesh)
            fitted = supervised.fit(config, network, load, worked, mesh, checkpoints)
        if fitted.step == 0:
            print("stopped before the first step: there is nothing to save yet")
            return None
        if fitted.step < config.steps:
            print(
                f"stopped and saved at step {fitted.step} of {config.steps}. To continue, run the "
                f"same command with --output={output}"
            )
            return None
        with jax.set_mesh(mesh):
            _write(config, begun, fitted.params, output)
        unfinished.finish()
    print(f"wrote {output}", flush=True)
    if not eval_rows:
        return {"loss": fitted.loss}
    with jax.set_mesh(mesh):
        result = _evaluate(config, begun, network, fitted.params, eval_rows)
    return {"loss": fitted.loss, **dataclasses.asdict(result)}


def _read_worked(
    config: config_lib.PretrainConfig, source: tasks.Source, prompter: prompts.Prompter
) -> supervised.WorkedAnswers:
    """What is learnt; prints how much, and what was left out."""
    data = config.data
    fitting = questions_lib.prepare(source, prompter, data.max_prompt_tokens, data.train)
    kept = supervised.worked_answers(fitting.rows, prompter, config)
    print(
        f"{len(kept.worked)} worked answers; left out: {fitting.left_out} with a long prompt, "
        f"{kept.left_out} with a long answer"
    )
    return kept.worked


def _read_evaluation(
    config: config_lib.PretrainConfig, prompter: prompts.Prompter
) -> list[prompts.Question]:
    """Read before the training: a mistake there must not cost it. Empty without `data.eval`."""
    data = config.data
    if not data.eval:
        return []
    test = tasks.load(data.eval, "test", questions_lib.columns(data))
    longest = data.max_prompt_tokens
    return questions_lib.prepare(test, prompter, longest, data.eval, data.eval_questions).rows


def _write(
    config: config_lib.PretrainConfig, begun: Start, params: Params, output: pathlib.Path
) -> None:
    prompter = begun.prompter
    exported.write_folder(
        params,
        begun.cfg,
        output,
        begun.tokenizer,
        begun.raw,
        source=begun.folder,
        asked=carried.Carried(
            config.prompt,
            config.data.max_prompt_tokens,
            config.max_answer_tokens,
            list(prompter.stops),
            prompter.day if prompter.asks_day else None,
        ),
    )


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


def main(get_config) -> int:
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
    found = train(config, output)
    if found is None:
        return 130
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    flags.DEFINE_string(
        "output", None, "Folder to write the model to; it must not hold anything yet."
    )
    flags.DEFINE_string("compilation_cache", None, compiled.OPTION)
    get_config = cli.config_flag(config_lib.PretrainConfig)
    cli.run(lambda: main(get_config), __doc__)
