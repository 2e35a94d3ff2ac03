"""Final answers: extraction from text, and comparison with the truth. No JAX.

    text -> the last closed \\boxed{...}, with those beside it ("\\boxed{1} and \\boxed{2}"); else what follows the last
            "answer is", "answer:" or "####"; else the formula or the number that the text ends on
         -> a quantity, an expression, or words
         -> compared: quantities as exact rationals (`quantities`), words after normalising white space and case,
            expressions (roots, pi, sets, intervals, matrices) by computer algebra

A "final answer" that is stated after the last box counts before it. `judge` does all but computer
algebra: it is linear in the text's length, so that any process may call it, and returns the pair of
expressions that are left to compare. That comparison can hang or take all memory: `verifier` does
it in processes that can be killed; `verify` does it here. Training and evaluation use the same
functions. Left out: numbers as words, and decimal commas unless the other one has a point."""

import itertools
import re
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import NamedTuple

from sar_jax.text.answers import algebra, labels, quantities
from sar_jax.text.answers.quantities import (
    LONGEST_STATEMENT,
    NUMBER,
    WORDS,
    Quantity,
    clean,
    number,
    quantity,
    read,
)

# Answers end with their result, and every later step takes time by the character: what stands
# further from the end than any sampled answer is long (4,096 tokens are about 16,000 characters) is
# degenerate, and never read.
LONGEST_TEXT = 20_000

_BOXES = ("\\boxed", "\\fbox", "\\boxed ", "\\fbox ")
_MARKER = re.compile(r"answers?\s*(?:is|are|:|=)\s*:?|####", re.IGNORECASE)
# Between single dollars no space stands beside them, or a LaTeX command within: other dollars are
# money.
_MATHS = re.compile(
    r"\$\$([^$]{1,500})\$\$|\$(?=\S)([^$\n]{1,500})(?<=\S)\$(?!\d)|\$(?=[^$\n]*\\[a-zA-Z])([^$\n]{1,500})\$(?!\d)"
    r"|\\\((.{1,500}?)\\\)|\\\[(.{1,500}?)\\\]",
    re.DOTALL,
)
_IS = re.compile(r"\s*(?:(?:is|are|equals?)\b|=)\s*:?\s*(?=\S)")
# Between two boxes that are one answer: nothing but separators, or a few words with "and" or "or",
# and no conclusion.
_SEPARATORS = re.compile(r"[\s,;$&()\[\]\\]*")
_CONCLUSIONS = {
    "so",
    "then",
    "thus",
    "hence",
    "therefore",
    "finally",
    "finds",
    "gives",
    "get",
    "gets",
    "total",
    "is",
    "are",
}
_DECIMAL_COMMA = re.compile(r"[\s$]*-?\d+,\d+[\s$]*")
_NAME = re.compile(r"[\s$]*([a-zA-Z])\s*=")
_EQUALS = re.compile(r"(?<![<>!:\\])=")
# Around the number in a sentence: signs that make it a part of an expression or of a list.
_OPEN = re.compile(r"[\\^_√(\[{|<>]|[a-zA-Z0-9)\]}]\s*[-+*/×·]\s*$")
_CONTINUES = re.compile(
    r"\s*(?:[\\^*+×·/√π<>]|\((?!\s*[A-Za-z]{2})|-\s*[$]?[\d\\(]|(?:,|\s(?:and|or)\s)\s*[-$]?[\d\\(]|:\d)"
    r"|[xyzabcnktrpqij]\b"
)


class Pair(NamedTuple):
    """Two expressions whose equality computer algebra has to decide."""

    given: str
    truth: str


def _boxes(text: str) -> list[tuple[int, int, int]]:
    """(start, its brace, its closing brace) of each closed \\boxed{...}, nested ones too, by start;
    one pass."""
    open_braces, found = [], []
    for i in (m.start() for m in re.finditer(r"[{}]", text)):
        if text[i] == "{":
            open_braces.append(i)
        elif open_braces:
            brace = open_braces.pop()
            if text.endswith(_BOXES, 0, brace):
                found.append((text.rindex("\\", 0, brace), brace, i))
    return sorted(found)


def boxed(text: str) -> str | None:
    """The content of the closed \\boxed{...} that begins last, nested braces included."""
    return next((text[brace + 1 : end] for _, brace, end in _boxes(text)[-1:]), None)


def _together(text: str, spans: Iterable[tuple[int, int, str]]) -> tuple[str, int] | None:
    """The content of the first of these spans (start, end, content), which come backwards, as a
    list with those that stand beside it; and where it ends."""
    contents, begin, last = [], 0, None
    for start, end, content in spans:
        if last is None:
            last = end
        elif end > begin or begin - end > LONGEST_STATEMENT or not _beside(text[end:begin]):
            break
        begin = start
        contents.insert(0, content.strip())
    return None if last is None else (", ".join(dict.fromkeys(contents)), last)


def _beside(gap: str) -> bool:
    """Do the two boxes, or the two formulas, before and after it state one answer?"""
    gap = re.sub(r"\\[a-zA-Z]+|_\s*(?:\w|\{\w*\})", " ", WORDS.sub(r" \1 ", gap))
    words = set(re.findall(r"[^\W\d_]+", gap.lower()))
    if not words:
        return _SEPARATORS.fullmatch(gap) is not None and "\n" not in gap.strip(" ")
    return (
        bool(words & {"and", "or"})
        and len(words) <= 4
        and not words & _CONCLUSIONS
        and not re.search(r"[\d.!?]", gap)
    )


def _formulas(text: str) -> Iterator[tuple[int, int, str]]:
    """Start, end and content of each formula, without the comma or full stop that closes a sentence
    in it."""
    for match in _MATHS.finditer(text):
        content = next(g for g in match.groups() if g is not None)
        yield match.start(), match.end(), re.sub(r"(?<![\s.,])\s*[.,;:]?\s*$", "", content).strip()


def _sentence(text: str) -> tuple[str, Quantity | None]:
    """The answer that a sentence states: its first formula, else the first number after its last
    "=", else all of it."""
    if spans := list(_formulas(text)):
        start, end, content = spans[0]
        if not re.search(r"\d", text[:start]):
            if re.fullmatch(r"[^\d=<>+*/^-]+", content) and (verb := _IS.match(text, end)):
                return _sentence(text[verb.end() :])  # "the length of $AB$ is 5"
            beside = (_beside(text[a[1] : b[0]]) for a, b in itertools.pairwise(spans))
            count = 1 + sum(1 for _ in itertools.takewhile(bool, beside))
            content, _ = _together(text, reversed(spans[:count]))
            return content, quantity(content)
        text = text[:start].rstrip(" =") or text  # "5, as $x = 7$ shows"
    text = re.split(r"[.;!?](?:\s|$)", text)[0].strip(" :*")
    if (whole := quantity(text)) is not None:
        return text, whole
    start = text.rfind("=") + 1
    for found in NUMBER.finditer(text, start):
        if _OPEN.search(text, start, found.start()) or _CONTINUES.match(text, found.end()):
            return text, None
        return quantities.shown(text, found), read(found)
    return text, None


def _marked(text: str, start: int = 0, final: bool = False) -> tuple[str, Quantity | None] | None:
    """The line after the last marker that states anything; `final`: a number or an expression,
    after "final answer"."""
    words = None
    markers = [
        m
        for m in _MARKER.finditer(text, start)
        if not final or text[: m.start()][-6:].lower() == "final "
    ]
    for marker in markers[-10:][::-1]:
        rest = (
            text[marker.end() : marker.end() + LONGEST_STATEMENT]
            .strip(" \n\t\r:*")
            .split("\n")[0]
            .strip(" :*")
        )
        stated = _sentence(rest) if rest else None
        if stated and (
            stated[1] is not None or len(stated[0]) > 2 and algebra.is_expression(stated[0])
        ):
            return stated
        words = words or stated
    return None if final else words


def _stated(text: str) -> tuple[str, Quantity | None] | None:
    """What a cleaned text says its answer is."""
    boxes = (
        (start, end + 1, text[brace + 1 : end]) for start, brace, end in reversed(_boxes(text))
    )
    if boxed := _together(text, boxes):
        return _marked(text, boxed[1], final=True) or (boxed[0], quantity(boxed[0]))
    return _marked(text)


def _ending(text: str) -> tuple[str, Quantity | None] | None:
    """What a text ends on that states nothing, and is asked for a number: all of it, if that is one
    number; else its last number, or the formula around it. A calculation that it breaks off, "10 -
    3", is none: questions hold such, too."""
    line = text.strip()
    if (
        not line.startswith("- ") and "\n" not in line and (whole := quantity(line))
    ):  # "- 5" may be an item of a list
        return line, whole
    last = max((m.start() for m in re.finditer(r"\d", text)), default=-1)
    formulas = list(_formulas(text))[::-1]
    for i, (start, end, _) in enumerate(formulas):
        if start <= last < end:
            content, _ = _together(text, formulas[i:])
            if algebra.is_expression(content):
                return content, quantity(content)
    tail = re.sub(r"^[-*>#]+\s+", "", line.rpartition("\n")[2].rpartition("=")[2].strip(" .,;*_$"))
    if _DECIMAL_COMMA.fullmatch(tail):
        return tail, None
    if len(tail) <= LONGEST_STATEMENT and algebra.is_bare(tail) and quantity(tail) is None:
        return None
    found = quantities.last_shown(text)
    value = read(NUMBER.match(found)) if found else None
    return (found, value) if value else None


def extract(text: str) -> str | None:
    """The final answer that a text states, thousands' separators left out, or None."""
    text = clean(text[-LONGEST_TEXT:])
    if (stated := _stated(text) or _ending(text)) is None:
        return None
    plain = quantities.joined(WORDS.sub(r"\1", stated[0])).strip(" .$")
    value = NUMBER.search(plain, plain.rfind("=") + 1) if stated[1] is not None else None
    return value.group() if value else plain or None


def final(text: str, kind: str = "math", choices: int = 0) -> str | None:
    """The final answer so that equal answers are equal text, for majorities: the exact value of a
    number, a label, words as they are compared; or None. Expressions are not simplified: \\sqrt{8}
    and 2\\sqrt{2} are two answers here."""
    text = text[-LONGEST_TEXT:]
    if kind in labels.LAST:
        return labels.LAST[kind](text, choices)
    stated = extract(text)
    value = number(stated) if stated else None
    return str(value) if value is not None else stated and _normal(stated)


def _normal(text: str) -> str:
    """Words as they are compared."""
    text = " ".join(WORDS.sub(r"\1", text).replace("$", "").split()).strip(".* ").lower()
    return text[1:-1] if re.fullmatch(r"\([a-z]\)", text) else text


def _with_point(
    stated: tuple[str, Quantity | None], other: Quantity | None
) -> tuple[str, Quantity | None]:
    """A decimal comma read as a point, if the other one is a decimal."""
    if stated[1] is None and other and other.places and _DECIMAL_COMMA.fullmatch(stated[0]):
        return stated[0], quantity(stated[0].replace(",", "."))
    return stated


def _maths(text: str, truth: str, choices: int = 0) -> bool | Pair:
    """`truth` may be a worked answer that states its own."""
    text, truth = clean(text), clean(truth).strip()
    expected, wanted = truth, quantity(truth, is_truth=True)
    if wanted is None and (stated := _stated(truth)):
        expected, wanted = stated
    given = _stated(text)
    if given is None and wanted is not None:
        if (given := _ending(text)) is None:
            return False
    if (
        given is None
    ):  # a truth that is no number: the last formula, or a text that is nothing but its answer
        formula = _together(text, reversed(list(_formulas(text))))
        alone = text.strip() if len(text) <= LONGEST_STATEMENT and "\n" not in text.strip() else ""
        given = (formula[0], quantity(formula[0])) if formula else (alone, quantity(alone))
    if (
        wanted is None or given[1] is None
    ):  # 2,75 is 2.75 where the other one is a decimal, else a list
        given, (expected, wanted) = (
            _with_point(given, wanted),
            _with_point((expected, wanted), given[1]),
        )
    if (
        wanted is None
        and given[1] is not None
        and "=" not in given[0]
        and quantities.is_equation(expected)
    ):
        return False  # 14 is not a + b = 14
    if wanted is not None and given[1] is not None:
        names = [m[1] for m in map(_NAME.match, (given[0], expected)) if m]
        return (
            quantities.same(given[1], wanted) and len(set(names)) <= 1
        )  # "x = 5" is not "y = 5", though both are 5
    ours, theirs = _normal(given[0]), _normal(expected)
    # "yes, because ..." states yes; "no one knows" does not state no.
    if theirs and (
        ours == theirs or theirs.isalpha() and re.match(re.escape(theirs) + r"[,.;:!)]", ours)
    ):
        return True
    if all(algebra.is_expression(e) and len(e) <= LONGEST_STATEMENT for e in (given[0], expected)):
        return Pair(given[0], expected)
    return False


def _last_number(text: str, truth: str, choices: int = 0) -> bool:
    """The rule of the paper's reference, faults included, so that both can be compared: the last
    number or \\frac{}{} anywhere decides. "1,234" reads as 234, "10-3" as -3, "1/2" and
    "\\dfrac{1}{2}" as 2."""
    found = re.findall(
        r"(-?)\\frac\{(-?\d{1,200})\}\{(-?\d{1,200})\}|(-?\d{1,200}(?:\.\d{1,200})?)",
        text,
        re.ASCII,
    )
    expected = number(truth)
    if not found or expected is None:
        return False
    sign, top, bottom, plain = found[-1]
    if plain:
        return Fraction(plain) == expected
    return int(bottom) != 0 and Fraction(int(top), int(bottom)) * (-1 if sign else 1) == expected


def judge(text: str, truth: str, kind: str = "math", choices: int = 0) -> bool | Pair:
    """Right or wrong, or the two expressions that `equivalence.equal` has to compare. Linear in the
    text's length.

    `choices`: how many lettered options the question has, for the kind "choice" (0: four). Raises
    ValueError for an unknown kind, and for a truth that is none of the options."""
    if kind not in VERIFIERS:
        raise ValueError(f"no verifier is named {kind!r}; there are {', '.join(VERIFIERS)}")
    return VERIFIERS[kind](text[-LONGEST_TEXT:], truth, choices)


def verify(text: str, truth: str) -> bool:
    """Does the text's final answer equal the truth? In this process and without a time limit: for
    one's own texts; a model's go through `verifier.Verifier`, which also tells a comparison that
    raises, here False, from a wrong answer."""
    judged = judge(text, truth)
    if not isinstance(judged, Pair):
        return judged
    try:
        return algebra.equal(*judged)
    except Exception:  # parsers and simplifiers raise anything
        return False


VERIFIERS = {
    "math": _maths,
    "last_number": _last_number,
    "choice": labels.choice,
    "boolean": labels.boolean,
}
