"""Plans: flops against what is known by hand, and the TPU compiler on a small slice."""

import copy
import dataclasses
import json
import math
import re

import jax
import jax.numpy as jnp
import pytest
from support.commands import ROOT, one_error, run_command
from support.plans import made

import sar_jax
from sar_jax import config as config_lib
from sar_jax.errors import UserError
from sar_jax.model import families, flops, known, lora, parameters
from sar_jax.model import network as network_lib
from sar_jax.model.network import Network
from sar_jax.parallel import chips, sharding
from sar_jax.planning import estimate, programs, roofline, tables
from sar_jax.training.api import calls

SMALL = f"{ROOT}/tests/support/planned.py"
libtpu = pytest.mark.skipif(not pytest.importorskip("libtpu"), reason="needs pip install libtpu")


# What is computed


@pytest.mark.parametrize("family", ["Qwen/Qwen3-1.7B-Base", "microsoft/Phi-3.5-mini-instruct"])
def test_flops_by_hand_are_those_that_xla_counts(family):
    """Of one layer, whose scan runs once; XLA counts the elementwise work too, which is small at
    real widths."""
    raw = known.CONFIGS[family] | {"num_hidden_layers": 1, "vocab_size": 256}
    cfg = families.parse(raw, 512)
    network = Network(cfg, "float32", remat="none")
    params = parameters.spec_map(
        lambda s: jax.ShapeDtypeStruct(s.shape, jnp.float32), parameters.param_specs(cfg)
    )
    tokens = jax.ShapeDtypeStruct((1, 256), jnp.int32)

    def logits(params, tokens):
        return network_lib.unembed(
            network, params, network_lib.forward(network, params, tokens, tokens, tokens)
        )

    counted = jax.jit(logits).lower(params, tokens).compile().cost_analysis()["flops"]
    blocks = 1.25  # attention in four blocks of queries over the keys up to their end
    assert flops.forward_flops(cfg, 256, 128 * blocks) == pytest.approx(counted, rel=0.03)


@pytest.mark.parametrize("row_tokens", [1024, 2048])
def test_segments_of_a_block_each_leave_that_block_to_the_fused_kernel(row_tokens):
    """Sequences of 406 + 106 tokens, which is a block; XLA's attention skips the upper half."""
    config = config_lib.TrainConfig()
    config.packing.row_tokens = row_tokens
    config.rollout.max_answer_tokens = 106  # all of them: the mean is the limit
    keys = {
        kernel: roofline.packed_rows(config, roofline.Work(406, 106, 1, 1), kernel).asked_keys
        for kernel in ("xla", "splash")
    }
    assert keys == {"xla": row_tokens / 2, "splash": 512}


SCORING = [  # with the standalone pass, of as many rows
    ("scored, no reference", {"old_logps": "scored", "kl": 0.0}, 20),
    ("scored", {"old_logps": "scored", "kl": 0.001}, 30),
    ("sampled", {"old_logps": "sampled", "kl": 0.001}, 20.4),
    ("sampled, no reference", {"old_logps": "sampled", "kl": 0.0}, 10.4),
]


@pytest.mark.parametrize("loss, count", [c[1:] for c in SCORING], ids=[c[0] for c in SCORING])
def test_a_step_scores_what_the_loss_asks_for(loss, count):
    """Ten micro-batches after questions, and ten standalone; one step in 25 measures the gap."""
    config = config_lib.TrainConfig(loss=config_lib.Loss(**loss))
    config.evaluation.every_steps = 25
    network = Network(families.parse(known.CONFIGS["google/gemma-3-1b-it"], 5120))
    residents = programs.Residents(*[0] * len(programs.Residents._fields))
    rows = roofline.Rows(10, 10, 1, 100, 100, 0.5, 0.5)
    found = roofline.learner_calls(config, network, residents, roofline.Work(9, 9, 1, 1), rows)
    assert found["score"].calls == pytest.approx(count)
    assert found["gradient"].calls == 10


def test_windows_bound_what_attention_costs():
    cfg = families.parse(known.CONFIGS["google/gemma-3-1b-it"], 5120)
    seen = 4 * 2500 + 22 * 512  # of 26 layers four see everything
    assert flops.attention_flops(cfg, 2500) == 4 * cfg.num_heads * cfg.head_dim * seen


@pytest.mark.parametrize(
    "name, billions",
    [
        ("Qwen/Qwen3-1.7B-Base", 1.72),
        ("Qwen/Qwen3-4B-Base", 4.02),
        ("microsoft/Phi-3.5-mini-instruct", 3.82),
        ("google/gemma-3-1b-it", 1.0),
    ],
)
def test_published_descriptions_have_the_published_sizes(name, billions):
    cfg = families.parse(known.CONFIGS[name], 5120)
    assert parameters.count_params(cfg) == pytest.approx(billions * 1e9, rel=0.005)
    own_head = 0 if cfg.tied else cfg.vocab_size * cfg.embed_dim
    counted = flops.layer_params(cfg) + flops.head_params(cfg)
    assert counted == parameters.count_params(cfg) - own_head


def test_a_call_takes_as_long_as_its_slowest_limit():
    chip = chips.Chip("", hbm=1, flops=10.0, bandwidth=100.0, interconnect=1000.0)
    found = roofline.limits(roofline.Call(20, 300, 1), 5000, chip)
    assert found == (2, 3, 5) and found.longest == 5
    unknown = roofline.limits(roofline.Call(20, 300, 1), None, chip)
    assert unknown == (2, 3, None) and unknown.longest == 3


# What fits


@pytest.mark.parametrize(
    "program, said, unsaid",
    [
        ("gradient", "rows_per_microbatch=8", "rollout.slots"),
        ("decode", "rollout.slots=48", "rows_per_microbatch"),
        ("shrink", "rollout.cache_dtype=int8", "weights_dtype"),
        ("score", "logprob_chunk=2048", "rollout.slots"),
        ("apply", "mu_dtype=bfloat16", "rows_per_microbatch"),
    ],
)
def test_advice_follows_what_does_not_fit(program, said, unsaid):
    config = config_lib.TrainConfig()
    config.packing.rows_per_microbatch = 16
    lines = "\n".join(tables.advice(config, made({program: math.inf})))
    assert said in lines and unsaid not in lines and "--topology=v5e:4x4" in lines


@pytest.mark.parametrize("kept", [True, False])
def test_logits_that_are_kept_may_be_made_again(kept):
    config = config_lib.TrainConfig()
    config.model.keep_logits = kept
    lines = "\n".join(tables.advice(config, made({"gradient": math.inf})))
    assert ("--config.model.keep_logits=false" in lines) == kept


def test_advice_is_what_the_config_has_not_done_yet():
    config = config_lib.TrainConfig()
    config.optimizer.mu_dtype, config.model.offload_reference, config.model.remat = (
        "bfloat16",
        True,
        "dots",
    )
    config.rollout.cache_dtype = "int8"
    lines = "\n".join(tables.advice(config, made({"gradient": 11.0, "decode": 11.0})))
    assert "mu_dtype" not in lines and "offload_reference" not in lines and "remat=block" in lines
    assert "cache_dtype" not in lines and "weights_dtype=int8" in lines


@pytest.mark.parametrize(
    "copies, data, devices, advised",
    [
        (4.6, 1, 256, True),
        (6.5, 1, 64, True),
        (3.9, 1, 256, False),
        (4.6, 4, 256, False),
        (4.6, 1, 8, False),
    ],
)
def test_a_model_cut_over_very_many_devices_is_worth_a_word(copies, data, devices, advised):
    config = config_lib.TrainConfig()
    config.mesh.data = data
    line = tables._sent(config, made({}, devices), copies)
    assert f"sends {copies} times" in line and ("--config.mesh.data=4" in line) == advised


@pytest.mark.parametrize("name", ["v6e:3x5", "v6e", "v9:2x4", "v6e:2x4x2", "v5e:0x4", "2x4"])
def test_an_unknown_slice_lists_the_known_ones(name):
    with pytest.raises(UserError, match="v5e:2x4|v5e:2x2, 2x4"):
        chips.describe(name)


def tiny_plan(tmp_path, *arguments, **how):
    return run_command(
        "sar_jax.plan",
        f"--config={SMALL}",
        f"--json={tmp_path}/plan.json",
        *arguments,
        **how,
    )


@pytest.mark.parametrize("network, total", [(0.5, 1.0), (None, 1.0), (None, math.inf)])
def test_what_a_program_sends_is_said_to_be_unknown_where_it_is(network, total):
    """Not of one that does not fit: of that nothing is known, and the table says so."""
    plan = made({"score": total})
    times = {"score": estimate.Time(1, 1e12, 0.1, 0.2, network, 0.2)}
    text = "\n".join(
        tables._times(config_lib.TrainConfig(), dataclasses.replace(plan, times=times))
    )
    assert ("not known" in text.split("packed rows")[0]) == (network is None)
    assert ("sent to other devices by score" in text) == (network is None and total == 1)


# What a plan says on stderr, and nothing else: libtpu has warnings of its own.
SAID = re.compile(
    r"loading JAX and what a run consists of"
    r"|(v[56]e:2x2: )?(reading|describing|tracing|compiling) .*\(\d+ s so far\)"
)


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """What a plan of two slices printed, and its figures."""
    folder = tmp_path_factory.mktemp("swept")
    result = tiny_plan(folder, "--sweep=v5e:2x2,v6e:2x2", "--answer_tokens=40", real=True)
    assert result.returncode == 0, result.stderr[-2000:]
    return result, json.loads((folder / "plan.json").read_text())


@libtpu
def test_the_tiny_config_fits_two_slices(swept):
    result, written = swept
    plan, other = written["slices"]
    assert set(plan["programs"]) == {
        "hand_over",
        "prefill",
        "insert",
        "decode",
        "shrink",
        "score",
        "gradient",
        "apply",
        "cast",
    }
    assert plan["peak"] < 2**28 and plan["residents"]["moments"] == pytest.approx(
        2 * plan["residents"]["masters"], rel=0.01
    )
    assert plan["residents"]["masters"] == pytest.approx(
        4 * 0.66e6 / 2, rel=0.3
    )  # norms are on every chip
    assert (
        plan["chip_hours"] == pytest.approx(4 * plan["hours"])
        and plan["programs"]["gradient"]["sent"] > 0
    )
    assert other["step_seconds"] < plan["step_seconds"]
    rows = {
        name: line
        for line in result.stdout.splitlines()
        for name in ("v5e:2x2", "v6e:2x2")
        if line.startswith(f"{name} ")
    }
    assert len(rows) == 2 and all(" yes " in row for row in rows.values())


@libtpu
def test_a_plan_that_was_made_before_compiles_nothing(swept, tmp_path, tpu_compiler, capfd):
    first, plan = swept
    options = ("--topology=v5e:2x2", "--answer_tokens=40")
    again = tiny_plan(tmp_path, *options, f"--html={tmp_path}/new/plan.html", real=True)
    page = (tmp_path / "new" / "plan.html").read_text()
    assert "v5e:2x2" in page and "gradient" in page and "<h1>arithmetic" not in page
    rows = [line.split() for line in again.stdout.splitlines()]
    rows = {row[0]: row[1:] for row in rows if row and row[0] in plan["slices"][0]["programs"]}
    table = again.stdout.split("\n\n")[1]  # of memory
    assert table.count(" cached\n") == len(rows) and "gradient" in rows
    for done in (first, again):
        assert all(SAID.fullmatch(line) for line in done.stderr.splitlines()), done.stderr
    assert "compiling" not in again.stderr
    found = json.loads((tmp_path / "plan.json").read_text())
    assert set(found["sources"]) == {"compiled", "counted", "estimated", "published", "measured"}
    assert without_cached(found) == without_cached(plan | {"slices": plan["slices"][:1]})

    capfd.readouterr()
    settings = calls.as_config(SMALL)
    called = sar_jax.plan(settings, "v5e:2x2", answer_tokens=40).to_json()
    assert capfd.readouterr() == ("", "")  # a call says nothing
    assert all(program["cached"] for program in called["programs"].values())
    assert json.loads(json.dumps(called)) == found["slices"][0]
    sar_jax.plan(settings, "v5e:2x2", answer_tokens=40, progress=True)
    out, err = capfd.readouterr()
    assert not out and all(SAID.fullmatch(line) for line in err.splitlines()) and err


def without_cached(plans):
    """Their figures, but for whether a program was compiled before."""
    plans = copy.deepcopy(plans)
    for plan in plans["slices"]:
        for program in plan["programs"].values():
            program.pop("cached")
    return plans


@libtpu
def test_what_does_not_fit_says_so_and_what_would_help(tmp_path):
    """The cache of a million answers at once."""
    result = tiny_plan(
        tmp_path,
        "--topology=v5e:2x2",
        f"--config.rollout.slots={2**20}",
        "--config.rollout.tensor=1",
    )
    assert result.returncode == 0, result.stderr[-2000:]
    assert "does not fit" in result.stdout and "--config.rollout.slots=524288" in result.stdout
    assert (
        "--topology=v5e:2x4" in result.stdout
        and "rows_per_microbatch" not in result.stdout.split("does not fit")[1]
    )
    (plan,) = json.loads((tmp_path / "plan.json").read_text())["slices"]
    fits = {
        name: p["total"] is not None and p["total"] < plan["hbm"]
        for name, p in plan["programs"].items()
    }
    assert not fits["decode"] and all(
        fits[name] for name in ("score", "gradient", "apply", "cast", "hand_over")
    )


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "give --topology=v6e:2x4, or several slices"),
        (["--topology=v6e:2x4", "--sweep=v6e:2x4"], "give either --topology"),
        (["--topology=v6e:2x5"], "--topology is 'v6e:2x5'"),
        (["--topology=v6e:2x4", "--html=/"], "--html is '/': name a file"),
        (["--topology=v6e:2x4", "--html="], "--html is '': name a file"),
        (["--topology=v6e:2x4", "--html=README.md/x.html"], "README.md: "),
        (["--topology=v5e:2x2", "--config.mesh.tensor=4", "--config.mesh.data=1"], "2 kv heads"),
        (["--topology=v5e:2x2", "--config.mesh.fsdp=3"], "does not multiply to the 4 devices"),
    ],
)
def test_bad_input_is_one_error(tmp_path, arguments, message):
    result = tiny_plan(tmp_path, *arguments)
    assert message in one_error(result)
    assert not (tmp_path / "plan.json").exists()


def test_rows_are_raised_to_what_the_devices_share_and_the_overrides_named():
    config, mesh = config_lib.TrainConfig(), sharding.make_mesh(1, 8, 1)
    config.packing.rows_per_microbatch = 16
    assert estimate.with_rows_that_fit(config, mesh) == (config, [])
    config.packing.rows_per_microbatch = 12
    raised, overrides = estimate.with_rows_that_fit(config, mesh)
    assert overrides == ["--config.packing.rows_per_microbatch=16"]
    assert raised.packing.rows_per_microbatch == 16
    assert config.packing.rows_per_microbatch == 12  # the user's own stays


# With a critic, and with adapters


@pytest.mark.parametrize("rank, estimator", [(0, "critic"), (3, "group")])
def test_programs_of_critics_and_adapters_are_those_of_a_run(loaded, rank, estimator):
    """Each can be traced, and what stays in memory is what by hand: bytes on one of eight
    devices."""
    config = config_lib.TrainConfig(
        lora=config_lib.Lora(rank=rank), advantage=config_lib.Advantage(estimator=estimator)
    )
    config.model.dtype, config.packing = (
        "bfloat16",
        config_lib.Packing(row_tokens=64, rows_per_microbatch=8),
    )
    config.data.max_prompt_tokens, config.rollout.max_answer_tokens = 16, 16
    mesh = sharding.make_mesh(8, 1, 1)  # copies: every parameter is whole on each
    described = programs.describe(config, loaded.cfg, mesh)
    found, residents = described.programs, described.residents
    for program in found.values():
        with jax.sharding.use_abstract_mesh(program.mesh.abstract_mesh):
            program.lower()
    whole = parameters.count_params(loaded.cfg)
    if rank:
        cfg = lora.adapted(loaded.cfg, config.lora)
        thin = sum(math.prod(s.shape) for s in lora.specs(cfg)["layers"].values())
        assert (
            residents.masters == 4 * thin
            and residents.base == 2 * whole
            and residents.reference == 2 * thin
        )
        assert {"fold", "score", "gradient"} <= set(found) and residents.critic == 0
        assert found["apply"].beside == residents.base + residents.reference
    else:
        values = whole + loaded.cfg.embed_dim  # tied: no head to leave out
        assert (
            abs(residents.critic - 3 * 4 * values) < 64 and residents.masters == 4 * whole
        )  # and Adam's counts
        assert {"value", "value_gradient", "value_apply"} <= set(found) and residents.base == 0
