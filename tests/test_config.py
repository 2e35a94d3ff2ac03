"""What cannot work is named before anything begins; a config survives a file."""

import copy
import dataclasses
import json
import re
import typing

import pytest
from support.configs import good, good_pretrain, leaves, put

from sar_jax import config as config_lib
from sar_jax.config import PretrainConfig, TrainConfig
from sar_jax.errors import UserError
from sar_jax.fields import OrAuto
from sar_jax.training.settings import checks
from sar_jax.training.storage import workdir as workdir_lib

POSITIVE = [
    "steps",
    "data.max_prompt_tokens",
    "data.eval_questions",
    "optimizer.lr",
    "optimizer.clip_norm",
    "packing.row_tokens",
    "packing.rows_per_microbatch",
    "packing.logprob_chunk",
]
POSITIVE_TRAIN = [
    *POSITIVE,
    "rollout.questions",
    "rollout.samples",
    "rollout.max_answer_tokens",
    "loss.minibatch_questions",
    "loss.dual_clip",
    "evaluation.every_steps",
    "evaluation.batch",
    "logging.samples_every_steps",
    "checkpoint.every_steps",
    "checkpoint.keep",
]
POSITIVE_PRETRAIN = [
    *POSITIVE,
    "batch_examples",
    "log_every_steps",
    "eval_batch",
    "max_answer_tokens",
]
SHARED = [
    ("data.train", ""),
    ("model.dtype", "float16"),
    ("model.dtype", ""),
    ("prompt.standalone_context", "empty"),
    ("prompt.standalone_context", ""),
    ("optimizer.final_lr_fraction", -0.1),
    ("optimizer.final_lr_fraction", 1.1),
    ("packing.row_tokens", 256),
    ("optimizer.lr", float("nan")),
]
DECODER = [
    ("rollout.slots", 0),
    ("rollout.precision", "int4"),
    ("rollout.temperature", 0.0),
    ("rollout.temperature", -1.0),
    ("rollout.top_k", -1),
    ("rollout.top_p", 0.0),
    ("rollout.top_p", 1.1),
    ("rollout.top_p", -0.1),
    ("rollout.min_p", -0.1),
    ("rollout.min_p", 1.5),
    ("rollout.cache_dtype", "int4"),
    ("rollout.weights_dtype", "int4"),
    ("rollout.top_p", float("nan")),
]
FAULTS = (
    [(path, value) for path in POSITIVE_TRAIN for value in (0, -1)]
    + SHARED
    + DECODER
    + [
        ("model.path", ""),
        ("loss.minibatch_questions", 48),
        ("loss.minibatch_questions", 256),
        ("loss.kl", -0.001),
        ("packing.row_tokens", 5119),
        ("data.max_prompt_tokens", 1025),
        ("data.max_prompt_tokens", 2**20),
        ("loss.average", "token"),
        ("loss.ratio", "sequences"),
        ("loss.kl_estimator", "k4"),
        ("loss.importance_cap", 0.5),
        ("loss.importance_cap", -1.0),
        ("loss.old_logps", "sampler"),
        ("model.remat", "full"),
        ("packing.narrowest", 0),
        ("packing.narrowest", 3),
        ("packing.narrowest", 16),
        ("advantage.estimator", "rloo"),
        ("advantage.estimator", ""),
        ("self_aligned.form", "ratio"),
        ("self_aligned.cap", 1.0),
        ("self_aligned.cap", -2.0),
        ("self_aligned.copied_run", 1),
        ("self_aligned.copied_run", -8),
        ("self_aligned.peak_at", -0.1),
        ("self_aligned.peak_at", 1.1),
        ("self_aligned.target_share", 0.0),
        ("self_aligned.target_share", 1.0),
        ("guards.short_length", 1.0),
        ("guards.short_length", -0.1),
        ("guards.echo", 1.0),
        ("guards.echo", -0.1),
        ("guards.low_entropy", -0.1),
        ("guards.falling_evaluations", -1),
        ("guards.trend_steps", 7),
        ("guards.trend_steps", -1),
    ]
)
FAULTS_PRETRAIN = (
    [(path, value) for path in POSITIVE_PRETRAIN for value in (0, -1)]
    + SHARED
    + [
        ("empty_question_fraction", -0.1),
        ("empty_question_fraction", 1.0),
        ("max_answer_tokens", 4097),
        ("data.max_prompt_tokens", 4097),
    ]
)


def faulty(config, check, path, value):
    put(config, path, value)
    with pytest.raises(UserError) as error:
        check(config)
    message = str(error.value)
    assert re.search(rf"(config\.|\b){re.escape(path)}\b", message), message
    assert re.match(r"config\.\w", message) and "\n" not in message


@pytest.mark.parametrize("path, value", FAULTS)
def test_a_faulty_training_config_names_the_field(path, value):
    faulty(good(), checks.check, path, value)


@pytest.mark.parametrize("path, value", FAULTS_PRETRAIN)
def test_a_faulty_pretraining_config_names_the_field(path, value):
    faulty(good_pretrain(), checks.check_pretrain, path, value)


def test_a_row_that_holds_the_longest_sequence_exactly_is_wide_enough():
    config = good()
    config.data.max_prompt_tokens, config.rollout.max_answer_tokens, config.packing.row_tokens = (
        100,
        412,
        512,
    )
    checks.check(config)
    config.rollout.max_answer_tokens = 413
    with pytest.raises(UserError, match=r"config\.packing\.row_tokens is 512.*513"):
        checks.check(config)


@pytest.mark.parametrize(
    "path, value",
    [
        ("optimizer.final_lr_fraction", 0),
        ("loss.kl", 0),
        ("rewards.self_aligned", 0),
        ("rewards.length", -1.0),
        ("loss.minibatch_questions", 128),
        ("loss.minibatch_questions", 1),
        ("model.dtype", "float32"),
        ("prompt.standalone_context", "bos"),
        ("data.eval", ""),
        ("logging.samples_shown", 0),
        ("loss.importance_cap", 1.0),
        ("self_aligned.cap", 1.001),
        ("self_aligned.peak_at", 1.0),
        ("self_aligned.adaptive", True),
        ("guards.short_length", 0),
        ("guards.trend_steps", 0),
        ("guards.falling_evaluations", 0),
        ("guards.echo", 0),
    ],
)
def test_settings_at_the_edge_pass(path, value):
    config = good()
    put(config, path, value)
    checks.check(config)


@pytest.mark.parametrize(
    "settings, words",
    [
        (
            {"self_aligned.adaptive": True, "self_aligned.peak_at": 0.5},
            "config.self_aligned.peak_at must be 0",
        ),
        (
            {"self_aligned.adaptive": True, "rewards.self_aligned": 0.0},
            "config.rewards.self_aligned",
        ),
        ({"self_aligned.adaptive": True, "rewards.verifiable": 0.0}, "config.rewards.verifiable"),
        ({"self_aligned.adaptive": True, "rollout.samples": 1}, "config.rollout.samples"),
        (
            {"self_aligned.adaptive": True, "self_aligned.form": "difference"},
            "config.self_aligned.cap",
        ),
        ({"advantage.estimator": "leave_one_out", "rollout.samples": 1}, "config.rollout.samples"),
        ({"advantage.divide_by_std": True, "rollout.samples": 1}, "config.rollout.samples"),
        (
            {"advantage.estimator": "critic", "advantage.divide_by_std": True},
            "config.advantage.divide_by_std is true",
        ),
        (
            {"advantage.estimator": "critic", "loss.ratio": "sequence"},
            "config.loss.ratio is 'sequence'",
        ),
    ],
)
def test_what_does_not_go_together_is_named(settings, words):
    config = good()
    for path, value in settings.items():
        put(config, path, value)
    with pytest.raises(UserError) as error:
        checks.check(config)
    assert (
        words in str(error.value)
        and re.match(r"config\.\w", str(error.value))
        and "\n" not in str(error.value)
    )


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"loss.kl_estimator": "k1"}, "loss.kl_estimator is k1"),
        ({"loss.ratio": "sequence"}, "loss.ratio is sequence"),
        ({"self_aligned.form": "difference"}, "self_aligned.form is difference"),
        ({"rollout.weights_dtype": "int8"}, "rollout.weights_dtype is int8"),
        ({"rollout.cache_dtype": "int8"}, "rollout.cache_dtype is int8"),
        (
            {"rollout.top_p": 0.9, "rollout.temperature": 0.6},
            "drawn with temperature 0.6, top_p 0.9",
        ),
    ],
)
def test_what_works_but_is_no_use_is_warned_of(settings, words):
    config = good()
    for path, value in settings.items():
        put(config, path, value)
    checks.check(config)
    (warning,) = checks.warnings(config)
    assert words in warning
    config.loss.kl, config.loss.clip_low, config.loss.clip_high, config.self_aligned.cap = (
        0.0,
        3e-4,
        4e-4,
        20.0,
    )
    config.loss.importance_cap = 2.0
    assert checks.warnings(config) == []


def test_all_weights_zero_is_refused():
    config = good()
    config.rewards = config_lib.Rewards(verifiable=0, self_aligned=0)
    with pytest.raises(UserError, match=r"config\.rewards.*0"):
        checks.check(config)
    config.rewards.length = -0.1
    checks.check(config)


def test_the_self_aligned_reward_alone_is_warned_of():
    config = good()
    config.rewards.verifiable = 0.0
    checks.check(config)
    (warning,) = checks.warnings(config)
    assert "rewards.verifiable" in warning and "collapses" in warning
    config.rewards = config_lib.Rewards(verifiable=0.0, self_aligned=0.0, entropy_min=1.0)
    assert checks.warnings(config) == []


def test_one_sample_a_question_is_warned_of():
    config = good()
    config.rollout.samples = 1
    (warning,) = checks.warnings(config)
    assert "rollout.samples" in warning


@pytest.mark.parametrize(
    "path, value, words",
    [
        (
            "rollout.weights_dtype",
            "int8",
            "the decoder is rounded (config.rollout.weights_dtype=int8)",
        ),
        ("rollout.cache_dtype", "int8", "the decoder is rounded (config.rollout.cache_dtype=int8)"),
        ("loss.importance_cap", 2.0, "with config.loss.importance_cap > 0"),
    ],
)
def test_sampled_logprobs_are_the_policys(path, value, words):
    config = good()
    config.loss.old_logps = "sampled"
    checks.check(config)
    put(config, path, value)
    with pytest.raises(UserError, match=re.escape(words)):
        checks.check(config)


# To a dict and back


@pytest.mark.parametrize("cls", [TrainConfig, PretrainConfig])
def test_a_dict_and_json_give_the_config_back(cls):
    config = cls()
    for number, (path, kind) in enumerate(leaves(cls).items()):  # no field at its default
        values = {int: number + 7000, float: number + 0.5, bool: False, str: f"text {number}"}
        values[OrAuto] = "auto"
        put(config, path, typing.get_args(kind)[-1] if typing.get_args(kind) else values[kind])
    before = copy.deepcopy(config)
    for fields in (dataclasses.asdict(config), json.loads(config_lib.to_json(config))):
        back = config_lib.from_dict(cls, fields)
        assert back == config == before and back is not config
        assert all(
            type(getattr(back, f.name)) is type(getattr(config, f.name))
            for f in dataclasses.fields(cls)
        )
    assert config_lib.to_json(config).endswith("}\n")


def test_missing_fields_keep_their_defaults():
    config = config_lib.from_dict(TrainConfig, {"steps": 3, "loss": {"kl": 0.5}})
    assert (
        config.steps == 3
        and config.loss == config_lib.Loss(kl=0.5)
        and config.rollout == config_lib.Rollout()
    )


@pytest.mark.parametrize(
    "fields", [{"stepz": 3}, {"loss": {"stepz": 0.1}}, {"optimizer": {"lr": 1.0, "stepz": 1}}]
)
def test_an_unknown_field_raises_by_name(fields):
    with pytest.raises(UserError, match="unknown config field.*stepz"):
        config_lib.from_dict(TrainConfig, fields)


def test_a_workdir_from_before_a_field_was_dropped_is_read(tmp_path):
    """Fields that are gone say nothing of the weights; what is unknown is still refused."""
    from etils import epath

    fields = json.loads(config_lib.to_json(good()))
    fields["rollout"]["batch"] = 32
    (tmp_path / "config.json").write_text(json.dumps(fields))
    assert workdir_lib.read_config(epath.Path(tmp_path)) == good()
    fields["rollout"]["bath"] = 32
    (tmp_path / "config.json").write_text(json.dumps(fields))
    with pytest.raises(UserError, match="unknown config field.*bath"):
        workdir_lib.read_config(epath.Path(tmp_path))
