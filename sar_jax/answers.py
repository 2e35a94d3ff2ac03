"""Final answers: extraction from text, and comparison with the truth. No JAX.

An answer is stated in the last \\boxed{}, else after the last "answer is" or "####"; else the last number counts.
Numbers are compared as exact rationals ("1,234" = 1234, "\\dfrac{1}{2}" = 1/2 = 0.5, "1 1/2" = 1.5), other text after
normalising white space and case. Training and evaluation use this one function. Left out: algebraic equivalence (pi,
roots, sets, intervals).
"""

import re
from fractions import Fraction

_LONGEST = 200   # characters of a number that is still read as one
_INTEGER = r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)"
_FRACTION = r"\\[dt]?frac\{-?\d{1,90}\}\{-?\d{1,90}\}"
_NUMBER = re.compile(rf"-?\$?(?:(?:\d+\s*)?{_FRACTION}|\d+\s+\d+\s*/\s*\d+|\d+\s*/\s*\d+|{_INTEGER}(?:\.\d+)?|\.\d+)")
_MIXED = re.compile(r"(-?)(?:(\d+)\s*(?=\\)|(\d+)\s+(?=\d+\s*/))?(?:\\[dt]?frac\{(-?\d+)\}\{(-?\d+)\}|(\d+)\s*/\s*(\d+))")
_PLAIN = re.compile(rf"-?(?:{_INTEGER}(?:\.\d*)?|\.\d+)")
_WITH_UNIT = re.compile(r"-?\$?[\d.,/]+\s+[^\W\d][^\d=+*^<>]*")   # "72 apples"
_MARKER = re.compile(r"answer\s*(?:is|:|=)\s*:?|####", re.IGNORECASE)
_WORDS = re.compile(r"\\(?:text|textbf|mathrm|mbox)\{([^{}]*)\}(?:\^(?:\d|\{\d\}))?")


def _clean(text: str) -> str:
    """Other ways to write the same signs: a typographic minus, LaTeX's thousands separators and thin spaces."""
    return text.replace("\u2212", "-").replace("{,}", ",").replace("\\!", "").replace("\\,", " ").replace("\\$", "$")


def boxed(text: str) -> str | None:
    """The content of the closed \\boxed{...} that begins last, nested braces included; one pass over the text."""
    open_braces: list[int] = []
    last, content = -1, None
    for i in (m.start() for m in re.finditer(r"[{}]", text)):
        if text[i] == "{":
            open_braces.append(i)
        elif open_braces:
            start = open_braces.pop()
            if start > last and text.endswith("\\boxed", 0, start):
                last, content = start, text[start + 1:i]
    return content


def _numbers(text: str) -> list[str]:
    """The numbers of a text. A minus that follows a digit, a bracket or, without a space, a letter is an operator:
    "10-3" holds 10 and 3, "x is -3" holds -3."""
    found = []
    for match in _NUMBER.finditer(text):
        value, before = match.group(), text[:match.start()][-20:]
        last = before.rstrip()[-1:]
        operator = before[-1:].isalpha() or last.isdigit() or last in (")", "}", "]")
        found.append(value.removeprefix("-") if operator and before else value)
    return found


def _stated(text: str) -> list[str]:
    """What a text says its answer is: the last box alone, or the line after each marker, the last one first."""
    if (content := boxed(text)) is not None:
        return [content.strip()]
    rests = [text[m.end():].strip().split("\n")[0].strip(" :*") for m in reversed(list(_MARKER.finditer(text)))]
    return [rest for rest in rests if rest]


def _value(stated: str) -> str | None:
    """The number in a stated answer: all of it, else the first one after its last "=", units and words left out."""
    stated = stated.rpartition("=")[2].strip()
    if number(stated) is not None:
        return stated.rstrip(".")
    if _is_list(stated):   # "3, 4" is a pair, not a number
        return None
    numbers = _numbers(_WORDS.sub(" ", stated))
    return numbers[0] if numbers else None


def _is_list(stated: str) -> bool:
    """Is it nothing but numbers with commas between them?"""
    parts = stated.strip("()[]{} ").split(",")
    return len(parts) > 1 and all(number(p) is not None for p in parts)


def extract(text: str) -> str | None:
    """The final answer that a text states, or None."""
    text = _clean(text)
    if stated := _stated(text):
        values = [v for v in map(_value, stated) if v is not None]
        return values[0] if values else _WORDS.sub(r"\1", stated[0]).strip(" .")
    numbers = _numbers(text)
    return numbers[-1] if numbers else None


def number(text: str) -> Fraction | None:
    """The exact value of an answer that is one number, or None."""
    text = _clean(text).strip().strip("$").rstrip(".").replace("$", "").removesuffix("%").removesuffix("\\").strip()
    if len(text) > _LONGEST:
        return None
    if match := _MIXED.fullmatch(text):
        sign, whole_tex, whole, top_tex, bottom_tex, top, bottom = match.groups()
        bottom = int(bottom_tex or bottom)
        value = int(whole_tex or whole or 0) + Fraction(int(top_tex or top), bottom) if bottom else None
        return value if value is None or not sign else -value
    return Fraction(text.replace(",", "")) if _PLAIN.fullmatch(text) else None


def verify(text: str, truth: str) -> bool:
    """Does the text's final answer equal the truth? `truth` may itself be a worked answer that states one."""
    truth = _clean(truth).strip()
    if number(truth) is None and (stated := _stated(truth)):
        truth = _value(stated[0]) or stated[0]
    elif _WITH_UNIT.fullmatch(truth):
        truth = _value(truth) or truth
    answer = extract(text)
    if answer is None:
        return False
    if (expected := number(truth)) is not None:
        return number(answer) == expected
    normal = lambda s: " ".join(_WORDS.sub(r"\1", s).split()).rstrip(".").lower()
    expected, given = normal(truth), normal((_stated(_clean(text)) or [answer])[0])
    # "yes, because ..." states yes; "no one knows" does not state no.
    return given == expected or bool(expected) and re.match(re.escape(expected) + r"[,.;:!)]", given) is not None
