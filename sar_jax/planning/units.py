"""Figures in units that fit their size, for people."""

import math


def size(count: float | None) -> str:
    """Bytes, such as "13.10 GiB" or "512 B"; "-" where they are not known."""
    if count is None:
        return "-"
    if math.isinf(count):
        return "too much"
    return _scaled(count, 1024, ("B", "KiB", "MiB", "GiB", "TiB"))


def duration(seconds: float) -> str:
    """Such as "3.20 ms", "45.0 s", "12.0 min", "3.10 hours" and "2.50 days"."""
    if seconds >= 172800:
        return f"{digits(seconds / 86400)} days"
    if seconds >= 7200:
        return f"{digits(seconds / 3600)} hours"
    if seconds >= 120:
        return f"{digits(seconds / 60)} min"
    if seconds >= 0.9995 or seconds == 0:
        return f"{digits(seconds)} s"
    return next(
        f"{digits(seconds / unit)} {name}"
        for name, unit in (("ms", 1e-3), ("\u00b5s", 1e-6), ("ns", 1e-9))
        if seconds >= unit or name == "ns"
    )


def chip_time(hours: float) -> str:
    """Such as "25.1 chip-hours" and "12.0 chip-minutes"."""
    if hours >= 1 or hours == 0:
        return f"{digits(hours)} chip-hours"
    return (
        f"{digits(hours * 60)} chip-minutes"
        if hours >= 1 / 60
        else (f"{digits(hours * 3600)} chip-seconds")
    )


def flops(count: float) -> str:
    """Floating-point operations, such as "1.20 Tflop"."""
    return _scaled(count, 1000, ("flop", "kflop", "Mflop", "Gflop", "Tflop", "Pflop", "Eflop"))


def sent(count: float | None) -> str:
    """Bytes to other devices, such as "1.20 GB"."""
    return "not known" if count is None else _scaled(count, 1000, ("B", "kB", "MB", "GB", "TB"))


def rate(number: float) -> str:
    """A number of things a second, such as "640", "30,362" and "14.4M"."""
    if number < 1000:
        return digits(number)
    return f"{number:,.0f}" if number < 1e6 else f"{digits(number / 1e6)}M"


def digits(number: float) -> str:
    """Three of them at least, none of a small number's lost: "0.0123", "1.20", "45.6", "12,345"."""
    held = abs(number)
    if held == 0:
        return "0"
    if held < 0.0995:
        return f"{number:.3g}"
    return (
        f"{number:.2f}" if held < 9.995 else f"{number:.1f}" if held < 99.95 else f"{number:,.0f}"
    )


def _scaled(count: float, step: int, names: tuple[str, ...]) -> str:
    """In the largest unit of which there is one; the first has no decimals."""
    power = 0
    while abs(count) >= step - 0.005 and power < len(names) - 1:
        count, power = count / step, power + 1
    return f"{count:.{2 if power else 0}f} {names[power]}"
