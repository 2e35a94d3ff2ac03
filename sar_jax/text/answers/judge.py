"""Final answers: what a text states, compared with the truth. No JAX.

    text -> the part that is its answer (`sections`): without its thought
         -> what it states there (`statements`): a box, <answer>, "the answer is", its last value
         -> a quantity, a time, an expression, or words; a label for choices and truth values
         -> compared: quantities as exact rationals (`quantities`, `spoken`), clock times as times,
            words after normalising white space and case,
            expressions (roots, pi, sets, intervals, matrices) by computer algebra

`judge` does all but computer algebra: it is linear in the text's length, so that any process may
call it, and returns the pair of expressions that are left to compare. That comparison can hang or
take all memory: `verifier` does it in processes that can be killed; `verify` does it here. Training
and evaluation use the same functions. Left out: decimal commas, unless the other one has a point.
"""

import functools
import re
from fractions import Fraction
from typing import NamedTuple

from sar_jax.text.answers import algebra, labels, named, quantities, statements, times
from sar_jax.text.answers.quantities import (
    LONGEST_STATEMENT,
    NUMBER,
    WORDS,
    Quantity,
    clean,
    number,
    quantity,
)
from sar_jax.text.answers.sections import LONGEST_TEXT, Section, answered
from sar_jax.text.answers.statements import Statement

_DECIMAL_COMMA = re.compile(r"[\s$]*-?\d+,\d+[\s$]*")
_NAME = re.compile(r"[\s$]*([a-zA-Z])\s*=")
_ON_THE_HOUR = re.compile(r":\s*0+(?!\d)")  # a ratio to nothing
_ARTICLE = re.compile(r"(?:an?|the)\s+(?=[a-z]{2})")
_BINARY = ("yes", "no", "true", "false")
# After "yes" and a comma: an explanation, and not another answer.
_OTHER_ANSWER = re.compile(r"\b(?:yes|no|true|false|maybe|or|but|and|sometimes)\b")
# A label and the text of its option: (A) 5, A) 5, A. 5, A: 5
_OPTION = re.compile(r"\s*(?:\(([A-Z])\)|([A-Z])[).:](?=\s|$))[\s.:]*(.*)", re.DOTALL)


class Pair(NamedTuple):
    """Two expressions whose equality computer algebra has to decide."""

    given: str
    truth: str


class Match(Pair):
    """A text and a pattern, the truth; a search may take for ever."""


def boxed(text: str) -> str | None:
    """The content of the closed \\boxed{...} that begins last and is not empty."""
    found = statements.boxes(text)
    return found[-1].content if found else None


def extract(text: str) -> str | None:
    """The final answer that a text states, without thousands' separators, or None."""
    if (section := _section(text)) is None:
        return None
    if (stated := statements.marked(section) or statements.ending(section.text)) is None:
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
    if kind in labels.LAST:
        return labels.LAST[kind](text, choices)
    stated = extract(text)
    value = number(stated) if stated else None
    return str(value) if value is not None else stated and normal(stated)


def _section(text: str) -> Section | None:
    """The cleaned part of a text that is its answer."""
    section = answered(text)
    return section and Section(clean(section.text), section.is_answer)


def normal(text: str) -> str:
    """Words as they are compared."""
    text = " ".join(WORDS.sub(r"\1", text).replace("$", "").split()).strip(".* ").lower()
    return text[1:-1] if re.fullmatch(r"\([a-z]\)", text) else _ARTICLE.sub("", text, count=1)


def _with_point(stated: Statement, other: Quantity | None) -> Statement:
    """A decimal comma read as a point, if the other one is a decimal."""
    if stated.value is None and other and other.places and _DECIMAL_COMMA.fullmatch(stated.text):
        return Statement(stated.text, quantity(stated.text.replace(",", ".")))
    return stated


def _maths(text: str, truth: str, choices: int = 0) -> bool | Pair:
    """`truth` may be a worked answer that states its own."""
    section = _section(text)
    wanted = _truth(truth)
    given = section and _given(section, wanted)
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
    time, own = (times.time(WORDS.sub(r" \1 ", stated.text)) for stated in (wanted, given))
    if time and own:
        return times.same(own, time)
    if _same_words(given.text, wanted.text) or _is_all(section, wanted):
        return True
    texts = (given.text, wanted.text)
    if any(_ON_THE_HOUR.search(e) for e in texts) or not (given.is_exact and wanted.is_exact):
        return False
    if all(algebra.is_expression(e) and len(e) <= LONGEST_STATEMENT for e in texts):
        return Pair(*texts)
    return False


@functools.lru_cache(maxsize=1024)  # all answers to a question have the same
def _truth(truth: str) -> Statement:
    """All of a truth if it is a number; else what it states, if it does; else all of it."""
    section = _section(truth)
    truth = section.text.strip() if section else ""
    value = quantity(truth, is_truth=True)
    if value is None:
        if stated := statements.marked(Section(truth, False)):
            return stated
        if not quantities.is_equation(truth):
            return statements.statement(truth)
    return Statement(truth, value)


def _given(section: Section, wanted: Statement) -> Statement | None:
    """The answer of a section that is compared with this truth, if it has one."""
    if stated := statements.marked(section):
        return stated
    text = section.text
    if wanted.value is not None:
        return statements.ending(text)
    if times.time(wanted.text) and (last := times.last(text)):
        return Statement(last, None)
    if statements.is_ratio(wanted.text) and (last := statements.ending_ratio(text)):
        return last
    # a truth that is no number: the last formula, or a text that is nothing but its answer
    backwards = reversed(list(statements.formulas(text)))
    if formula := statements.together(text, backwards):
        return statements.statement(formula.content)
    line = text.strip()
    return statements.statement(line if len(text) <= LONGEST_STATEMENT and "\n" not in line else "")


def _is_all(section: Section, wanted: Statement) -> bool:
    """Is all of what the text marks the truth's words? "October 9" holds a number, and is none."""
    ours = next(statements.texts(section), None)
    return ours is not None and wanted.value is None and normal(ours) == normal(wanted.text)


def _same_words(given: str, truth: str) -> bool:
    """Are these the same words? All of the statement has to be.

    But for an explanation after "yes", "no" or a word and "because", and the text of an option
    after its letter.
    """
    ours, theirs = normal(given), normal(truth)
    if not theirs or ours == theirs:
        return bool(theirs)
    if theirs in _BINARY:
        rest = re.match(rf"{theirs}[,.;:!]\s", ours)
        return rest is not None and not _OTHER_ANSWER.search(ours, rest.end())
    if len(theirs) == 1 and theirs.isalpha():
        option = _OPTION.fullmatch(WORDS.sub(r"\1", given).replace("$", ""))
        if option is None or (option[1] or option[2]).lower() != theirs:
            return False
        return not re.match(r"(?:and|or)\b|[,/&]|\(?[A-Z]\)", option[3])
    return re.match(rf"{re.escape(theirs)},? (?:because|since)\b", ours) is not None


def _last_number(text: str, truth: str, choices: int = 0) -> bool:
    """The rule of the paper's reference, faults included, so that both can be compared.

    The last number or \\frac{}{} anywhere decides. "1,234" reads as 234, "10-3" as -3, "1/2" and
    "\\dfrac{1}{2}" as 2.
    """
    number_or_fraction = (
        r"(-?)\\frac\{(-?\d{1,200})\}\{(-?\d{1,200})\}|(-?\d{1,200}(?:\.\d{1,200})?)"
    )
    found = re.findall(number_or_fraction, text[-LONGEST_TEXT:], re.ASCII)
    expected = number(truth)
    if not found or expected is None:
        return False
    sign, top, bottom, plain = found[-1]
    if plain:
        return Fraction(plain) == expected
    return int(bottom) != 0 and Fraction(int(top), int(bottom)) * (-1 if sign else 1) == expected


def _regex(text: str, truth: str, choices: int = 0) -> bool | Pair:
    """Does the pattern, which is the truth, match somewhere in the answer?"""
    section = answered(text)
    return section is not None and Match(section.text, truth)


def judge(text: str, truth: str, kind: str = "math", choices: int = 0) -> bool | Pair:
    """Right or wrong, or what a process has to compare: two expressions, or a `Match`.

    text      of an answer; the time is linear in its length
    truth     the final answer alone, or a worked answer that states it
    kind      a name in `VERIFIERS`
    choices   how many lettered options the question has, for the kind "choice" (0: four)

    Raises ValueError for an unknown kind, and for a truth that is none of the options.
    """
    check_kind(kind)
    return VERIFIERS[kind](text, truth, choices)


def verify(text: str, truth: str) -> bool:
    """Does the text's final answer equal the truth?

    In this process and without a time limit: for texts of one's own. A model's go through
    `verifier.Verifier`, which also tells a comparison that raises, here False, from a wrong answer.
    """
    judged = judge(text, truth)
    if not isinstance(judged, Pair):
        return judged
    try:
        compare = named.matches if isinstance(judged, Match) else algebra.equal
        return compare(*judged)
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
    "exact": named.exact,
    "contains": named.contains,
    "json": named.same_json,
    "regex": _regex,
}
