"""Config classes: attributes are fields, each of its type, however they are set."""

import copy
import dataclasses
import fractions
import pathlib
import pickle

import numpy as np
import pytest
from support import configs

from sar_jax import config as config_lib
from sar_jax import fields as fields_lib
from sar_jax.config import PretrainConfig, TrainConfig
from sar_jax.errors import UserError
from sar_jax.model import families, known, lora, parameters
from sar_jax.training.settings import checks

SECTIONS = {
    f.name: f.type
    for cls in (TrainConfig, PretrainConfig)
    for f in dataclasses.fields(cls)
    if dataclasses.is_dataclass(f.type)
}


def refused(make) -> str:
    with pytest.raises(UserError) as error:
        make()
    assert "\n" not in str(error.value)
    return str(error.value)


def put(section: str, name: str, value) -> None:
    config = TrainConfig()
    setattr(getattr(config, section) if section else config, name, value)


@pytest.mark.parametrize(
    "section, name, words",
    [
        ("optimizer", "lrr", "config.optimizer has no field 'lrr': did you mean 'lr'?"),
        ("rollout", "sample", "config.rollout has no field 'sample': did you mean 'samples'?"),
        ("self_aligned", "forms", "config.self_aligned has no field 'forms': did you mean 'form'?"),
        ("", "stepz", "config has no field 'stepz': did you mean 'steps'?"),
        ("", "optimiser", "config has no field 'optimiser': did you mean 'optimizer'?"),
        # a name of the wrong section
        ("", "lr", "did you mean 'critic.lr' or 'optimizer.lr'?"),
        ("mesh", "zzz", "config.mesh has no field 'zzz': it has data, fsdp, tensor"),
    ],
)
def test_an_unknown_field_is_answered_with_the_nearest(section, name, words):
    assert words in refused(lambda: put(section, name, 1))


@pytest.mark.parametrize(
    "section, name, value, words",
    [
        ("", "steps", "10", "config.steps is '10': it must be a whole number"),
        ("", "steps", True, "config.steps is True: it must be a whole number"),
        ("", "steps", 1.5, "config.steps is 1.5: it must be a whole number"),
        ("", "steps", 1e3, "config.steps is 1000.0: it must be a whole number"),
        ("", "steps", None, "config.steps is None: it must be a whole number"),
        pytest.param("", "steps", 10**5000, "is an int: it must be a whole number of", id="long"),
        ("", "steps", np.bool_(True), "it must be a whole number"),
        ("", "steps", np.arange(2), "config.steps is array([0, 1]): it must be a whole number"),
        ("optimizer", "lr", "1e-6", "config.optimizer.lr is '1e-6': it must be a number"),
        ("optimizer", "lr", False, "config.optimizer.lr is False: it must be a number"),
        ("optimizer", "lr", 1j, "config.optimizer.lr is 1j: it must be a number"),
        ("optimizer", "lr", 10**400, "it must be within the range of a float"),
        (
            "model",
            "offload_reference",
            1,
            "config.model.offload_reference is 1: it must be True or False",
        ),
        (
            "model",
            "offload_reference",
            "true",
            "config.model.offload_reference is 'true': it must be True or False",
        ),
        (
            "rollout",
            "slots",
            "all",
            "config.rollout.slots is 'all': it must be a whole number or auto",
        ),
        ("rollout", "slots", 1.5, "config.rollout.slots is 1.5: it must be a whole number"),
        ("rollout", "slots", None, "config.rollout.slots is None: it must be a whole number"),
        ("model", "path", b"folder", "config.model.path is b'folder': it must be text"),
        ("model", "dtype", np.float32, "config.model.dtype is a type: it must be text"),
        ("prompt", "system", "half \ud83d", r"config.prompt.system holds \ud83d, which is no"),
        ("", "loss", {"kl": 1}, "config.loss is a dict: it must be a sar_jax.config.Loss"),
        ("", "loss", config_lib.Loss, "config.loss is a type: it must be a sar_jax.config.Loss"),
        ("", "loss", config_lib.Optimizer(), "config.loss is an Optimizer: it must be a"),
    ],
)
def test_a_value_of_another_type_is_refused(section, name, value, words):
    assert words in refused(lambda: put(section, name, value))


@pytest.mark.parametrize(
    "section, name, value, kept",
    [
        ("", "steps", np.int64(7), 7),
        ("", "steps", np.array(7), 7),
        ("optimizer", "lr", 1, 1.0),
        ("optimizer", "lr", np.float64(0.5), 0.5),
        ("optimizer", "lr", np.int32(2), 2.0),
        ("optimizer", "lr", fractions.Fraction(1, 4), 0.25),
        ("model", "offload_reference", np.bool_(False), False),
        ("rollout", "slots", "auto", "auto"),
        ("rollout", "slots", np.int64(8), 8),
        ("model", "remat", False, "none"),  # a switch in earlier versions
        ("model", "remat", "true", "block"),
        ("model", "path", pathlib.Path("some/folder"), "some/folder"),
        ("model", "path", np.str_("folder"), "folder"),
    ],
)
def test_what_means_the_same_is_taken_as_the_fields_type(section, name, value, kept):
    config = TrainConfig()
    owner = getattr(config, section) if section else config
    setattr(owner, name, value)
    found = getattr(owner, name)
    assert found == kept and type(found) is type(kept)
    assert config_lib.from_dict(TrainConfig, dataclasses.asdict(config)) == config


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: TrainConfig(stepz=3), "did you mean 'steps'?"),
        (lambda: config_lib.Loss(kll=0.1), "config.loss has no field 'kll': did you mean 'kl'?"),
        (lambda: TrainConfig(0, "3"), "config.steps is '3'"),
        (lambda: dataclasses.replace(config_lib.Loss(), klx=1), "config.loss has no field 'klx'"),
        (lambda: dataclasses.replace(config_lib.Loss(), kl="1"), "config.loss.kl is '1'"),
        (lambda: config_lib.from_dict(TrainConfig, {"loss": {"kl": "1"}}), "config.loss.kl is '1'"),
        (lambda: config_lib.from_dict(TrainConfig, {"loss": 3}), "config.loss is 3"),
        (lambda: config_lib.from_dict(TrainConfig, [3]), "expected a JSON object"),
        (lambda: delattr(TrainConfig(), "steps"), "config.steps cannot be deleted"),
    ],
)
def test_however_a_field_is_set_it_is_checked(make, words):
    assert words in refused(make)


def test_copies_are_equal():
    config = TrainConfig(steps=3)
    config.optimizer.lr = 0.5
    copies = copy.deepcopy(config), pickle.loads(pickle.dumps(config)), dataclasses.replace(config)
    assert all(made == config for made in copies)
    assert copies[0].optimizer is not config.optimizer


def test_a_sections_place_is_its_fields_name():
    assert all(fields_lib.place(cls) == f"config.{name}" for name, cls in SECTIONS.items())
    assert fields_lib.place(TrainConfig) == fields_lib.place(PretrainConfig) == "config"


@pytest.mark.parametrize(
    "path, words",
    [
        ("optimizer.lrr", "config.optimizer has no field 'lrr': did you mean 'lr'?"),
        ("optimizer", "config.optimizer is a section"),
        ("optimizer.lr.x", "config.optimizer.lr is no section: it has no field 'x'"),
        ("optimiser.lr", "config has no field 'optimiser': did you mean 'optimizer'?"),
        ("", "config has no field ''"),
        ("optimizer.", "config.optimizer has no field ''"),
    ],
)
def test_a_path_that_is_no_field(path, words):
    assert words in refused(lambda: fields_lib.check_path(TrainConfig, path))
    fields_lib.check_path(TrainConfig, "optimizer.lr")
    fields_lib.check_path(TrainConfig, "steps")


def good(cls):
    config = cls()
    config.data.train, config.model.path = "arithmetic", "folder"
    return config


@pytest.mark.parametrize(
    "path, value",
    [
        ("steps", 2**31),
        ("rewards.length", 1e39),
        ("rewards.length", float("inf")),
        ("optimizer.eps", 0.0),
        ("optimizer.eps", 1e-46),
        ("rollout.temperature", 1e-38),
        ("mesh.data", 0),
        ("mesh.tensor", -2),
        ("verification.workers", 10**9),
        ("verification.timeout", 1e9),
        ("verification.max_error_share", 1.5),
    ],
)
def test_numbers_that_no_run_can_use(path, value):
    config = good(TrainConfig)
    configs.put(config, path, value)
    assert refused(lambda: checks.check(config)).startswith(f"config.{path} is {value}: it must ")


@pytest.mark.parametrize(
    "name, value",
    [
        ("num_layers", 0),
        ("embed_dim", -1),
        ("head_dim", 33),
        ("vocab_size", 258),
        ("rope_theta", 0.0),
        ("num_kv_heads", 3),
        ("max_positions", 2**31),
    ],
)
def test_an_architecture_that_cannot_be_is_named(name, value):
    config = good(PretrainConfig)
    setattr(config.architecture, name, value)
    found = refused(lambda: checks.check_pretrain(config))
    assert found.startswith(f"config.architecture.{name} is {value}: it must ")


def test_an_adapters_rank_is_at_most_that_of_the_largest_of_its_matrices():
    cfg = families.parse(known.CONFIGS["Qwen/Qwen3-4B-Base"], 512)
    shapes = {n: s.shape for n, s in parameters.param_specs(cfg)["layers"].items()}
    kv, ffw = cfg.num_kv_heads * cfg.head_dim, min(cfg.embed_dim, cfg.ffw_dim)
    assert shapes["k_proj"][1:] == (cfg.embed_dim, cfg.num_kv_heads, cfg.head_dim)
    for targets, largest in (("k_proj", kv), ("k_proj,up_proj", ffw)):
        lora.adapted(cfg, config_lib.Lora(rank=largest, targets=targets))
        found = refused(
            lambda: lora.adapted(cfg, config_lib.Lora(rank=largest + 1, targets=targets))  # noqa: B023
        )
        assert found.startswith(f"config.lora.rank is {largest + 1}: ") and str(largest) in found
