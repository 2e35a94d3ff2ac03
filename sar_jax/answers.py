"""Final answers: extraction from text, and comparison with the truth. No JAX.

Extraction takes the last \\boxed{}, else what follows the last "answer is" or "####", else the last number. Numbers are
compared as exact rationals ("1,234" = 1234, "\\dfrac{1}{2}" = 1/2 = 0.5), other text after normalising white space and case.
Training and evaluation use this one function. Left out: algebraic equivalence (pi, roots, sets, intervals).
"""

import re
from fractions import Fraction

_NUMBER = r"-?\$?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|-?\$?\.\d+"
_FRACTION = r"-?\\[dt]?frac\{-?\d+\}\{-?\d+\}"
_VALUE = re.compile(rf"{_FRACTION}|(?:{_NUMBER})(?:\s*/\s*\d+)?")
_MARKER = re.compile(r"answer\s*(?:is|:|=)\s*:?|####", re.IGNORECASE)
_SIMPLE_FRACTION = re.compile(r"(-?)\\[dt]?frac\{(-?\d+)\}\{(-?\d+)\}")


def _boxed(text: str) -> str | None:
    """The content of the last closed \\boxed{...}, nested braces included."""
    end = len(text)
    while (start := text.rfind("\\boxed{", 0, end)) >= 0:
        depth = 0
        for i in range(start + len("\\boxed"), len(text)):
            depth += {"{": 1, "}": -1}.get(text[i], 0)
            if depth == 0:
                return text[start + len("\\boxed{"):i]
        end = start
    return None


def _values(text: str) -> list[str]:
    """The numbers of a text. A minus right after a digit or a bracket is an operator: "10-3" holds 10 and 3."""
    found = []
    for match in _VALUE.finditer(text):
        value = match.group()
        before = text[:match.start()].rstrip()[-1:]
        operator = value.startswith("-") and (before.isalnum() or before in (")", "}", "]"))
        found.append(value[1:] if operator and before else value)
    return found


def extract(text: str) -> str | None:
    """The final answer that a text states, or None."""
    boxed = _boxed(text)
    if boxed is not None:
        return boxed.strip()
    markers = list(_MARKER.finditer(text))
    if markers:
        rest = text[markers[-1].end():]
        if values := _values(rest.split("\n")[0]):
            return values[0]
        if words := rest.strip().split("\n")[0].strip(" .:*"):
            return words
    values = _values(text)
    return values[-1] if values else None


def number(text: str) -> Fraction | None:
    """The exact value of an answer that is one number, or None."""
    text = text.strip().strip("$").rstrip(".").replace("$", "").replace(",", "").replace("\\!", "").strip()
    if match := _SIMPLE_FRACTION.fullmatch(text):
        sign, top, bottom = match.groups()
        return (-1 if sign else 1) * Fraction(int(top), int(bottom)) if int(bottom) else None
    try:
        return Fraction(text.replace(" ", "")) if len(text) <= 200 and "e" not in text.lower() else None
    except (ValueError, ZeroDivisionError):
        return None


def verify(text: str, truth: str) -> bool:
    """Does the text's final answer equal the truth? `truth` may itself be a worked answer."""
    answer = extract(text)
    if answer is None:
        return False
    truth = truth if number(truth) is not None else extract(truth) or truth
    if (expected := number(truth)) is not None:
        values = _values(answer)
        got = number(answer) if number(answer) is not None else number(values[-1]) if values else None
        return got == expected
    normal = lambda s: " ".join(s.split()).rstrip(".").lower()
    return normal(answer) == normal(truth)
