"""320 model folders, each with one file changed, cut or gone, or a JSON value of another kind."""

import json
import os
import pathlib
import random
import shutil

import jax
import pytest
from support.commands import ROOT
from support.soak import VALUES, Tally, flipped

from sar_jax import config as config_lib
from sar_jax.model import hf, parameters
from sar_jax.model.network import Network
from sar_jax.parallel import sharding
from sar_jax.structs import Packed
from sar_jax.text import prompts
from sar_jax.training import score

pytestmark = pytest.mark.soak

_TINY = ROOT / "sar_jax/assets/tiny"
_INDEX = "model.safetensors.index.json"
_JSON = ("config.json", "generation_config.json", "tokenizer_config.json", "tokenizer.json", _INDEX)


def places(value, at=()):
    """Paths of all values within a JSON value; of long lists and objects, the first few."""
    yield at
    items = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value if isinstance(value, list) else ())
    )
    for key, inner in list(items)[:40]:
        yield from places(inner, (*at, key))


def put(value, at, new):
    if not at:
        return new
    owner = value
    for key in at[:-1]:
        owner = owner[key]
    owner[at[-1]] = new
    return value


def change(folder: pathlib.Path, rng: random.Random, outside: pathlib.Path) -> str:
    """Changes a folder; returns what was done."""
    names = sorted(f.name for f in folder.iterdir())
    how = rng.randrange(8)
    if how < 4:
        name = rng.choice([name for name in _JSON if name in names])
        content = json.loads((folder / name).read_text())
        at = rng.choice(list(places(content)))
        other = rng.choice([*VALUES, str(outside), f"../{outside.name}", "model.safetensors"])
        try:
            (folder / name).write_text(json.dumps(put(content, at, other)))
        except UnicodeEncodeError:
            return "nothing"
        return f"{name}: {'.'.join(map(str, at))} = {other!r:.40}"
    name = rng.choice(names)
    path = folder / name
    if how == 4:
        path.unlink()
        return f"{name}: gone"
    if how == 5:
        content = path.read_bytes()
        path.write_bytes(content[: rng.randrange(len(content))])
        return f"{name}: cut"
    if how == 6:
        path.unlink()
        rng.choice((path.mkdir, lambda: os.mkfifo(path), path.touch))()
        return f"{name}: another kind of file"
    content = path.read_bytes()
    # of weights the header, whose damage the format can show
    head = content[:4000] if name.endswith(".safetensors") else content
    path.write_bytes(flipped(head, rng) + content[len(head) :])
    return f"{name}: flipped"


def use(folder: pathlib.Path, mesh) -> list[int]:
    """What commands do with a folder, but for the computation itself, which is traced."""
    cfg = hf.load_config(folder, 512)
    prompter = prompts.Prompter(
        prompts.load_tokenizer(str(folder)),
        config_lib.Prompt(),
        hf.read_stop_ids(folder),
        cfg.vocab_size,
    )
    hf.Weights(folder).check(cfg)
    shardings = sharding.param_shardings(parameters.param_specs(cfg), mesh)
    params = hf.load_params(folder, cfg, shardings)
    network = Network.of(config_lib.Model(dtype="float32"), cfg, mesh)
    grid = jax.ShapeDtypeStruct((1, 32), "int32")
    packed = Packed(grid, grid, grid, jax.ShapeDtypeStruct((1, 32), "bool"))
    with jax.set_mesh(mesh):
        jax.eval_shape(lambda p, x: score.score_rows(network, p, x, 64), params, packed)
    return prompter.prompt("What is 12 + 34?")


def test_folders(tmp_path, mesh, record_property):
    rng = random.Random(18)
    outside = tmp_path / "outside.safetensors"
    shutil.copy(_TINY / "model.safetensors", outside)
    folder = tmp_path / "model"
    tally = Tally("model folder", limit=60, inside=[folder])
    for number in range(320):
        shutil.copytree(_TINY, folder)
        if number % 4 == 0:
            listed = dict.fromkeys(hf.Weights(folder).file, "model.safetensors")
            (folder / _INDEX).write_text(json.dumps({"weight_map": listed}))
        done = change(folder, rng, outside)
        tally.call(f"{number}: {done}", lambda: use(folder, mesh))
        shutil.rmtree(folder)
    tally.finish(record_property)
