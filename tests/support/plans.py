"""Plans that are made up, for what prints them."""

from sar_jax.planning import estimate, programs

LEARNER = ("score", "gradient", "apply")


def made(total, devices=8, **residents):
    """A plan whose programs take a byte each, but for those in `total`, where ten fit."""
    names = ("hand_over", "prefill", "insert", "decode", "shrink", "cast", *LEARNER)
    measured = {n: estimate.Measured(total.get(n, 1.0), 0, 1.0, 1) for n in names}
    ones = dict.fromkeys(programs.Residents._fields, 1.0) | {"critic": 0, "base": 0}
    return estimate.Plan(
        "v5e:2x4",
        chips=devices,
        devices=devices,
        hbm=10.0,
        overrides=[],
        rows=16,
        slots=96,
        filled=0.9,
        programs=measured,
        parameters=1,
        residents=programs.Residents(**ones | residents),
        cache=6,
        decoding_copies=1,
        peak=max(p.total for p in measured.values()),
        times={},
        step_seconds=1.0,
        tokens_per_second=1.0,
        hours=1.0,
        chip_hours=1.0,
    )
