"""`plan --advise` over slices: what it compiles, what it finds best, and what it says."""

import dataclasses
import math

import numpy as np
import pytest
from support.commands import ROOT
from support.plans import made

from sar_jax import config as config_lib
from sar_jax.errors import UserError
from sar_jax.model import families, known
from sar_jax.parallel import chips
from sar_jax.planning import arithmetic, prices, recommended, search
from sar_jax.planning.estimate import Measured, Time
from sar_jax.planning.roofline import Limits
from sar_jax.planning.search import Candidate, Search
from sar_jax.training.settings import config_files

libtpu = pytest.mark.skipif(not pytest.importorskip("libtpu"), reason="needs pip install libtpu")
HOUR = 3600.0
CONFIG = dataclasses.replace(config_lib.TrainConfig(), steps=1)


def plan(topology, count, seconds, peak, hbm):
    """Of a run whose gradient takes `peak` bytes."""
    programs = {"gradient": Measured(peak, 0, 1.0, 1)}
    changes = dict(programs=programs, peak=peak, hbm=hbm, step_seconds=seconds)
    return dataclasses.replace(made({}), topology=topology, chips=count, **changes)


def of(topology, chips_, hours, words=(), gradient=1.0, slots=96, network=0.0, data=1):
    sections = dict(rollout={"slots": slots}, model={"path": " ".join(words)}, mesh={"data": data})
    config = arithmetic.changed(CONFIG, **sections)
    limits = {"gradient": (1, Limits(hours * HOUR, 0.0, network * HOUR))}
    guess = arithmetic.Guess(config, gradient, 1.0, limits)
    return Candidate(topology, chips_, CONFIG, guess)


def name(candidate):
    return candidate.config.model.path


def drawn(rng):
    """Slices with settings: what arithmetic says of them, and what a compiler would. The compiler
    may find that more is sent, or less, and that all settings of a slice take more memory."""
    found, truth = {}, {}
    for i in range(6):
        topology, count = f"v6e:{i}", 2**i
        rows, larger = [], float(rng.choice([0.9, 1.2, 1.6]))
        for j in range(8):
            hours, network, sent = rng.uniform(1, 10, 3) / count
            memory = float(rng.choice([0.5, 0.6, 0.75, 0.95]))
            words, data = [f"{i}.{j}"], int(rng.choice([1, 2, 4]))
            rows.append(of(topology, count, hours, words, memory, network=network, data=data))
            times = {"gradient": Time(1, 0.0, hours * HOUR, 0.0, sent * HOUR, 0.0)}
            seconds = max(hours, sent) * HOUR
            made = plan(topology, count, seconds, memory * larger, hbm=0.95)
            truth[name(rows[-1])] = dataclasses.replace(made, times=times)
        found[topology] = sorted(rows, key=lambda row: row.seconds)
    return found, truth


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("value", ["chip_hours", "hours"])
def test_the_best_fit_and_come_in_order(seed, value):
    found, truth = drawn(np.random.default_rng(seed))
    compiled = []

    def make(candidate):
        compiled.append(name(candidate))
        return truth[name(candidate)]

    best = Search(found, make).best(lambda c: getattr(c, value))
    assert len(compiled) == len(set(compiled)) < len(truth)
    assert all(c.plan is truth[name(c)] and c.plan.fits() for c in best)
    values = [getattr(c, value) for c in best]
    assert values == sorted(values) and len({c.topology for c in best}) == len(best)
    fitting = {c.topology for rows in found.values() for c in rows if truth[name(c)].fits()}
    assert len(best) == min(3, len(fitting))


@pytest.mark.parametrize("seed", range(40))
def test_of_a_slice_nothing_that_fits_is_faster_by_a_hundredth(seed):
    """Where each setting has a mesh of its own, so that none says anything of another."""
    found, truth = drawn(np.random.default_rng(seed))
    for rows in found.values():
        rows = [
            dataclasses.replace(row, guess=row.guess._replace(config=apart))
            for i, row in enumerate(rows)
            if (apart := arithmetic.changed(row.config, mesh={"data": i + 1}))
        ]
        one = Search({rows[0].topology: rows}, lambda c: truth[name(c)])
        best = one.best(lambda c: c.hours)
        fitting = [truth[name(row)].step_seconds for row in rows if truth[name(row)].fits()]
        assert bool(best) == bool(fitting)
        assert not best or best[0].seconds * 0.99 <= min(fitting)


def test_what_the_compiler_says_is_sent_is_believed_of_the_same_mesh():
    """It is half of what the arithmetic says, so the second is not compiled: nothing says that it
    would be faster. The third has another mesh, and is; the last one would be slower even if it
    sent nothing."""
    sent = lambda hours: {"gradient": Time(1, 0.0, 0.0, 0.0, hours * HOUR, 0.0)}
    rows = [
        of("it", 8, 1.0, ["first"], network=4.0),
        of("it", 8, 1.5, ["slower"], network=4.2),
        of("it", 8, 0.5, ["faster"], network=4.4, data=2),
        of("it", 8, 2.5, ["hopeless"], network=4.5, data=4),
    ]
    truth = {"first": (2.0, 2.0), "slower": (2.1, 2.1), "faster": (1.8, 1.8)}
    tried = []

    def make(candidate):
        tried.append(name(candidate))
        seconds, network = truth[name(candidate)]
        made = plan("it", 8, seconds * HOUR, 0.5, hbm=0.95)
        return dataclasses.replace(made, times=sent(network))

    (best,) = Search({"it": rows}, make).best(lambda c: c.hours)
    assert tried == ["first", "faster"] and name(best) == "faster"


def test_settings_that_use_the_hosts_memory_are_not_tried_for_speed():
    rows = [of("it", 8, 2.0, ["here"]), of("it", 8, 1.0, ["there"])]
    config = arithmetic.changed(rows[1].config, model={"offload_reference": True})
    rows[1] = dataclasses.replace(rows[1], guess=rows[1].guess._replace(config=config))
    (best,) = Search({"it": rows}, lambda c: plan("it", 8, c.seconds, 0.5, 0.95)).best(
        lambda c: c.hours
    )
    assert name(best) == "here"


def test_a_second_ranking_compiles_nothing_twice():
    found, truth = drawn(np.random.default_rng(0))
    compiled = []
    one = Search(found, lambda c: compiled.append(name(c)) or truth[name(c)])
    first = one.best(lambda c: c.hours)
    count = len(compiled)
    assert one.best(lambda c: c.hours) == first and len(compiled) == count
    one.best(lambda c: c.chip_hours)
    assert len(compiled) == len(set(compiled))


def test_what_is_out_of_the_question_is_not_compiled():
    found, truth = drawn(np.random.default_rng(1))
    compiled = []
    one = Search(found, lambda c: compiled.append(c.chips) or truth[name(c)])
    best = one.best(lambda c: c.hours if c.chips >= 16 else math.inf)
    assert best and min(compiled) >= 16  # of two slices, though three would be asked for


def test_settings_that_take_hardly_less_than_what_did_not_fit_are_not_tried():
    rows = [of("v6e:2x4", 8, 1.0 + i, [str(i)], gradient=g) for i, g in enumerate((1.0, 0.97, 0.9))]
    tried = []

    def make(candidate):
        tried.append(name(candidate))
        return plan("v6e:2x4", 8, HOUR, candidate.guess.gradient, hbm=0.95)

    (best,) = Search({"v6e:2x4": rows}, make).best(lambda c: c.hours)
    assert tried == ["0", "2"] and name(best) == "2"


def test_slices_are_those_of_the_chips_that_are_asked_for():
    assert search.slices(["v6e", "tpu7x"], 8) == [
        "v6e:2x2",
        "v6e:2x4",
        "tpu7x:2x2x1",
        "tpu7x:2x2x2",
    ]
    with pytest.raises(UserError, match="'v9' is no chip; there are v4, v5e"):
        search.slices(["v9"], 8)
    with pytest.raises(UserError, match="the smallest slice has more"):
        search.slices(["v6e"], 1)


@pytest.fixture(scope="module")
def qwen():
    config = config_files.load_config(f"{ROOT}/configs/qwen3_1p7b.py", config_lib.TrainConfig)
    cfg = families.parse(known.CONFIGS[config.model.path], config_lib.max_length(config))
    return search.Asked(config, cfg, 150.0, 900.0)


PACKED = {}  # rows, of the same questions for all


def candidates(asked, topology):
    return search.candidates(asked, topology, PACKED)


@libtpu
def test_candidates_differ_in_nothing_that_changes_a_value(qwen):
    found = candidates(qwen, "v6e:2x4")
    assert len(found) > 10
    hbm = chips.describe("v6e:2x4").device.hbm
    for candidate in found:
        assert candidate.guess.memory <= 1.02 * hbm and candidate.chips == 8
        rebuilt = qwen.config
        for word in candidate.overrides:
            path, value = word.removeprefix("--config.").split("=")
            section, name = path.split(".")
            before = getattr(getattr(rebuilt, section), name)
            value = value == "true" if isinstance(before, bool) else type(before)(value)
            rebuilt = arithmetic.changed(rebuilt, **{section: {name: value}})
        assert rebuilt == candidate.config
    seconds = [c.seconds for c in found if not c.config.model.offload_reference]
    assert found[0].seconds == min(seconds)


@libtpu
def test_the_hosts_memory_comes_last_unless_it_is_asked_for(qwen):
    larger = families.parse(known.CONFIGS["Qwen/Qwen3-4B-Base"], config_lib.max_length(qwen.config))
    tight = qwen._replace(cfg=larger)
    waits = [
        c.config.model.offload_reference or c.config.model.remat == "offload"
        for c in candidates(tight, "v5e:2x4")
    ]
    assert waits == sorted(waits) and not all(waits) and any(waits)
    config = arithmetic.changed(qwen.config, model={"offload_reference": True})
    found = candidates(tight._replace(config=config), "v5e:2x4")
    assert found[0].config.model.offload_reference
    assert candidates(tight, "v5e:2x2") == []


@libtpu
def test_a_given_mesh_is_kept(qwen):
    config = arithmetic.changed(qwen.config, mesh={"data": 2})
    found = candidates(qwen._replace(config=config), "v6e:2x4")
    assert found and {c.config.mesh.data for c in found} == {2}
    config = arithmetic.changed(qwen.config, mesh={"tensor": 8})
    assert {c.config.mesh.data for c in candidates(qwen._replace(config=config), "v6e:2x4")}


def test_fewer_slots_are_tried_where_the_decoder_alone_is_too_large():
    small = plan("v6e:2x4", 8, 1.0, peak=0.5, hbm=1.0)
    over = dataclasses.replace(
        small,
        programs={"gradient": small.programs["gradient"], "shrink": Measured(1.5, 0, 1.0, 1)},
        peak=1.5,
    )
    tried = []

    def make(candidate):
        tried.append(candidate.config.rollout.slots)
        return over if len(tried) < 3 else small

    rows = [of("v6e:2x4", 8, 1.0, slots=100), of("v6e:2x4", 8, 2.0, slots=100)]
    (best,) = Search({"v6e:2x4": rows}, make).best(lambda c: c.hours)
    assert tried == [100, 93, 86] and best.config.rollout.slots == 86
    assert "--config.rollout.slots=86" in best.overrides


def test_rankings_follow_prices_and_the_deadline():
    found = prices.Prices("USD", "2026-01-01", "x", {"v6e": {"spot": 1.0}, "v5e": {"spot": 0.1}})
    one, two, three = of("v6e:2x4", 8, 2), of("v5e:2x4", 8, 4), of("v4:2x2x1", 4, 1)
    free = recommended.rankings(found, "spot", None)
    chip_hours, price, hours = free.values()
    assert sorted((one, two, three), key=chip_hours) == [three, one, two]
    assert sorted((one, two), key=price) == [two, one]
    assert price(three) == math.inf  # not known
    assert sorted((one, two, three), key=hours) == [three, one, two]
    bound = recommended.rankings(found, "spot", 3.0)
    assert [[value(c) < math.inf for c in (one, two)] for value in bound.values()] == [
        [True, False]
    ] * 3


def settings(**changes):
    listed = prices.Prices("USD", "2026-01-01", "x", {"v6e": {"spot": 1.5}})
    return recommended.Settings(listed, "spot", None, ["--config=a.py"])._replace(**changes)


def test_what_is_printed_names_cost_time_and_the_command():
    best = [of("v6e:2x4", 8, 2, slots=7), of("tpu7x:2x2x1", 4, 1)]
    lines = recommended.lines("hours", best, settings())
    assert lines == [
        "",
        "The best by hours:",
        "  1. v6e:2x4, 8 chips: 2.00 hours a step, 2.00 hours, 16.0 chip-hours, 24.0 USD",
        "       export ACCELERATOR=v6e-8 CAPACITY=spot",
        "       launch/tpu_vm.sh create && launch/tpu_vm.sh install",
        "       launch/tpu_vm.sh run --config=a.py --config.rollout.slots=7",
        "  2. tpu7x:2x2x1, 4 chips: 60.0 min a step, 60.0 min, 4.00 chip-hours, price not known",
        "       export ACCELERATOR=tpu7x-8 CAPACITY=spot",
        "       launch/gce.sh create && launch/gce.sh install",
        "       launch/gce.sh run --config=a.py",
    ]
    assert recommended.lines("hours", best, settings(), ["v6e:2x4"]) == lines[:3] + lines[6:]
    assert "list prices of 2026-01-01" in recommended.source(settings().prices)
    assert "CAPACITY" not in recommended.commands(best[0], settings(capacity="1-year"))[0]


def test_advice_takes_the_place_of_what_was_given():
    given = ["--config=my configs/a.py", "--config.seed=3", "--config.model.remat=block"]
    line = recommended.words(given, ["--config.model.remat=dots"])
    assert line == "'--config=my configs/a.py' --config.seed=3 --config.model.remat=dots"
