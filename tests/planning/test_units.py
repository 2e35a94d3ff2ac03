"""Figures in units that fit their size."""

import math
import re

import pytest

from sar_jax.planning import units


@pytest.mark.parametrize(
    "function, value, text",
    [
        (units.size, 0, "0 B"),
        (units.size, 1023, "1023 B"),
        (units.size, 1024, "1.00 KiB"),
        (units.size, 13.1 * 2**30, "13.10 GiB"),
        (units.size, -2.5 * 2**30, "-2.50 GiB"),
        (units.size, 2**20 - 1, "1.00 MiB"),  # not 1024.00 KiB
        (units.size, 3000 * 2**40, "3000.00 TiB"),
        (units.size, None, "-"),
        (units.size, math.inf, "too much"),
        (units.duration, 0, "0 s"),
        (units.duration, 2e-9, "2.00 ns"),
        (units.duration, 4e-6, "4.00 \u00b5s"),
        (units.duration, 0.0347, "34.7 ms"),
        (units.duration, 0.99999, "1.00 s"),
        (units.duration, 45, "45.0 s"),
        (units.duration, 1800, "30.0 min"),
        (units.duration, 11520, "3.20 hours"),
        (units.duration, 216000, "2.50 days"),
        (units.chip_time, 25.14, "25.1 chip-hours"),
        (units.chip_time, 0.2, "12.0 chip-minutes"),
        (units.chip_time, 0.002, "7.20 chip-seconds"),
        (units.chip_time, 0, "0 chip-hours"),
        (units.rate, 640, "640"),
        (units.rate, 30362, "30,362"),
        (units.rate, 14359375, "14.4M"),
        (units.rate, 0.0123, "0.0123"),
        (units.flops, 1.2e12, "1.20 Tflop"),
        (units.flops, 0, "0 flop"),
        (units.sent, 999, "999 B"),
        (units.sent, 2.5e9, "2.50 GB"),
        (units.sent, None, "not known"),
    ],
)
def test_a_figure_has_the_unit_of_its_size(function, value, text):
    assert function(value) == text


@pytest.mark.parametrize(
    "function, factors",
    [
        (units.size, {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}),
        (
            units.duration,
            {
                "ns": 1e-9,
                "\u00b5s": 1e-6,
                "ms": 1e-3,
                "s": 1,
                "min": 60,
                "hours": 3600,
                "days": 86400,
            },
        ),
        (units.chip_time, {"chip-seconds": 1 / 3600, "chip-minutes": 1 / 60, "chip-hours": 1}),
        (units.sent, {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}),
    ],
)
def test_what_is_printed_is_the_figure(function, factors):
    """Over nine decades, to the digits that are printed: never 0 for what is there."""
    for power in range(-20, 61):
        value = 10 ** (power / 6.7)
        text = function(value)
        number, unit = re.fullmatch(r"([\d.,]+) (\S+)", text).groups()
        shown = float(number.replace(",", "")) * factors[unit]
        rounded = 0.5 * factors["B"] if unit == "B" else 0.006 * value
        assert abs(shown - value) <= rounded, (value, text)
