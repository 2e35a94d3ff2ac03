"""The defaults are the published settings, no option is accepted and ignored, and a choice is
answered with those that there are."""

import ast
import dataclasses
import pathlib
import typing

import pytest
from support.configs import good, good_pretrain, leaves, put
from support.training import shipped

from sar_jax import config as config_lib
from sar_jax.config import Data, PretrainConfig, TrainConfig
from sar_jax.errors import UserError
from sar_jax.fields import OrAuto
from sar_jax.model import network, remat
from sar_jax.rl import advantages as advantages_lib
from sar_jax.rl import losses, rewards
from sar_jax.training.settings import checks, derived, rules

PACKAGE = pathlib.Path(config_lib.__file__).parent


# The published settings


@pytest.mark.parametrize(
    "path, value",
    [
        ("rollout.questions", 128),
        ("rollout.samples", 6),
        ("loss.minibatch_questions", 64),
        ("steps", 500),
        ("rollout.max_answer_tokens", 4096),
        ("data.max_prompt_tokens", 1024),
        ("loss.clip_low", 0.2),
        ("loss.clip_high", 0.2),
        ("loss.dual_clip", 3.0),
        ("loss.kl", 0.001),
        ("rewards.verifiable", 1.0),
        ("rewards.self_aligned", 0.2),
        ("rewards.entropy_min", 0.0),
        ("rewards.o1_pruner", 0.0),
        ("rewards.efficient_reasoner", 0.0),
        ("rewards.length", 0.0),
        ("prompt.standalone_context", "empty_question"),
        ("self_aligned.form", "relative"),
        ("self_aligned.cap", 0.0),
        ("self_aligned.peak_at", 0.0),
        ("self_aligned.adaptive", False),
        ("advantage.estimator", "group"),
        ("advantage.divide_by_std", False),
        ("loss.average", "limit"),
        ("loss.ratio", "token"),
        ("loss.kl_estimator", "k3"),
        ("loss.importance_cap", 0.0),
        ("loss.mask_clipped", False),
        ("optimizer.lr", 1e-6),
        ("optimizer.b1", 0.9),
        ("optimizer.b2", 0.999),
        ("optimizer.eps", 1e-8),
        ("optimizer.weight_decay", 0.01),
        ("optimizer.clip_norm", 1.0),
        ("optimizer.warmup_updates", 0),
        ("optimizer.final_lr_fraction", 1.0),
        ("model.dtype", "bfloat16"),
    ],
)
def test_defaults_are_the_published_settings(path, value):
    config = TrainConfig()
    for name in path.split("."):
        config = getattr(config, name)
    assert config == value


def test_the_published_settings_pass_the_checks_without_a_warning():
    checks.check(good())
    checks.check_pretrain(good_pretrain())
    assert checks.warnings(good()) == []


SHIPPED = sorted((PACKAGE.parent / "configs").glob("*.py"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
def test_shipped_configs_are_sound_and_open_with_their_command(path):
    config = shipped(path.stem)
    assert config.data.train and config.data.eval
    if isinstance(config, PretrainConfig):
        checks.check_pretrain(config)
    else:
        checks.check(config)
        assert checks.warnings(config) == []
    doc = ast.get_docstring(ast.parse(path.read_text()))
    assert f"--config=configs/{path.name}" in doc.split("\n\n")[1]


@pytest.mark.parametrize("name", ["qwen3_1p7b", "qwen3_4b", "phi35_mini", "gemma3_1b"])
def test_the_four_models_have_the_published_settings(name):
    """But for the model and for how many rows are worked on at once, which changes no value. The
    data: the published mix."""
    config = shipped(name)
    published = TrainConfig(
        model=config.model,
        packing=config.packing,
        evaluation=config.evaluation,
        rollout=dataclasses.replace(config_lib.Rollout(), slots=config.rollout.slots),
        data=Data(train="math+numina+gsm8k", eval="math+numina+gsm8k"),
    )
    assert config == published and config.model.dtype == "bfloat16"
    assert config.evaluation.every_steps == config_lib.Evaluation().every_steps


def test_two_configs_share_nothing():
    one, other = TrainConfig(), TrainConfig()
    one.optimizer.lr = 1.0
    assert other.optimizer.lr == TrainConfig().optimizer.lr == 1e-6


# Every field is read


def section_of(node: ast.AST, sections: set[str], bound: dict[str, str]) -> str | None:
    """The section that an expression is: `<...>.loss`, or a name that is bound to one. "" is the
    whole config."""
    name = (
        node.attr
        if isinstance(node, ast.Attribute)
        else node.id
        if isinstance(node, ast.Name)
        else None
    )
    if name in bound:
        return bound[name]
    if (
        isinstance(node, ast.Attribute)
        and name in sections
        and section_of(node.value, sections, bound) == ""
    ):
        return name
    return "" if name == "config" else None


def bindings(tree: ast.AST, classes: dict[str, str], sections: set[str]) -> dict[str, str]:
    """Names that stand for a section within one function: annotated parameters, and plain
    assignments."""
    bound: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.arg) and node.annotation is not None:
            kind = ast.unparse(node.annotation).split(".")[-1]
            bound |= {node.arg: classes[kind]} if kind in classes else {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            target, value = node.targets[0], node.value
            both = isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple)
            for to, what in zip(target.elts, value.elts) if both else [(target, value)]:
                found = section_of(what, sections, bound)
                if found is not None:
                    bound[to.attr if isinstance(to, ast.Attribute) else ast.unparse(to)] = found
    return bound


def reads(source: str, cls: type) -> set[str]:
    """Paths of `cls` that a source reads: `config.loss.kl`, `cfg.kl` of a `cfg: Loss`, a whole
    `vars(config.loss)`.

    A name alone is not enough: `x.steps` of some other x does not count as reading the field
    `steps`."""
    sections = {f.name: f.type for f in dataclasses.fields(cls) if dataclasses.is_dataclass(f.type)}
    classes = {kind.__name__: name for name, kind in sections.items()} | {cls.__name__: ""}
    found = set()
    for top in ast.parse(
        source
    ).body:  # a function or a class: `self.config` is bound in __init__, read in methods
        bound = bindings(top, classes, set(sections))
        for node in ast.walk(top):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
                owner = section_of(node.value, set(sections), bound)
                if owner is not None:
                    found.add(f"{owner}.{node.attr}".lstrip("."))
            elif isinstance(node, ast.Call) and ast.unparse(node.func) in (
                "dataclasses.asdict",
                "vars",
            ):
                owner = section_of(node.args[0], set(sections), bound)
                if owner:
                    found |= {f"{owner}.{f.name}" for f in dataclasses.fields(sections[owner])}
    return found


# A file that belongs to the other command proves nothing.
OTHERS = {
    TrainConfig: {"config", "checks", "pretrain"},
    PretrainConfig: {"config", "checks", "train", "experience"},
}


def unread(cls: type) -> set[str]:
    files = [f for f in PACKAGE.rglob("*.py") if f.stem not in OTHERS[cls]]
    return set(leaves(cls)) - set().union(*(reads(f.read_text(), cls) for f in files))


@pytest.mark.parametrize("cls", [TrainConfig, PretrainConfig])
def test_every_field_is_read_somewhere(cls):
    assert unread(cls) == set()


@pytest.mark.parametrize("cls", [TrainConfig, PretrainConfig])
@pytest.mark.parametrize("name", ["brand_new", "path", "tokens", "shape", "lr", "samples", "batch"])
def test_a_field_that_nobody_reads_is_found(cls, name, monkeypatch):
    """Added to the config and to each section, under a name that other objects have too."""

    def add(kind, **sections):
        new = [] if name in {f.name for f in dataclasses.fields(kind)} else [(name, int, 0)]
        old = [(n, s, dataclasses.field(default_factory=s)) for n, s in sections.items()]
        return dataclasses.make_dataclass(kind.__name__, new + old, bases=(kind,))

    # these are read whole
    sections = {
        f.name: add(f.type)
        for f in dataclasses.fields(cls)
        if dataclasses.is_dataclass(f.type) and f.name not in ("mesh", "prompt", "rewards")
    }
    wider = add(cls, **sections)
    monkeypatch.setitem(OTHERS, wider, OTHERS[cls])
    assert unread(wider) == set(leaves(wider)) - set(leaves(cls)) != set()


@pytest.mark.parametrize(
    "source, found",
    [
        ("def f(config):\n    return config.loss.kl", {"loss.kl"}),
        ("def f(run):\n    return run.config.loss.kl", {"loss.kl"}),
        ("def f(cfg: config_lib.Loss):\n    return cfg.kl", {"loss.kl"}),
        ("def f(config):\n    loss, x = config.loss, 1\n    return loss.kl", {"loss.kl"}),
        (
            "def f(config):\n    return dataclasses.asdict(config.checkpoint)",
            {"checkpoint.every_steps", "checkpoint.keep", "checkpoint.retry_seconds"},
        ),
        ("def f(config):\n    config.loss.kl = 1", set()),
        ("def f(cfg, other):\n    return cfg.kl, other.loss.kl, kl", set()),
        ("def f(config):\n    'config.loss.kl'", set()),
    ],
)
def test_what_counts_as_reading(source, found):
    assert reads(source, TrainConfig) & set(leaves(TrainConfig)) == found


# Choices


CHOICES = {
    "model.dtype": "'bfloat16' or 'float32'",
    "model.attention": "'auto', 'xla', 'splash' or 'cudnn'",
    "model.remat": "'none', 'dots', 'dots_but_up', 'block' or 'offload'",
    "rollout.precision": "'' or 'int8'",
    "prompt.standalone_context": "'empty_question' or 'bos'",
    "prompt.format": "'auto', 'chat' or 'plain'",
    "prompt.thinking": "'default', 'on' or 'off'",
    "rollout.cache_dtype": "'', 'bfloat16', 'float32' or 'int8'",
    "rollout.weights_dtype": "'' or 'int8'",
    "self_aligned.form": "'relative', 'log' or 'difference'",
    "advantage.estimator": "'group', 'leave_one_out' or 'critic'",
    "loss.average": "'limit', 'tokens' or 'sequences'",
    "loss.ratio": "'token' or 'sequence'",
    "loss.old_logps": "'scored' or 'sampled'",
    "loss.kl_estimator": "'k1', 'k2' or 'k3'",
    "optimizer.mu_dtype": "'float32' or 'bfloat16'",
}


def chosen(cls: type) -> dict[str, tuple[str, ...]]:
    """The fields that take only some values, and these."""
    return {path: typing.get_args(kind) for path, kind in leaves(cls).items() if kind not in PLAIN}


PLAIN = (int, float, bool, str, OrAuto)


@pytest.mark.parametrize("path", CHOICES)
def test_a_choice_that_there_is_not_is_answered_with_those_that_there_are(path):
    faults = [(good(), checks.check)]
    if path in leaves(PretrainConfig):
        faults.append((good_pretrain(), checks.check_pretrain))
    for config, check in faults:
        put(config, path, "x")
        with pytest.raises(UserError) as error:
            check(config)
        assert str(error.value) == f"config.{path} is 'x': it must be {CHOICES[path]}"


def test_every_choice_that_there_is_passes():
    assert chosen(TrainConfig).keys() == CHOICES.keys()
    assert chosen(PretrainConfig).items() <= chosen(TrainConfig).items()
    for path, choices in chosen(TrainConfig).items():
        for choice in choices:
            config = good()
            put(config, path, choice)
            checks.check(config)


def test_the_choices_are_those_that_the_package_has():
    """The tables by name, one function for each choice; "critic" estimates with a model."""
    tables = {
        "loss.average": losses.DIVISORS,
        "loss.ratio": losses.LOG_RATIOS,
        "loss.kl_estimator": losses.KL_ESTIMATORS,
        "self_aligned.form": rewards.SELF_ALIGNED,
        "advantage.estimator": {**advantages_lib.ADVANTAGES, "critic": None},
        "model.attention": {**network._KERNELS, "auto": None},
        "model.remat": dict.fromkeys(remat.POLICIES),
    }
    for path, table in tables.items():
        assert sorted(table) == sorted(chosen(TrainConfig)[path]), path
    assert losses.TOKEN_WEIGHTS.keys() == losses.DIVISORS.keys()
    assert rewards.REWARDS.keys() == derived.reward_weights(TrainConfig()).keys()


def test_what_a_field_must_be_is_of_a_field():
    """A rule for a field that there is not would never be seen to fail."""
    training = rules.SHARED | rules.TRAINING | rules.DECODING
    assert training.keys() <= leaves(TrainConfig).keys()
    assert (rules.SHARED | rules.PRETRAINING).keys() <= leaves(PretrainConfig).keys()
