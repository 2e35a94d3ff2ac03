"""Which of a question's labels does an answer end on? No JAX.

For lettered choices, and for true or false. The last whole word that is a candidate label decides.
A word that only looks like one is skipped: the article "A" ("A train arrives"), the pronoun "I",
the determiner "no" ("no train arrives"). Left out: labels that are paraphrased.
"""

import re
from collections.abc import Iterator

_DEFAULT_CHOICES = 4
_WORD = r"(?<![\w'’\\-])(?:{})(?![\w'’]|-\w)"
_LETTER = re.compile(_WORD.format("[A-Z]"))
_SMALL = re.compile(r"(?:[(\[{]|\*\*)\s*([a-z])\s*(?:[)\]}]|\*\*)")  # (b), {b}, **b**
_NAMED = re.compile(r"\b(?:choice|option|answer)[ _]?(\d{1,2})\b", re.IGNORECASE)  # choice_3
# what may come before a label
_ENTITLED = re.compile(r"\b(?:option|choice|label|statement)s?\s*[*(\"']*$", re.IGNORECASE)
_ANSWERED = re.compile(r"\banswer(?: is|:)?\s*[*(\"']*$", re.IGNORECASE)
# What follows a label and not an article.
_AFTER_LABEL = re.compile(
    r"\s+(?:is|was|are|and|or|but|because|since|as|which|that|follows|must|can|cannot|would|should"
    r"|does|has|holds|seems|says|states|then|if|not|over|in|on|by|from|with|for|to|only|alone|here"
    r"|therefore|so|instead|rather than|than)\b"
)
_TRUTHS = re.compile(_WORD.format("true|false"), re.IGNORECASE)
_YES_NO = re.compile(_WORD.format("yes|no"), re.IGNORECASE)
_DETERMINED = re.compile(r"\s+[a-z]")
_NEGATION = re.compile(r"(?:\bnot|n['’]t|\bnever)\s+$", re.IGNORECASE)


def _is_label(text: str, match: re.Match) -> bool:
    """Is this single capital letter a label?

    Only "A" and "I" are words, too, when another word follows them.
    """
    letter = match.group()
    before = text[max(0, match.start() - 30) : match.start()]
    rest = text[match.end() : match.end() + 30]
    if letter not in "AI" or not re.match(r"\s+[^\W\d_]", rest) or _ENTITLED.search(before):
        return True
    if letter == "I":
        return re.match(r"\s+is\b", rest) is not None
    if _AFTER_LABEL.match(rest):
        return True
    is_answer = _ANSWERED.search(before) is not None
    return is_answer and re.match(r"\s+[A-Z]|\s*\n", rest) is not None


def _mentions(text: str, count: int) -> Iterator[tuple[int, int]]:
    """(where, which, from 0) of each mention of one of the first `count` labels, A or choice_1."""
    for match in _LETTER.finditer(text):
        if ord(match.group()) - ord("A") < count and _is_label(text, match):
            yield match.start(), ord(match.group()) - ord("A")
    for match in _SMALL.finditer(text):
        if ord(match[1]) - ord("a") < count:
            yield match.start(), ord(match[1]) - ord("a")
    for match in _NAMED.finditer(text):
        if 1 <= int(match[1]) <= count:
            yield match.start(), int(match[1]) - 1


def _index(truth: str) -> int:
    """The number of a label, from 0: "C", "(C)", "C) False" and "choice_3" are 2."""
    if match := re.match(r"\s*\(?([A-Za-z])(?![\w'])", truth):
        return ord(match[1].upper()) - ord("A")
    if (match := _NAMED.match(truth.strip())) and int(match[1]) > 0:
        return int(match[1]) - 1
    raise ValueError(f"the true answer {truth[:50]!r} does not name a choice")


def last_choice(text: str, choices: int = 0) -> str | None:
    """The last choice that the text names, as a capital letter; choices: how many (0: four)."""
    last = max(_mentions(text, choices or _DEFAULT_CHOICES), default=None)
    return None if last is None else chr(ord("A") + last[1])


def last_truth(text: str, choices: int = 0) -> str | None:
    """The last "true" or "false" of the text, by the word or by its label."""
    found = [(where, which == 0) for where, which in _mentions(text, 2)]
    for match in _TRUTHS.finditer(text):
        negated = _NEGATION.search(text, max(0, match.start() - 8), match.start())
        found.append((match.start(), (match.group().lower() == "true") != bool(negated)))
    return str(max(found)[1]).lower() if found else None


def choice(text: str, truth: str, choices: int = 0) -> bool:
    """Is the last choice that the text names the true one?

    choices   how many there are (0: four)

    Raises ValueError if the truth is not one of them.
    """
    expected, count = _index(truth), choices or _DEFAULT_CHOICES
    if expected >= count:
        raise ValueError(f"the true answer {truth[:50]!r} is not one of the {count} choices")
    return last_choice(text, choices) == chr(ord("A") + expected)


def boolean(text: str, truth: str, choices: int = 0) -> bool:
    """Is the last true or false in the text the true one?

    "A" is true and "B" false, as the options are labelled; "not true" is false. A truth of "yes" or
    "no" is looked for as such. Raises ValueError for any other truth.
    """
    word = truth.strip().lower()
    if word in ("yes", "no"):
        return _last_yes_no(text) == word
    if word in ("true", "false"):
        return last_truth(text) == word
    if _index(truth) > 1:
        raise ValueError(f"the true answer {truth[:50]!r} is neither true nor false")
    return last_truth(text) == ("true" if _index(truth) == 0 else "false")


def _last_yes_no(text: str) -> str | None:
    """The last "yes" or "no" of the text; not the "no" of "no train"."""
    last = None
    for match in _YES_NO.finditer(text):
        if match.group() != "no" or not _DETERMINED.match(text, match.end()):
            last = match.group().lower()
    return last


LAST = {"choice": last_choice, "boolean": last_truth}
