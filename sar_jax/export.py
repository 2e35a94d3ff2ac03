"""Trained parameters -> a Hugging Face folder that `transformers` and vLLM load.

    python -m sar_jax.export --workdir=DIR [--step=N] --output=HF_DIR
                             [--dtype=bfloat16] [--max-shard-size=5GB]

config.json is the base model's, but for the dtype of the weights; tokenizer, chat template and
generation config come along, and a README.md states the run's settings and results. Reads the
checkpoint's parameters alone, in the dtype that is written, so the host needs memory for these and
one shard. The folder is written under a temporary name next to its destination and moved into place
when it is complete.
"""

import json
import pathlib
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

from absl import flags
from etils import epath
from transformers import PreTrainedTokenizerBase

from sar_jax import cli
from sar_jax import config as config_lib
from sar_jax.errors import UserError
from sar_jax.model import families, hf, parameters
from sar_jax.parallel import sharding
from sar_jax.text import carried, prompts
from sar_jax.training import saved
from sar_jax.training import workdir as workdir_lib

_DTYPES = ("float32", "bfloat16", "float16")


def check_output(folder: pathlib.Path) -> None:
    """Raises `UserError` where something would be overwritten."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(
            f"{folder} is not an empty folder: nothing is overwritten, choose another --output"
        )


def write_folder(
    params: parameters.Params,
    cfg: parameters.ModelConfig,
    output: pathlib.Path,
    tokenizer: PreTrainedTokenizerBase,
    raw: families.Json,
    *,
    source: str | None = None,
    max_shard_size: int | str = "5GB",
    card: str = "",
    asked: carried.Carried | None = None,
) -> None:
    """Writes weights in the parameters' dtype, tokenizer, config and generation config.

    raw              config.json as it came
    source           the folder that the model came from, if any
    max_shard_size   of a weight file: bytes, or text such as "5GB"
    card             text of README.md; empty for none
    asked            how the model was asked, which the folder then carries

    Raises `UserError` where `output` is not empty; after any error nothing is left behind.
    """
    output = output.absolute()
    check_output(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = pathlib.Path(tempfile.mkdtemp(prefix=f".{output.name}.", dir=output.parent))
    try:
        hf.save_weights(params, cfg, partial, max_shard_size)
        tokenizer.save_pretrained(partial)
        name = "torch_dtype" if "torch_dtype" in raw else "dtype"  # older and newer folders
        _write_json(partial / "config.json", {**raw, name: str(params["embedding"].dtype)})
        _write_generation_config(partial / "generation_config.json", tokenizer, source)
        if asked:
            carried.write(partial, asked)
        if card:
            (partial / "README.md").write_text(card)
        # a temporary folder and the weights in it are made for the owner alone
        partial.chmod(0o755)
        for file in partial.iterdir():
            file.chmod(0o644)
        if output.exists():
            output.rmdir()  # empty: check_output
        partial.rename(output)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _write_generation_config(
    path: pathlib.Path, tokenizer: PreTrainedTokenizerBase, source: str | None
) -> None:
    """The source's, if it has one; without a source, the tokens that end and pad an answer."""
    if source is None:
        ids = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
        _write_json(path, ids)
    elif (pathlib.Path(source) / path.name).is_file():
        shutil.copyfile(pathlib.Path(source) / path.name, path)


def _write_json(path: pathlib.Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


# README.md of an exported model
_CARD = """\
---
{base_model}library_name: transformers
pipeline_tag: text-generation
tags:
- sar_jax
- reinforcement-learning
---

# {name}, trained with sar_jax

Step {step} of reinforcement learning from `{base}` with the rewards {rewards} on `{data}`.

{results}The questions were put in this form:

- system: {system!r}
- user: the question, then {instruction!r}

`sar_jax.json` says the same to `sar_jax.explain`, `sar_jax.evaluate` and `sar_jax.train`, with the
limits of prompt and answer and the ids that end an answer.

All settings:

```json
{settings}```
"""
_RESULTS = """\
Greedy answers to questions of `{data}`:

| step | accuracy, % | mean answer tokens |
|---|---|---|
{rows}

"""


def model_card(
    config: config_lib.TrainConfig, step: int, metrics: Sequence[Mapping[str, float]]
) -> str:
    """README.md of an exported model: where it comes from, results, settings.

    step      of the checkpoint
    metrics   the lines of the run's metrics.jsonl
    """
    base = config.model.path
    is_id = base.count("/") == 1 and not base.startswith((".", "/", "~"))
    weights = {name: weight for name, weight in vars(config.rewards).items() if weight}
    return _CARD.format(
        base_model=f"base_model: {base}\n" if is_id else "",
        name=pathlib.PurePath(base).name,
        step=step,
        base=base,
        rewards=", ".join(f"{name} (weight {weight:g})" for name, weight in weights.items()),
        data=config.data.train,
        results=_results(config.data.eval, step, metrics),
        system=config.prompt.system,
        instruction=config.prompt.instruction,
        settings=config_lib.to_json(config),
    )


def _results(data: str, step: int, metrics: Sequence[Mapping[str, float]]) -> str:
    """A table of the first evaluation and the last one up to the step; empty without one."""
    evaluated = [m for m in metrics if "eval/accuracy" in m and m["step"] <= step]
    if not evaluated:
        return ""
    rows = [
        f"| {m['step']} | {100 * m['eval/accuracy']:.1f} | {m['eval/length']:.1f} |"
        for m in evaluated[:1] + evaluated[1:][-1:]
    ]
    return _RESULTS.format(data=data, rows="\n".join(rows))


def main() -> None:
    values = flags.FLAGS
    if not values.workdir or not values.output:
        raise UserError("both --workdir and --output are required (see --help)")
    workdir, output = epath.Path(values.workdir), pathlib.Path(values.output)
    check_output(output)
    config = workdir_lib.read_config(workdir)
    step = saved.pick_step(workdir, values.step)
    source = saved.base_folder(workdir, step, config)
    raw, tokenizer = hf.read_json(source, "config.json"), prompts.load_tokenizer(source)
    cfg = hf.load_config(source, config_lib.max_length(config))
    dtype = values.dtype or raw.get("dtype") or raw.get("torch_dtype") or "float32"
    if dtype not in _DTYPES:
        raise UserError(f"--dtype is {dtype!r}: it must be one of {', '.join(_DTYPES)}")
    max_shard_size = values["max-shard-size"].value
    hf.plan_shards(cfg, dtype, max_shard_size)  # raises for what is no size, before it reads
    shardings = sharding.param_shardings(parameters.param_specs(cfg), sharding.make_mesh(1, -1, 1))
    params = saved.load_params(workdir, step, cfg, shardings, dtype)
    card = model_card(config, step, workdir_lib.read_metrics(workdir))
    day = workdir_lib.facts(workdir).day
    prompter = prompts.Prompter(tokenizer, config.prompt, hf.read_stop_ids(source), day=day)
    write_folder(
        params,
        cfg,
        output,
        tokenizer,
        raw,
        source=source,
        max_shard_size=max_shard_size,
        card=card,
        asked=carried.Carried(
            config.prompt,
            config.data.max_prompt_tokens,
            config.rollout.max_answer_tokens,
            list(prompter.stops),
            day if prompter.asks_day else None,
        ),
    )
    print(f"wrote step {step} of {workdir} to {output} ({dtype})")


if __name__ == "__main__":
    flags.DEFINE_string("workdir", None, "Workdir of a training run.")
    flags.DEFINE_integer("step", None, "Step of the checkpoint; the latest by default.")
    flags.DEFINE_string(
        "output", None, "Hugging Face folder to write; it must not hold anything yet."
    )
    flags.DEFINE_string(
        "dtype",
        None,
        f"Number format of the weights: {', '.join(_DTYPES)}. Default: that of the base model.",
    )
    flags.DEFINE_string(
        "max-shard-size", "5GB", "Largest size of a weight file, such as 5GB or 500MB."
    )
    cli.run(main, __doc__)
