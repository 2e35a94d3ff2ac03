"""Reasoning behaviours in an answer, by patterns of words. No JAX.

    backtracking   a step is taken back: "wait, that is wrong", "let me start over"
    verification   a result is checked: "let me check", "to verify", "as a check"
    subgoals       a goal on the way is set: "first we need to find", "step 2"
    enumeration    cases or candidates are gone through: "case 1", "try x = 2"

Of the four in Gandhi et al., "Cognitive Behaviors that Enable Self-Improving Reasoners"
(arXiv 2503.01307), which has a language model look for them, the first three; the fourth one there,
backward chaining, is not told by words, and enumeration takes its place.

Limits: English alone. A phrase counts where it is written, whether or not it was meant, and what is
said in other words is not seen. docs/evaluation.md has how often a counted phrase was the behaviour
when it was read.

Every pattern looks at a bounded stretch of characters, so the time is linear in the text's length.
"""

import re
from collections.abc import Iterable, Mapping

# Where a sentence or a clause begins: "Wait," is there, and "they wait" is not.
_BEGIN = r"(?:^|[.!?:;,)\n] ?|\b(?:but|oh|hm|so|no) )"
_LET = r"let(?:'s| me| us)"
_INTEND = r"(?:I|we)(?:'ll| will| should| can| must| need to| have to)"
_I_WILL = rf"(?:{_LET}|{_INTEND})"
_CHECK = r"(?:re-?check|double[- ]check|check|verify|confirm|validate)"
_FIND = r"(?:find|calculate|compute|determine|figure out|work out)"
_ORDER = r"(?:first|second|third|next|then|now|finally)"
_EACH = r"(?:all|each|every)(?: of)?(?: the)?"
_THINGS = r"(?:possib|case|option|combination|value|candidate|number|pair|divisor|factor)"
_EQUATION = r"\$?[a-z] ?= ?-?\d{1,9}"

_PATTERNS: Mapping[str, tuple[str, ...]] = {
    "backtracking": (
        rf"{_BEGIN}(?:wait|hold on|hang on|hmm|oops|no, wait)(?= ?[,.!:\u2014-])",
        r"\bthat(?:'s| is| was| looks) (?:not right|not correct|wrong|incorrect|a mistake)\b",
        r"\bthat (?:isn't|wasn't|can't be|cannot be) (?:right|correct)\b",
        r"\bI (?:made|see|found) (?:a|an|my|the) (?:\w{1,12} )?(?:mistake|error)\b",
        rf"\b{_I_WILL} (?:try again|try another|try a different|start over|start again)\b",
        rf"\b{_I_WILL} (?:re-?think|reconsider|redo|restart|go back|backtrack|correct)\b",
        r"\b(?:that|this|it) (?:does not|doesn't|did not|didn't) work\b",
    ),
    "verification": (
        rf"\b(?:{_I_WILL}|to|now) (?:also |now )?{_CHECK}\b(?! (?:in|out|into)\b)",
        rf"(?:^|[.!?:\n] ?){_CHECK}(?:ing)?(?: (?:the|my|our|that|this) |:|,)",
        # "back into b = 5s - 4" solves for b, and checks nothing
        r"\b(?:plug|substitut)(?:ging|ing|e)? [^.\n]{0,40}?\b(?:in|into) (?:the|our) original\b",
        r"\bas a (?:sanity )?check\b|\bsanity check\b|\bthat makes sense\b",
        r"\b(?:this|that|which|it|answer) (?:checks out|is consistent with|matches)\b",
    ),
    "subgoals": (
        r"(?:^|(?<=\n))[ *#_>-]{0,6}(?:step|part) ?\d{1,3}\b",
        rf"\b{_ORDER},? (?:{_FIND}|(?:we|I|you)(?:'ll| will| can)? {_FIND})\b",
        rf"\b{_ORDER},? (?:we|I|you) (?:need to|must|have to|should|want to) {_FIND}\b",
        rf"\bwe (?:first )?(?:need|have|want) to (?:first )?(?:know|{_FIND})\b",
        rf"\b{_LET} (?:first )?(?:{_FIND}|break|start (?:by|with))\b",
        r"\b(?:the|our|my) (?:first|next|second|last|final) (?:step|goal|task) is\b",
    ),
    "enumeration": (
        r"\bcases? (?:\d{1,2}|[ivx]{1,4}|one|two|three|[A-D])\b",
        rf"\b(?:try|trying|test|testing|suppose|assume) (?:that )?{_EQUATION}\b",
        rf"\b(?:if|for|when) {_EQUATION}\$?(?:,| then| we) ",
        rf"\b{_I_WILL} (?:now )?try (?:with )?-?\d{{1,9}}\b",
        rf"\b(?:list|enumerate|go through|consider|check) {_EACH} {_THINGS}",
        r"\bthe (?:possibilities|options|candidates|cases|possible \w{1,12}) are\b",
    ),
}
_BEHAVIOURS = {
    name: re.compile("|".join(f"(?:{p})" for p in patterns), re.IGNORECASE)
    for name, patterns in _PATTERNS.items()
}
NAMES = tuple(_PATTERNS)


def found(text: str) -> dict[str, list[str]]:
    """The phrases of each behaviour in an answer, in their order."""
    text = _plain(text)
    return {
        name: [match[0].strip(" .,;:!?)\n") for match in pattern.finditer(text)]
        for name, pattern in _BEHAVIOURS.items()
    }


def shares(texts: Iterable[str]) -> dict[str, float]:
    """The share of answers that show each behaviour at least once; {} without answers."""
    texts = [_plain(text) for text in texts]
    count = lambda pattern: sum(pattern.search(text) is not None for text in texts)
    return {name: count(pattern) / len(texts) for name, pattern in _BEHAVIOURS.items() if texts}


def _plain(text: str) -> str:
    return text.replace("\u2019", "'")
