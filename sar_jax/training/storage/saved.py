"""A step's folder as it is on disk: is it what was written, and what does it hold?

`checkpoints` writes and resumes; export, evaluation and `explain` read parameters alone.
"""

import functools
import json
from typing import Any

import jax
import orbax.checkpoint as ocp
from etils import epath

from sar_jax import config as config_lib
from sar_jax.errors import UserError
from sar_jax.files import is_remote
from sar_jax.model import download, hf, lora, parameters
from sar_jax.parallel import sharding
from sar_jax.training.storage import digests, identity
from sar_jax.training.storage import workdir as workdir_lib


def damaged(step: int, problem: str) -> str:
    """What a user reads of a step that is not what was written."""
    return f"the checkpoint of step {step} is damaged: {problem}"


def differing(folder: epath.Path, meta: dict[str, Any], arrays: Any) -> str | None:
    """Which of the arrays is not what was saved; None where all are.

    arrays   nested by the same names as when they were saved; some may be missing
    """
    if "arrays" not in meta:
        return None  # of an earlier version
    for name, digest in digests.of_arrays(arrays).items():
        if meta["arrays"].get(name) != digest:
            item, _, path = name.partition("/")
            return f"{folder / item}: {path} does not hold the numbers that were saved"
    return None


def damage(folder: epath.Path) -> str | None:
    """What is wrong with a step's folder, as far as it shows without its arrays; None for nothing.

    It names the file.
    """
    file = digests.damaged_file(folder)
    if file:
        return file
    try:
        meta = read_meta(folder)
        whole = {name: value for name, value in meta.items() if name != "digest"}
        if "digest" in meta and digests.of_value(whole) != meta["digest"]:
            raise ValueError
        if not isinstance(meta["questions"], str):
            raise TypeError
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return f"{folder / 'meta'} is not what was written"
    try:
        data = read_data(folder)
        if "data" in meta and digests.of_value(data) != meta["data"]:
            raise ValueError
    except (OSError, ValueError, StopIteration):
        return f"{folder / 'data'} is not what was written"
    return None


def read_meta(folder: epath.Path) -> dict[str, Any]:
    """What was saved of a step besides arrays and data; older checkpoints have less of it."""
    return json.loads((folder / "meta/metadata").read_text())


def read_data(folder: epath.Path) -> Any:
    """The state of the data iterator, which is the same on every process."""
    path = folder / "data/metadata"
    if not path.is_file():  # of an earlier version, written by grain
        path = next((folder / "data").glob("process_0-of-*.json"))
    return json.loads(path.read_text())


def first_line(error: Exception) -> str:
    """What an error says, in short."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def pick_step(workdir: epath.Path, step: int | None) -> int:
    """`step`, or the latest. Raises `UserError` that lists the steps there are."""
    found = steps(workdir / "checkpoints")
    if not found:
        raise UserError(f"{workdir} has no checkpoint yet")
    if step is not None and step not in found:
        raise UserError(
            f"{workdir} has no checkpoint of step {step}; there are: {', '.join(map(str, found))}"
        )
    return found[-1] if step is None else step


def base_folder(workdir: epath.Path, step: int, config: config_lib.TrainConfig) -> str:
    """The folder of the model that a run began with.

    Raises `UserError` where it is not what it was when the checkpoint was written.
    """
    folder = download.locate(config.model.path, workdir_lib.facts(workdir).revision)
    problem = damage(folder_of(workdir) / f"{step:08d}")
    if problem:
        raise _unusable(workdir, step, problem)
    identity.check_model(read_meta(folder_of(workdir) / f"{step:08d}"), folder, workdir)
    return folder


def load_params(
    workdir: epath.Path,
    step: int,
    cfg: parameters.ModelConfig,
    shardings: Any,
    dtype: str = "float32",
) -> parameters.Params:
    """The model's parameters of a step; moments are not read.

    cfg         the model, without adapters
    shardings   a tree like the parameters, of where they go
    dtype       of the arrays

    Where adapters were trained, the base is loaded from where the run had it, and they are added to
    it. Raises `UserError` where the checkpoint is damaged.
    """
    config = workdir_lib.read_config(workdir)
    if not config.lora.rank:
        return _load_learnt(workdir, step, parameters.describe_params(cfg, shardings), dtype)
    adapted = lora.adapted(cfg, config.lora)
    adapters = load_adapters(workdir, step, adapted, shardings["embedding"].mesh)
    base = hf.load_params(base_folder(workdir, step, config), cfg, shardings, dtype)
    fold = jax.jit(functools.partial(lora.folded, adapted), out_shardings=shardings)
    return fold(base, adapters)


def load_adapters(
    workdir: epath.Path, step: int, adapted: parameters.ModelConfig, mesh: jax.sharding.Mesh
) -> parameters.Params:
    """The adapters of a step in float32, spread over the mesh. adapted: the model with them.

    Raises `UserError` where the checkpoint is damaged.
    """
    specs = lora.specs(adapted)
    described = parameters.describe(specs, sharding.param_shardings(specs, mesh))
    return _load_learnt(workdir, step, described, "float32")


def _load_learnt(
    workdir: epath.Path, step: int, like: parameters.Params, dtype: str
) -> parameters.Params:
    """Array by array, as it was saved, compared with its digest, and then as `dtype`."""
    folder = folder_of(workdir) / f"{step:08d}"
    problem = damage(folder)
    if problem:
        raise _unusable(workdir, step, problem)
    meta, paths = read_meta(folder), jax.tree_util.tree_leaves_with_path(like)
    loaded = []
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
        for path, leaf in paths:
            item = leaf
            for key in reversed(path):
                item = {key.key: item}
            item = {"params": item}
            args = ocp.args.PyTreeRestore(
                item=item,
                partial_restore=True,
                restore_args=ocp.checkpoint_utils.construct_restore_args(item),
            )
            try:
                restored = checkpointer.restore(folder / "state", args=args)
            except Exception as error:  # of many kinds: what is damaged can fail anywhere
                problem = f"{folder / 'state'} cannot be read ({first_line(error)})"
                raise _unusable(workdir, step, problem) from error
            problem = differing(folder, meta, {"state": restored})
            if problem:
                raise _unusable(workdir, step, problem)
            loaded += [x.astype(dtype) for x in jax.tree.leaves(restored)]
    return jax.tree.unflatten(jax.tree.structure(like), loaded)


def _unusable(workdir: epath.Path, step: int, problem: str) -> UserError:
    others = [str(other) for other in steps(folder_of(workdir)) if other != step]
    there = f"; other steps: {', '.join(others)} (--step)" if others else ""
    return UserError(f"{damaged(step, problem)}{there}")


def folder_of(workdir: epath.Path) -> epath.Path:
    """Of a workdir's checkpoints, absolute as Orbax wants it.

    `resolve` would make a local path of a bucket's.
    """
    path = epath.Path(workdir)
    return (path if is_remote(path) else path.resolve()) / "checkpoints"


def is_complete(path: epath.Path) -> bool:
    """In a bucket nothing can be moved into place: there a last file says so."""
    return (path / "state").is_dir() and ocp.utils.is_checkpoint_finalized(path)


def steps(folder: epath.Path) -> list[int]:
    """Of the complete checkpoints in a folder."""
    found = [p for p in folder.iterdir() if p.name.isdigit()] if folder.is_dir() else []
    return sorted(int(p.name) for p in found if is_complete(p))
