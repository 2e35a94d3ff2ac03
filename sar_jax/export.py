"""Trained parameters -> a Hugging Face folder that `transformers` loads.

    python -m sar_jax.export --workdir=DIR [--step=N] --output=HF_DIR

The folder is written under a temporary name beside its destination and moved into place when it is complete.
"""

import json
import pathlib
import shutil
import tempfile
from typing import Any

import jax
import numpy as np
from absl import flags
from transformers import PreTrainedTokenizerBase

from sar_jax import checkpoint, cli, hf, model, prompts, sharding
from sar_jax.errors import UserError


def check_output(folder: pathlib.Path) -> None:
    """Raises `UserError` where something stands that would be overwritten."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} is not an empty folder: nothing is overwritten, choose another --output")


def write_folder(tensors: dict[str, np.ndarray], output: pathlib.Path, tokenizer: PreTrainedTokenizerBase,
                 source: str | None, config_json: dict[str, Any] | None = None) -> None:
    """Weights, tokenizer, config and generation config. `source`: the folder that the model came from, whose config is
    kept but for the dtype of the weights; without one, `config_json` is written."""
    output = output.absolute()
    check_output(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = pathlib.Path(tempfile.mkdtemp(prefix=f".{output.name}.", dir=output.parent))
    try:
        hf.save_weights(tensors, partial)
        tokenizer.save_pretrained(partial)
        if source is not None:
            raw = hf.read_json(source, "config.json")
            raw.pop("torch_dtype", None)   # the name of "dtype" in older folders
            raw["dtype"] = str(next(iter(tensors.values())).dtype)
            (partial / "config.json").write_text(json.dumps(raw, indent=2) + "\n")
            if (pathlib.Path(source) / "generation_config.json").is_file():
                shutil.copyfile(pathlib.Path(source) / "generation_config.json", partial / "generation_config.json")
        else:
            ids = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
            (partial / "config.json").write_text(json.dumps(config_json | ids, indent=2) + "\n")
            (partial / "generation_config.json").write_text(json.dumps(ids, indent=2) + "\n")
        partial.chmod(0o755)   # a temporary folder and the weights in it are made for the owner alone
        for file in partial.iterdir():
            file.chmod(0o644)
        if output.exists():
            output.rmdir()   # empty: check_output
        partial.rename(output)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def main() -> None:
    if not flags.FLAGS.workdir or not flags.FLAGS.output:
        raise UserError("--workdir and --output are both needed (see --help)")
    workdir, output = pathlib.Path(flags.FLAGS.workdir), pathlib.Path(flags.FLAGS.output)
    check_output(output)
    config = checkpoint.read_config(workdir)
    step = checkpoint.pick_step(workdir, flags.FLAGS.step)
    source = config.model.path
    cfg, tokenizer = hf.load_config(source), prompts.load_tokenizer(source)
    shardings = sharding.param_shardings(model.param_specs(cfg), sharding.make_mesh(1, -1, 1))
    params = checkpoint.load_params(workdir, step, cfg, shardings)
    write_folder(hf.to_tensors(jax.device_get(params), cfg), output, tokenizer, source)
    print(f"wrote step {step} of {workdir} to {output}")


if __name__ == "__main__":
    flags.DEFINE_string("workdir", None, "Workdir of a training run.")
    flags.DEFINE_integer("step", None, "Step of the checkpoint; the latest by default.")
    flags.DEFINE_string("output", None, "Hugging Face folder to write; it must not hold anything yet.")
    cli.run(main, __doc__)
