"""Which of a question's labels does an answer give? No JAX.

For lettered choices, and for true or false. What the text marks as its answer (`statements`: a box,
<answer>, "the answer is") decides; else the last mention of a label in it. A mention is no answer
where it is denied ("not A", "A is wrong"), supposed ("whether it is true"), or one of several ("A
and B"). A word that only looks like a label is skipped: the article "A" ("A train arrives"), the
pronoun "I", the determiner "no" ("no train arrives"). Left out: labels that are paraphrased.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from sar_jax.text.answers import quantities, statements
from sar_jax.text.answers.sections import Section, answered

_DEFAULT_CHOICES = 4
_WORD = r"(?<![\w'’\\-])(?:{})(?![\w'’]|-\w)"
_LETTER = re.compile(_WORD.format("[A-Z]"))
# (b), {b}, **b**, option b; and a text that is nothing but b
_SMALL = re.compile(
    r"(?:[(\[{]|\*\*)\s*([a-z])\s*(?:[)\]}]|\*\*)|\b(?:[Oo]ption|[Cc]hoice)\s+([a-z])\b"
    r"|\A[\s$*]*([a-z])[\s.)$*]*\Z"
)
_NAMED = re.compile(r"\b(?:choice|option|answer)[ _]?(\d{1,2})\b", re.IGNORECASE)  # choice_3
# what may come before a label
_ENTITLED = re.compile(r"\b(?:option|choice|label|statement)s?\s*[*(\"']*$", re.IGNORECASE)
_ANSWERED = re.compile(r"(?:\banswer(?: is|:)?\s*|\A\s*)[*(\"']*$", re.IGNORECASE)
# What follows a label and not an article.
_AFTER_LABEL = re.compile(
    r"\s+(?:is|was|are|and|or|nor|but|because|since|as|which|that|follows|must|can|cannot|would"
    r"|should|does|has|holds|seems|says|states|then|if|not|over|in|on|by|from|with|for|to|only"
    r"|alone|here|therefore|so|instead|rather than|than|contradicts?|fails?)\b"
)
_TRUTHS = re.compile(_WORD.format("true|false"), re.IGNORECASE)
_YES_NO = re.compile(_WORD.format("yes|no"), re.IGNORECASE)
_DETERMINED = re.compile(r"\s+[a-z]")
_ALONE = re.compile(r"\W*([tf])\W*", re.IGNORECASE)
_ATTRIBUTE = re.compile(r"\ban?\s+$", re.IGNORECASE)  # a true friend
_NEGATION = re.compile(
    r"(?:(?:\b(?:can)?not|n['’]t|\bnever)\s+(?:be\s+)?|\bnot\s+the\s+case\b[^.;:!?\n]*)$",
    re.IGNORECASE,
)
_SUPPOSED = re.compile(
    r"\b(?:whether|if|unless|suppos(?:e|ing)|assum(?:e|ing)|would\s+be|were|could\s+be|might\s+be"
    r"|may\s+be|neither|nor)\b[^.;:,!?\n]{0,60}$",
    re.IGNORECASE,
)
_DENIED_BEFORE = re.compile(
    r"(?:\bnot|n['’]t|\bnever|\bneither|\bnor|\bexcept|\bthan|\binstead\s+of|\bconsidered"
    r"|\b(?:everything|anything|all|any|none)\s+but)"
    r"[^\S\n]+(?:be\s+|for\s+)?(?:(?:the\s+)?(?:option|choice|answer)s?\s+)?[(\[\"'*]*$",
    re.IGNORECASE,
)
_DENIED_AFTER = re.compile(
    r"[)\]\"'*:.]*[^\S\n]+(?:(?:is|are|was|were|must\s+be|seems?|looks?)\s+(?:\w+ly\s+|also\s+|all\s+"
    r"|both\s+)?(?:wrong|incorrect|false|not|impossible|close|tempting|plausible|invalid|excluded|eliminated|ruled\s+out"
    r"|unsupported)\b|(?:is|are|was|were|does|do|ca|wo|could|would)n['’]t\b|can\s?not\b"
    r"|do(?:es)?\s+not\b|contradicts?\b|fails?\b)"
)
# Between two labels that are one list. A comma joins two where the list has an "and" or "or".
_LINK = re.compile(r"[\s)\]*\"'.:]*(?:,\s*)?(?:\band\b|\bor\b|\bnor\b|[&/]|\n)[\s(\[*\"']*")
_COMMA = re.compile(r"[\s)\]*\"']*,[\s(\[*\"']*")
_NEAR = 60  # characters in which the words around a label are looked for


class _Mention(NamedTuple):
    """A label in a text.

    which     its number, from 0
    counts    neither denied nor supposed
    """

    start: int
    end: int
    which: int
    counts: bool


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


def _letters(text: str, count: int) -> list[_Mention]:
    """The mentions of the first `count` labels, A or choice_1, in order."""
    found = []
    for match in _LETTER.finditer(text):
        if ord(match.group()) - ord("A") < count and _is_label(text, match):
            found.append((match.start(), match.end(), ord(match.group()) - ord("A")))
    for match in _SMALL.finditer(text):
        which = match.lastindex
        if ord(match[which]) - ord("a") < count:
            found.append((match.start(which), match.end(which), ord(match[which]) - ord("a")))
    for match in _NAMED.finditer(text):
        if 1 <= int(match[1]) <= count:
            found.append((match.start(), match.end(), int(match[1]) - 1))
    return [_Mention(a, b, which, not _is_denied(text, a, b)) for a, b, which in sorted(found)]


def _is_denied(text: str, start: int, end: int) -> bool:
    before = text[max(0, start - _NEAR) : start]
    return _DENIED_BEFORE.search(before) is not None or _DENIED_AFTER.match(text, end) is not None


def _truths(text: str) -> list[_Mention]:
    """The mentions of "true" (0) and "false" (1), by the word or by its label."""
    if alone := _ALONE.fullmatch(text):
        return [_Mention(0, len(text), int(alone[1].lower() == "f"), True)]
    found = _letters(text, 2)
    for match in _TRUTHS.finditer(text):
        before = text[max(0, match.start() - _NEAR) : match.start()]
        if _ATTRIBUTE.search(before) and re.match(r"\s+[a-z]", text[match.end() :][:9]):
            continue
        which = (match.group().lower() == "false") != bool(_NEGATION.search(before))
        counts = not _SUPPOSED.search(before)
        found.append(_Mention(match.start(), match.end(), int(which), counts))
    return sorted(found) or _opening_yes_no(text)


def _opening_yes_no(text: str) -> list[_Mention]:
    """ "Yes, it is" is true; not the "no" of "no train"."""
    match = re.match(r"\W*(?:\\text\W*)?(yes|no)\b(?!\s+[a-z])", text, re.IGNORECASE)
    return [_Mention(0, match.end(), int(match[1].lower() == "no"), True)] if match else []


def _yes_no(text: str) -> list[_Mention]:
    """The mentions of "yes" (0) and "no" (1); not the "no" of "no train"."""
    return [
        _Mention(match.start(), match.end(), int(match.group().lower() == "no"), True)
        for match in _YES_NO.finditer(text)
        if match.group() != "no" or not _DETERMINED.match(text, match.end())
    ]


def _lists(text: str, mentions: Sequence[_Mention], commas: bool) -> list[list[_Mention]]:
    """The mentions, those that are one list together; commas: they join without an "and", too."""
    groups: list[list[_Mention]] = []
    is_linked = False
    for mention in mentions:
        gap = text[groups[-1][-1].end : mention.start] if groups else " "
        is_link = _LINK.fullmatch(gap) is not None
        if groups and (is_link or _COMMA.fullmatch(gap)):
            groups[-1].append(mention)
            is_linked = is_linked or is_link
        else:
            groups[-1:] = _apart(groups, is_linked or commas)
            groups.append([mention])
            is_linked = False
    groups[-1:] = _apart(groups, is_linked or commas)
    return groups


def _apart(groups: list[list[_Mention]], is_list: bool) -> list[list[_Mention]]:
    """The last group; each of its mentions alone where it is no list."""
    return groups[-1:] if is_list or not groups else [[mention] for mention in groups[-1]]


def _choose(groups: Iterable[Sequence[_Mention]]) -> int | None:
    """The label of the first list that counts: None for several in it, -1 where no list counts."""
    for group in groups:
        # a denial before or after a list is one of all that is in it
        if group[0].counts and group[-1].counts:
            labels = {mention.which for mention in group}
            return labels.pop() if len(labels) == 1 else None
    return -1


_Find = Callable[[str], list[_Mention]]


def _given(text: str, find: _Find) -> int | None:
    """The label that a text gives, or None.

    Of what it marks as its answer; else the last one that it mentions.
    """
    section = answered(text)
    if section is None:
        return None
    if not section.text.isascii():
        section = Section(quantities.clean(section.text), section.is_answer)
    for statement in statements.texts(section):
        if (found := _stated(statement, find)) != -1:
            return found
    found = _choose(reversed(_lists(section.text, find(section.text), commas=False)))
    return None if found == -1 else found


def _stated(statement: str, find: _Find) -> int | None:
    """The label of a statement, its first one; None where "but" brings another one."""
    statement = statements.undecorated(statement)
    groups = _lists(statement, find(statement), commas=True)
    found = _choose(groups)
    if but := re.search(r"\bbut\b", statement):
        after = [group for group in groups if group[0].start > but.start()]
        if _choose(after) not in (-1, found):
            return None
    return found


def _index(truth: str) -> int:
    """The number of a label, from 0: "C", "(C)", "C) False" and "choice_3" are 2."""
    if match := re.match(r"\s*\(?([A-Za-z])(?![\w'])", truth):
        return ord(match[1].upper()) - ord("A")
    if (match := _NAMED.match(truth.strip())) and int(match[1]) > 0:
        return int(match[1]) - 1
    raise ValueError(f"the true answer {truth[:50]!r} does not name a choice")


def last_choice(text: str, choices: int = 0) -> str | None:
    """The choice that the text gives, as a capital letter; choices: how many (0: four)."""
    found = _given(text, lambda part: _letters(part, choices or _DEFAULT_CHOICES))
    return None if found is None else chr(ord("A") + found)


def last_truth(text: str, choices: int = 0) -> str | None:
    """ "true" or "false" as the text gives it, by the word or by its label."""
    found = _given(text, _truths)
    return None if found is None else ("true", "false")[found]


def choice(text: str, truth: str, choices: int = 0) -> bool:
    """Is the choice that the text gives the true one?

    choices   how many there are (0: four)

    Raises ValueError if the truth is not one of them.
    """
    expected, count = _index(truth), choices or _DEFAULT_CHOICES
    if expected >= count:
        raise ValueError(f"the true answer {truth[:50]!r} is not one of the {count} choices")
    return last_choice(text, choices) == chr(ord("A") + expected)


def boolean(text: str, truth: str, choices: int = 0) -> bool:
    """Is the true or false that the text gives the true one?

    "A" is true and "B" false, as the options are labelled; "not true" is false. A truth of "yes" or
    "no" is looked for as such. Raises ValueError for any other truth.
    """
    word = truth.strip().lower()
    if word in ("yes", "no"):
        return _given(text, _yes_no) == ("yes", "no").index(word)
    if word in ("true", "false"):
        return last_truth(text) == word
    if _index(truth) > 1:
        raise ValueError(f"the true answer {truth[:50]!r} is neither true nor false")
    return last_truth(text) == ("true" if _index(truth) == 0 else "false")


LAST = {"choice": last_choice, "boolean": last_truth}
