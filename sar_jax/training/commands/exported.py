"""Parameters -> a Hugging Face folder: what `sar_jax.export` and `sar_jax.pretrain` write.

A folder is written under a temporary name next to its destination and moved into place when it is
complete.
"""

import contextlib
import json
import pathlib
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any, NamedTuple

import huggingface_hub
from etils import epath
from transformers import PreTrainedTokenizerBase

from sar_jax import config as config_lib
from sar_jax.errors import UserError
from sar_jax.model import beside, families, hf, lora, parameters, peft
from sar_jax.parallel import sharding
from sar_jax.text import carried, prompts
from sar_jax.text.tokenizer import save_tokenizer
from sar_jax.training.commands import card as card_lib
from sar_jax.training.own import families as own_families
from sar_jax.training.storage import saved
from sar_jax.training.storage import workdir as workdir_lib

DTYPES = ("float32", "bfloat16", "float16")


def check_output(folder: pathlib.Path) -> None:
    """Raises `UserError` where something would be overwritten."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(
            f"{folder} is not an empty folder: nothing is overwritten, choose another --output"
        )


@contextlib.contextmanager
def _written(output: pathlib.Path) -> Iterator[pathlib.Path]:
    """A folder to write into, which becomes `output`; after an error nothing is left behind.

    Raises `UserError` where `output` is not empty.
    """
    output = output.absolute()
    check_output(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = pathlib.Path(tempfile.mkdtemp(prefix=f".{output.name}.", dir=output.parent))
    try:
        yield partial
        # a temporary folder and the weights in it are made for the owner alone
        partial.chmod(0o755)
        for path in partial.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)
        if output.exists():
            output.rmdir()  # empty: check_output
        partial.rename(output)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


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

    tokenizer        saved where there is no source, whose files are copied
    raw              config.json as it came
    source           the folder that the model came from, if any
    max_shard_size   of a weight file: bytes, or text such as "5GB"
    card             text of README.md; empty for none
    asked            how the model was asked, which the folder then carries

    Raises `UserError` where `output` is not empty; after any error nothing is left behind.
    """
    with _written(output) as partial:
        hf.save_weights(params, cfg, partial, max_shard_size, source)
        _write_json(partial / "config.json", _with_dtype(raw, str(params["embedding"].dtype)))
        if source is None:
            save_tokenizer(tokenizer, partial)
            ids = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
            _write_json(partial / "generation_config.json", ids)
        else:
            beside.copy(pathlib.Path(source), partial)
        _write_about(partial, card, asked)


def write_adapter(
    adapters: parameters.Params,
    adapted: parameters.ModelConfig,
    output: pathlib.Path,
    source: str,
    base: str,
    card: str,
    asked: carried.Carried,
) -> None:
    """Writes adapters as PEFT keeps them, with the base's tokenizer.

    adapted   the model with adapters
    source    the base's folder
    base      what the config calls it

    Raises `UserError` where `output` is not empty; after any error nothing is left behind.
    """
    prefix = "model.language_model." if hf.Weights(source).beside else "model."
    with _written(output) as partial:
        peft.write(partial, adapted, adapters, base, prefix)
        beside.copy(pathlib.Path(source), partial)
        _write_about(partial, card, asked)


def _write_about(folder: pathlib.Path, card: str, asked: carried.Carried | None) -> None:
    if asked:
        carried.write(folder, asked)
    if card:
        (folder / "README.md").write_text(card)


def _with_dtype(raw: families.Json, dtype: str) -> families.Json:
    """config.json for weights of this dtype; older and newer folders name the field differently."""
    name = "torch_dtype" if "torch_dtype" in raw else "dtype"
    made = {**raw, name: dtype}
    text = raw.get("text_config")
    if isinstance(text, dict):
        given = {name: dtype for name in ("torch_dtype", "dtype") if text.get(name)}
        made["text_config"] = {**text, **given}
    return made


def _write_json(path: pathlib.Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


class Written(NamedTuple):
    """What an export wrote: of which step, in which dtype."""

    step: int
    dtype: str


def export(
    workdir: epath.Path,
    output: pathlib.Path,
    step: int | None = None,
    *,
    dtype: str | None = None,
    max_shard_size: int | str = "5GB",
    adapter: bool = False,
    name: str = "",
) -> Written:
    """Writes a run's checkpoint as a folder.

    workdir          of the run
    step             of the checkpoint, by default the latest
    dtype            of the weights, by default that of the base model
    max_shard_size   of a weight file: bytes, or text such as "5GB"
    adapter          the adapters alone, as PEFT keeps them
    name             that the card calls the model

    Raises `UserError` where the options are wrong, or the checkpoint is damaged.
    """
    config = workdir_lib.read_config(workdir)
    if adapter and not config.lora.rank:
        raise UserError(f"--adapter: {workdir} has no adapters (config.lora.rank is 0)")
    step = saved.pick_step(workdir, step)
    source = saved.base_folder(workdir, step, config)
    raw, tokenizer = hf.read_json(source, "config.json"), prompts.load_tokenizer(source)
    own_families.use(config.model.families)
    cfg = hf.load_config(source, config_lib.max_length(config))
    dtype = dtype or raw.get("dtype") or raw.get("torch_dtype") or "float32"
    if dtype not in DTYPES:
        raise UserError(f"--dtype is {dtype!r}: it must be one of {', '.join(DTYPES)}")
    hf.check_shard_size(max_shard_size)
    lines = workdir_lib.read_metrics(workdir)
    card = card_lib.model_card(config, step, lines, name or str(output), adapter)
    asked = _asked(config, tokenizer, source, workdir_lib.facts(workdir).day)
    mesh = sharding.make_mesh(1, -1, 1)
    if adapter:
        adapted = lora.adapted(cfg, config.lora)
        adapters = saved.load_adapters(workdir, step, adapted, mesh)
        write_adapter(adapters, adapted, output, source, config.model.path, card, asked)
        return Written(step, "float32")
    shardings = sharding.param_shardings(parameters.param_specs(cfg), mesh)
    write_folder(
        saved.load_params(workdir, step, cfg, shardings, dtype),
        cfg,
        output,
        tokenizer,
        raw,
        source=source,
        max_shard_size=max_shard_size,
        card=card,
        asked=asked,
    )
    return Written(step, dtype)


def _asked(
    config: config_lib.TrainConfig, tokenizer: Any, source: str, day: Any
) -> carried.Carried:
    """How the model was asked."""
    prompter = prompts.Prompter(tokenizer, config.prompt, hf.read_stop_ids(source), day=day)
    return carried.Carried(
        config.prompt,
        config.data.max_prompt_tokens,
        config.rollout.max_answer_tokens,
        list(prompter.stops),
        day if prompter.asks_day else None,
    )


def check_push(name: str) -> None:
    """Raises `UserError` where a folder cannot be sent to the hub under this name."""
    try:
        huggingface_hub.utils.validate_repo_id(name)
        is_id = name.count("/") == 1
    except huggingface_hub.errors.HFValidationError:
        is_id = False
    if not is_id:
        raise UserError(f"--push is {name!r}: give the model's id on the hub, such as USER/NAME")
    if huggingface_hub.get_token() is None:
        raise UserError("--push needs a token of the hub: run `hf auth login`, or set HF_TOKEN")
    try:
        huggingface_hub.HfApi().whoami()
    except Exception as error:  # of the HTTP client: many kinds
        raise UserError(
            f"--push: the hub does not take the token ({saved.first_line(error)})"
        ) from None


def push(folder: pathlib.Path, name: str, message: str) -> str:
    """Sends a folder to the hub, into a new private repository where there is none; its address.

    Raises `UserError` where that fails.
    """
    hub = huggingface_hub.HfApi()
    try:
        url = hub.create_repo(name, private=True, exist_ok=True)
        hub.upload_folder(repo_id=name, folder_path=folder, commit_message=message)
    except Exception as error:
        raise UserError(
            f"{folder} is written, but cannot be sent to {name} ({saved.first_line(error)}); try "
            f"`hf upload {name} {folder}`"
        ) from None
    return str(url)
