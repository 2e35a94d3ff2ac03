"""A plan by hand, for what compares plans."""

from sar_jax.planning import estimate, programs


def plan(topology: str, chips: int, seconds: float, peak: float, hbm: float) -> estimate.Plan:
    """Of a run with one program."""
    return estimate.Plan(
        topology,
        chips=chips,
        devices=chips,
        hbm=hbm,
        overrides=[],
        rows=16,
        slots=96,
        filled=0.9,
        programs={"gradient": estimate.Measured(peak, 0, 1.0, 1)},
        parameters=1,
        residents=programs.Residents(*[1] * len(programs.Residents._fields)),
        cache=6,
        decoding_copies=1,
        peak=peak,
        times={},
        step_seconds=seconds,
        tokens_per_second=1.0,
        hours=seconds,
        chip_hours=seconds * chips,
    )
