"""Final answers: extraction from text, and comparison with the truth. No JAX.

    text -> the last closed \\boxed{...}, with those beside it ("\\boxed{1} and \\boxed{2}");
            else what follows the last "answer is", "answer:" or "####";
            else the formula or the number that the text ends on
         -> a quantity, an expression, or words
         -> compared: quantities as exact rationals (`quantities`),
            words after normalising white space and case,
            expressions (roots, pi, sets, intervals, matrices) by computer algebra

A "final answer" that is stated after the last box counts before it. `judge` does all but computer
algebra: it is linear in the text's length, so that any process may call it, and returns the pair of
expressions that are left to compare. That comparison can hang or take all memory: `verifier` does
it in processes that can be killed; `verify` does it here. Training and evaluation use the same
functions. Left out: numbers as words, and decimal commas unless the other one has a point.
"""

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

# Answers end with their result, and every later step takes time by the character: what is further
# from the end than any sampled answer is long (4,096 tokens are about 16,000 characters) is
# degenerate, and never read.
LONGEST_TEXT = 20_000

_BOXES = ("\\boxed", "\\fbox", "\\boxed ", "\\fbox ")
_MARKER = re.compile(r"answers?\s*(?:is|are|:|=)\s*:?|####", re.IGNORECASE)
# Single dollars have no space on their inner side, or a LaTeX command between them: other dollars
# are money.
_MATHS = re.compile(
    r"\$\$([^$]{1,500})\$\$|\$(?=\S)([^$\n]{1,500})(?<=\S)\$(?!\d)"
    r"|\$(?=[^$\n]*\\[a-zA-Z])([^$\n]{1,500})\$(?!\d)"
    r"|\\\((.{1,500}?)\\\)|\\\[(.{1,500}?)\\\]",
    re.DOTALL,
)
_IS = re.compile(r"\s*(?:(?:is|are|equals?)\b|=)\s*:?\s*(?=\S)")
# Between two boxes that are one answer: nothing but separators, or a few words with "and" or "or",
# and no conclusion.
_SEPARATORS = re.compile(r"[\s,;$&()\[\]\\]*")
_CONCLUSIONS = set("so then thus hence therefore finally finds gives get gets total is are".split())
_DECIMAL_COMMA = re.compile(r"[\s$]*-?\d+,\d+[\s$]*")
_NAME = re.compile(r"[\s$]*([a-zA-Z])\s*=")
_EQUALS = re.compile(r"(?<![<>!:\\])=")
# Around the number in a sentence: signs that make it a part of an expression or of a list.
_OPEN = re.compile(r"[\\^_√(\[{|<>]|[a-zA-Z0-9)\]}]\s*[-+*/×·]\s*$")
_CONTINUES = re.compile(
    r"\s*(?:[\\^*+×·/√π<>]|\((?!\s*[A-Za-z]{2})|-\s*[$]?[\d\\(]"
    r"|(?:,|\s(?:and|or)\s)\s*[-$]?[\d\\(]|:\d)"
    r"|[xyzabcnktrpqij]\b"
)


class Pair(NamedTuple):
    """Two expressions whose equality computer algebra has to decide."""

    given: str
    truth: str


class _Box(NamedTuple):
    """A closed \\boxed{...}: where its command, its brace and its closing brace are."""

    start: int
    brace: int
    end: int


class _Span(NamedTuple):
    """A piece of a text, and what it states."""

    start: int
    end: int
    content: str


class _Statement(NamedTuple):
    """An answer as a text states it, and its value if it is a number."""

    text: str
    value: Quantity | None


def _boxes(text: str) -> list[_Box]:
    """Every closed \\boxed{...}, nested ones too, by start; in one pass."""
    open_braces, found = [], []
    for i in (m.start() for m in re.finditer(r"[{}]", text)):
        if text[i] == "{":
            open_braces.append(i)
        elif open_braces:
            brace = open_braces.pop()
            if text.endswith(_BOXES, 0, brace):
                found.append(_Box(text.rindex("\\", 0, brace), brace, i))
    return sorted(found)


def boxed(text: str) -> str | None:
    """The content of the closed \\boxed{...} that begins last, nested braces included."""
    boxes = _boxes(text)
    return text[boxes[-1].brace + 1 : boxes[-1].end] if boxes else None


def _together(text: str, backwards: Iterable[_Span]) -> _Span | None:
    """The last of the text's spans with those beside it, as one: a list, "1, 2"."""
    contents, begin, last = [], 0, None
    for start, end, content in backwards:
        if last is None:
            last = end
        elif end > begin or begin - end > LONGEST_STATEMENT or not _beside(text[end:begin]):
            break
        begin = start
        contents.insert(0, content.strip())
    return None if last is None else _Span(begin, last, ", ".join(dict.fromkeys(contents)))


def _beside(gap: str) -> bool:
    """Do the two boxes, or the two formulas, before and after this text state one answer?"""
    gap = re.sub(r"\\[a-zA-Z]+|_\s*(?:\w|\{\w*\})", " ", WORDS.sub(r" \1 ", gap))
    words = set(re.findall(r"[^\W\d_]+", gap.lower()))
    if not words:
        return _SEPARATORS.fullmatch(gap) is not None and "\n" not in gap.strip(" ")
    is_list = bool(words & {"and", "or"}) and len(words) <= 4
    concludes = bool(words & _CONCLUSIONS) or re.search(r"[\d.!?]", gap) is not None
    return is_list and not concludes


def _formulas(text: str) -> Iterator[_Span]:
    """Each formula, without the comma or full stop in it that closes the sentence."""
    for match in _MATHS.finditer(text):
        content = next(g for g in match.groups() if g is not None)
        content = re.sub(r"(?<![\s.,])\s*[.,;:]?\s*$", "", content).strip()
        yield _Span(match.start(), match.end(), content)


def _sentence(text: str) -> _Statement:
    """The answer that a sentence states.

    Its first formula, else the first number after its last "=", else all of it.
    """
    if spans := list(_formulas(text)):
        start, end, content = spans[0]
        if not re.search(r"\d", text[:start]):
            if re.fullmatch(r"[^\d=<>+*/^-]+", content) and (verb := _IS.match(text, end)):
                return _sentence(text[verb.end() :])  # "the length of $AB$ is 5"
            beside = (_beside(text[a.end : b.start]) for a, b in itertools.pairwise(spans))
            count = 1 + sum(1 for _ in itertools.takewhile(bool, beside))
            whole = _together(text, reversed(spans[:count]))
            return _Statement(whole.content, quantity(whole.content))
        text = text[:start].rstrip(" =") or text  # "5, as $x = 7$ shows"
    text = re.split(r"[.;!?](?:\s|$)", text)[0].strip(" :*")
    if (value := quantity(text)) is not None:
        return _Statement(text, value)
    start = text.rfind("=") + 1
    for found in NUMBER.finditer(text, start):
        if _OPEN.search(text, start, found.start()) or _CONTINUES.match(text, found.end()):
            return _Statement(text, None)
        return _Statement(quantities.shown(text, found), read(found))
    return _Statement(text, None)


def _marked(text: str, start: int = 0, final: bool = False) -> _Statement | None:
    """The line after the last marker, from `start` on, that states anything.

    final   a number or an expression, after "final answer"; other words do not count
    """
    markers = list(_MARKER.finditer(text, start))
    if final:
        before = lambda marker: text[max(0, marker.start() - 6) : marker.start()]
        markers = [marker for marker in markers if before(marker).lower() == "final "]
    words = None
    for marker in markers[-10:][::-1]:
        rest = text[marker.end() : marker.end() + LONGEST_STATEMENT]
        line = rest.strip(" \n\t\r:*").split("\n")[0].strip(" :*")
        if not line:
            continue
        stated = _sentence(line)
        if stated.value is not None:
            return stated
        if len(stated.text) > 2 and algebra.is_expression(stated.text):
            return stated
        words = words or stated
    return None if final else words


def _stated(text: str) -> _Statement | None:
    """What a cleaned text says its answer is."""
    boxes = (
        _Span(start, end + 1, text[brace + 1 : end]) for start, brace, end in reversed(_boxes(text))
    )
    box = _together(text, boxes)
    if box is None:
        return _marked(text)
    after = _marked(text, box.end, final=True)
    return after or _Statement(box.content, quantity(box.content))


def _ending(text: str) -> _Statement | None:
    """What a text ends on that states nothing, and is asked for a number.

    All of it, if that is one number; else its last number, or the formula around it. A calculation
    that it breaks off, "10 - 3", is none: questions have such, too.
    """
    line = text.strip()
    # "- 5" may be an item of a list
    if not line.startswith("- ") and "\n" not in line and (whole := quantity(line)):
        return _Statement(line, whole)
    last = max((m.start() for m in re.finditer(r"\d", text)), default=-1)
    formulas = list(_formulas(text))[::-1]
    for i, (start, end, _) in enumerate(formulas):
        if start <= last < end:
            content = _together(text, formulas[i:]).content
            if algebra.is_expression(content):
                return _Statement(content, quantity(content))
    tail = line.rpartition("\n")[2].rpartition("=")[2].strip(" .,;*_$")
    tail = re.sub(r"^[-*>#]+\s+", "", tail)
    if _DECIMAL_COMMA.fullmatch(tail):
        return _Statement(tail, None)
    if len(tail) <= LONGEST_STATEMENT and algebra.is_bare(tail) and quantity(tail) is None:
        return None
    found = quantities.last_shown(text)
    value = read(NUMBER.match(found)) if found else None
    return _Statement(found, value) if value else None


def extract(text: str) -> str | None:
    """The final answer that a text states, without thousands' separators, or None."""
    text = clean(text[-LONGEST_TEXT:])
    if (stated := _stated(text) or _ending(text)) is None:
        return None
    plain = quantities.joined(WORDS.sub(r"\1", stated.text)).strip(" .$")
    value = NUMBER.search(plain, plain.rfind("=") + 1) if stated.value is not None else None
    return value.group() if value else plain or None


def final(text: str, kind: str = "math", choices: int = 0) -> str | None:
    """The final answer so that equal answers are equal text, for majorities; or None.

    kind, choices   as in `judge`

    A number is its exact value, words are as they are compared, and a label is a letter or "true".
    Expressions are not simplified: \\sqrt{8} and 2\\sqrt{2} are two answers here.
    """
    text = text[-LONGEST_TEXT:]
    if kind in labels.LAST:
        return labels.LAST[kind](text, choices)
    stated = extract(text)
    value = number(stated) if stated else None
    return str(value) if value is not None else stated and normal(stated)


def normal(text: str) -> str:
    """Words as they are compared."""
    text = " ".join(WORDS.sub(r"\1", text).replace("$", "").split()).strip(".* ").lower()
    return text[1:-1] if re.fullmatch(r"\([a-z]\)", text) else text


def _with_point(stated: _Statement, other: Quantity | None) -> _Statement:
    """A decimal comma read as a point, if the other one is a decimal."""
    if stated.value is None and other and other.places and _DECIMAL_COMMA.fullmatch(stated.text):
        return _Statement(stated.text, quantity(stated.text.replace(",", ".")))
    return stated


def _maths(text: str, truth: str, choices: int = 0) -> bool | Pair:
    """`truth` may be a worked answer that states its own."""
    wanted = _truth(clean(truth).strip())
    given = _given(clean(text), wanted)
    if given is None:
        return False
    if wanted.value is None or given.value is None:
        # 2,75 is 2.75 where the other one is a decimal, else a list
        given, wanted = _with_point(given, wanted.value), _with_point(wanted, given.value)
    if wanted.value is not None and given.value is not None:
        # "x = 5" is not "y = 5", though both are 5
        names = {m[1] for m in map(_NAME.match, (given.text, wanted.text)) if m}
        return quantities.same(given.value, wanted.value) and len(names) <= 1
    if given.value is not None and "=" not in given.text and quantities.is_equation(wanted.text):
        return False  # 14 is not a + b = 14
    if _same_words(normal(given.text), normal(wanted.text)):
        return True
    texts = (given.text, wanted.text)
    if all(algebra.is_expression(e) and len(e) <= LONGEST_STATEMENT for e in texts):
        return Pair(*texts)
    return False


def _truth(truth: str) -> _Statement:
    """All of a truth if it is a number; else what it states, if it does; else all of it."""
    value = quantity(truth, is_truth=True)
    if value is None and (stated := _stated(truth)):
        return stated
    return _Statement(truth, value)


def _given(text: str, wanted: _Statement) -> _Statement | None:
    """The answer of a cleaned text that is compared with this truth, if it has one."""
    if stated := _stated(text):
        return stated
    if wanted.value is not None:
        return _ending(text)
    # a truth that is no number: the last formula, or a text that is nothing but its answer
    if formula := _together(text, reversed(list(_formulas(text)))):
        return _Statement(formula.content, quantity(formula.content))
    line = text.strip()
    alone = line if len(text) <= LONGEST_STATEMENT and "\n" not in line else ""
    return _Statement(alone, quantity(alone))


def _same_words(ours: str, theirs: str) -> bool:
    """Do these normalised words state the truth `theirs`?

    "yes, because ..." states yes; "no one knows" does not state no.
    """
    if not theirs or ours == theirs:
        return bool(theirs)
    return theirs.isalpha() and re.match(re.escape(theirs) + r"[,.;:!)]", ours) is not None


def _last_number(text: str, truth: str, choices: int = 0) -> bool:
    """The rule of the paper's reference, faults included, so that both can be compared.

    The last number or \\frac{}{} anywhere decides. "1,234" reads as 234, "10-3" as -3, "1/2" and
    "\\dfrac{1}{2}" as 2.
    """
    number_or_fraction = (
        r"(-?)\\frac\{(-?\d{1,200})\}\{(-?\d{1,200})\}|(-?\d{1,200}(?:\.\d{1,200})?)"
    )
    found = re.findall(number_or_fraction, text, re.ASCII)
    expected = number(truth)
    if not found or expected is None:
        return False
    sign, top, bottom, plain = found[-1]
    if plain:
        return Fraction(plain) == expected
    return int(bottom) != 0 and Fraction(int(top), int(bottom)) * (-1 if sign else 1) == expected


def judge(text: str, truth: str, kind: str = "math", choices: int = 0) -> bool | Pair:
    """Right or wrong, or the two expressions that `algebra.equal` has to compare.

    text      of an answer; the time is linear in its length
    truth     the final answer alone, or a worked answer that states it
    kind      a name in `VERIFIERS`
    choices   how many lettered options the question has, for the kind "choice" (0: four)

    Raises ValueError for an unknown kind, and for a truth that is none of the options.
    """
    check_kind(kind)
    return VERIFIERS[kind](text[-LONGEST_TEXT:], truth, choices)


def verify(text: str, truth: str) -> bool:
    """Does the text's final answer equal the truth?

    In this process and without a time limit: for texts of one's own. A model's go through
    `verifier.Verifier`, which also tells a comparison that raises, here False, from a wrong answer.
    """
    judged = judge(text, truth)
    if not isinstance(judged, Pair):
        return judged
    try:
        return algebra.equal(*judged)
    except Exception:  # parsers and simplifiers raise anything
        return False


def check_kind(kind: str) -> None:
    """Raises ValueError for a kind that has no verifier."""
    if kind not in VERIFIERS:
        *others, last = VERIFIERS
        raise ValueError(
            f"there is no verifier named {kind!r}; there are {', '.join(others)} and {last}"
        )


VERIFIERS = {
    "math": _maths,
    "last_number": _last_number,
    "choice": labels.choice,
    "boolean": labels.boolean,
}
