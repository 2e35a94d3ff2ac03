"""400 config files, each with a field or two of a shipped one changed to something else."""

import dataclasses
import datetime
import json
import random
import typing

import pytest
from etils import epath
from support.commands import ROOT
from support.soak import VALUES, Tally

from sar_jax import config as config_lib
from sar_jax.model import download
from sar_jax.rollout import shapes
from sar_jax.training import assembly, setup
from sar_jax.training.settings import checks, config_files
from sar_jax.training.storage import workdir

pytestmark = pytest.mark.soak

_TINY = str(ROOT / "sar_jax/assets/tiny")
_WORDS = (
    "object()", "lambda: 1", "int", "numpy.float64(0.5)", "numpy.int64(3)", "numpy.bool_(True)",
    "numpy.arange(3)", "pathlib.Path('x')", "b'x'", "1j", "Optimizer()", "Loss", "10 ** 5000",
    "range(3)", "'arithmetic+arithmetic'", "'arithmetic:8'", "'math=nowhere'", "'float32'",
    "'int8'", "'critic'", "'chat'", "'plain'", "'off'", "'sequence'", "'bos'", "-1.0", "1.0", "3",
    "4", "64",
)  # fmt: skip


_OF_TYPE = {
    int: ("0", "1", "-1", "2", "3", "8", "96", "10**9", "2**31 - 1", "numpy.int64(4)"),
    float: ("0", "1", "-1", "0.5", "1e-9", "1e-300", "1e9", "1e38", "1e300", "numpy.float32(0.1)"),
    bool: ("True", "False", "numpy.bool_(True)"),
    str: ("''", "'arithmetic:8'", "'x'", "'<|im_end|>'", "'caf\u00e9'", "pathlib.Path('x')"),
}


def fields(cls: type, prefix: str = "") -> dict[str, type]:
    """Every field and section by its path, with its type."""
    found = {}
    for field in dataclasses.fields(cls):
        found[f"{prefix}{field.name}"] = field.type
        if dataclasses.is_dataclass(field.type):
            found |= fields(field.type, f"{prefix}{field.name}.")
    return found


def value_for(kind: type, rng: random.Random) -> str:
    """An expression: in most cases of the field's own type."""
    own = _OF_TYPE.get(kind) or tuple(map(repr, typing.get_args(kind)))
    if own and rng.randrange(3):
        return rng.choice(own)
    value = rng.choice([*map(repr, VALUES), *_WORDS])
    return {"nan": "float('nan')", "inf": "float('inf')"}.get(value, value)


def misspelt(path: str, rng: random.Random) -> str:
    at = rng.randrange(len(path))
    return path[:at] + rng.choice("abcxyz_") + path[at + rng.randrange(2) :]


def changed(source: str, cls: type, rng: random.Random) -> str:
    """A config file whose get_config changes what that of `source` returns."""
    lines = []
    for _ in range(rng.choice((1, 1, 1, 2))):
        path, kind = rng.choice(list(fields(cls).items()))
        if rng.randrange(10) == 0:
            path = misspelt(path, rng)
        lines.append(f"    config.{path} = {value_for(kind, rng)}")
    head = "import pathlib\nimport numpy\nfrom sar_jax.config import *\n" + source
    body = "\n".join(lines)
    return (
        f"{head}\n\nbefore = get_config\ndef get_config():\n    config = before()\n{body}\n"
        "    return config\n"
    )


def use(path: str, cls: type) -> None:
    """What a command does with a config before it reads weights."""
    config = config_files.load_config(path, cls)
    if cls is config_lib.PretrainConfig:
        checks.check_pretrain(config)
    else:
        checks.check(config)
        checks.warnings(config)
        _set_up(config, path)
    assert config_lib.from_dict(cls, json.loads(config_lib.to_json(config))) == config
    _check_types(config)


def _check_types(config) -> None:
    """Nothing but fields, each of its type: what was asked for is what is there."""
    kinds = {field.name: field.type for field in dataclasses.fields(config)}
    assert vars(config).keys() == kinds.keys()
    for name, kind in kinds.items():
        value = getattr(config, name)
        assert type(value) is (kind if isinstance(kind, type) else str), name
        if dataclasses.is_dataclass(value):
            _check_types(value)


def _set_up(config: config_lib.TrainConfig, path: str) -> None:
    workdir.check(epath.Path(f"{path}.workdir"), config)
    folder = download.locate(config.model.path)
    inputs = setup._read(config, folder, datetime.date(2026, 1, 1))
    made = assembly.assemble(config, inputs.cfg, inputs.mesh)
    shapes.check_memory(config, made.decoder, made.decoding)


def test_configs(tmp_path, record_property):
    rng, tally = random.Random(18), Tally("config", limit=120)
    shipped = sorted((ROOT / "configs").glob("*.py"))
    path = tmp_path / "config.py"
    for number in range(400):
        file = rng.choice(shipped)
        cls = config_lib.PretrainConfig if "pretrain" in file.name else config_lib.TrainConfig
        # on the model and the questions that are here, in the sizes that fit them
        source = file.read_text()
        if cls is config_lib.TrainConfig:
            source += (
                "\n\nlarge = get_config\ndef get_config():\n    config = large()\n"
                f"    config.model.path, config.data.train = {_TINY!r}, 'arithmetic:64'\n"
                "    config.data.eval = 'arithmetic:8'\n    config.data.max_prompt_tokens = 120\n"
                "    config.rollout.max_answer_tokens = 96\n    config.rollout.slots = 8\n"
                "    return config\n"
            )
        path.write_text(changed(source, cls, rng), encoding="utf-8", errors="surrogatepass")
        shown = " ".join(path.read_text(errors="replace").splitlines()[-3:-1])
        tally.call(f"{number}: {file.stem}: {shown:.200}", lambda: use(str(path), cls))  # noqa: B023
    tally.finish(record_property)
