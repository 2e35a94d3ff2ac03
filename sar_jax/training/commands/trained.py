"""A policy to evaluate, export or explain, trained here or not.

    model --locate-->       Trained: config, shapes, tokenizer   cheap; names every mistake that can
                                                                 be seen without the weights
          --load_params-->  parameters on a mesh                 slow

It is a Hugging Face folder, the hub's id of one, or a workdir's checkpoint. A workdir brings the
config of its run; shapes and tokenizer come from the model that the run began with.
"""

import copy
import datetime
import hashlib
import json
import pathlib
from collections.abc import Mapping
from typing import NamedTuple

from etils import epath
from jax.sharding import Mesh
from transformers import PreTrainedTokenizerBase

from sar_jax import config as config_lib
from sar_jax.errors import UserError
from sar_jax.evaluation import records
from sar_jax.model import download, hf, parameters
from sar_jax.parallel import sharding
from sar_jax.text import carried, prompts
from sar_jax.training.own import families as own_families
from sar_jax.training.settings import checks
from sar_jax.training.storage import digests, identity, saved
from sar_jax.training.storage import workdir as workdir_lib


class Trained(NamedTuple):
    """A policy without its weights.

    stops           the ids that the folder's files name as ends of an answer
    folder          of the Hugging Face files
    workdir, step   of the checkpoint; None for a model folder
    day             that templates which ask for the date are told; None for today's
    asked           where the prompt comes from, in words
    """

    config: config_lib.TrainConfig
    cfg: parameters.ModelConfig
    tokenizer: PreTrainedTokenizerBase
    stops: list[int]
    folder: str
    workdir: epath.Path | None
    step: int | None
    day: datetime.date | None
    asked: str

    def told(self) -> str:
        """How the model is asked, for the screen."""
        prompt = self.config.prompt
        if prompt.function:
            return f"prompt: by the function {prompt.function} (from {self.asked})"
        return (
            f"prompt: system {prompt.system!r}, instruction {prompt.instruction!r}, format "
            f"{prompt.format} (from {self.asked})"
        )


def is_workdir(model: str) -> bool:
    """Is it the workdir of a training run, rather than a model folder?"""
    path = epath.Path(model)
    return (path / "checkpoints").is_dir() or (path / "metrics.jsonl").is_file()


def locate(
    model: str,
    config: config_lib.TrainConfig | None,
    default: config_lib.TrainConfig,
    step: int | None = None,
) -> Trained:
    """The policy without its weights.

    model     a Hugging Face folder, the hub's id of one, or a workdir
    config    takes the place of the workdir's; without both, `default` is taken
    step      of a workdir's checkpoint, by default the latest

    Raises `UserError` where something is missing or damaged.
    """
    if is_workdir(model):
        return _of_workdir(epath.Path(model), config, step)
    if step is not None:
        raise UserError(f"--step is {step}, but {model} is a model folder, which has no steps")
    folder = download.locate(model)
    asked = "--config" if config else "the defaults; --config gives others"
    found = carried.read(folder)
    given, config = config is not None, copy.deepcopy(config or default)
    if found:
        asked = f"{folder}/{carried.NAME}" + (" and --config" if asked == "--config" else "")
        if not given:
            config.data.max_prompt_tokens = found.max_prompt_tokens
            config.rollout.max_answer_tokens = found.max_answer_tokens
        config.prompt = found.asked(config.prompt)
    checks.check_evaluation(config)
    own_families.use(config.model.families)
    cfg = hf.load_config(folder, config_lib.max_length(config))
    hf.Weights(folder).check(cfg)  # the files' headers only
    stops = sorted({*hf.read_stop_ids(folder), *carried.stops(folder)})
    tokenizer, day = prompts.load_tokenizer(folder), found and found.day
    return Trained(config, cfg, tokenizer, stops, folder, None, None, day, asked)


def _of_workdir(
    workdir: epath.Path, config: config_lib.TrainConfig | None, step: int | None
) -> Trained:
    trained = workdir_lib.read_config(workdir)
    step = saved.pick_step(workdir, step)
    asked = "--config" if config else "the run's config"
    config = config or trained
    checks.check_evaluation(config)
    own_families.use(config.model.families or trained.model.families)
    folder = saved.base_folder(workdir, step, trained)
    # LongRoPE's factors follow the longest sequence: a checkpoint keeps those that it was trained
    # with.
    cfg = hf.load_config(folder, max(map(config_lib.max_length, (trained, config))))
    tokenizer, stops = prompts.load_tokenizer(folder), hf.read_stop_ids(folder)
    day = workdir_lib.facts(workdir).day
    return Trained(config, cfg, tokenizer, stops, folder, workdir, step, day, asked)


def load_params(
    policy: Trained,
    mesh: Mesh,
    dtype: str,
    rules: Mapping[str, str | None] = sharding.RULES,
) -> parameters.Params:
    """The weights as `dtype`, spread over the mesh by the rules.

    Raises `UserError` where a checkpoint is damaged.
    """
    shardings = sharding.param_shardings(parameters.param_specs(policy.cfg), mesh, rules)
    if policy.workdir is None:
        return hf.load_params(policy.folder, policy.cfg, shardings, dtype)
    return saved.load_params(policy.workdir, policy.step, policy.cfg, shardings, dtype)


def fingerprint(policy: Trained) -> str:
    """A hash of the weight files' names, sizes and samples of their bytes, and of config.json.

    It differs for different weights, and is the same wherever the files are.
    """
    folder, digest = pathlib.Path(policy.folder), hashlib.sha256()
    digest.update((folder / "config.json").read_bytes())
    if adapter := identity.adapter_settings(folder):
        digest.update(json.dumps(adapter, sort_keys=True).encode())
    if policy.workdir is None:
        files = {f.name: epath.Path(f) for f in folder.glob("*.safetensors")}
    else:
        folder = policy.workdir / "checkpoints" / f"{policy.step:08d}" / "state"
        files = digests.files_below(folder)
    for name, file in sorted(files.items()):
        digest.update(f"{name} {file.stat().length}\n".encode())
        for piece in identity.pieces(file):
            digest.update(piece)
    return digest.hexdigest()


def shown(policy: Trained, model: str) -> records.Model:
    """What names the policy in results. model: as it was given."""
    return records.Model(model, policy.step, fingerprint(policy))
