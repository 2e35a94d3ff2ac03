"""Truths that are none: rows whose answer no answer can be equal to. No JAX."""

from sar_jax.text.answers import judge

# What files hold where there is no answer; "none", "no" and "undefined" can be answers.
_NO_ANSWERS = frozenset(
    ("nan", "null", "inf", "-inf", "n/a", "tbd", "todo", "idk", "not available", "see solution")
    + ("i do not know", "i don't know", "i don\u2019t know", "don't know", "do not know")
    + ("no answer", "answer unknown", "unknown answer", "missing")
)
_SYMBOLS = "\u221e\u2205\u00bd\u00bc\u00be"  # infinity, the empty set, fractions in one sign
_LONGEST_WORDS = 15  # of a truth in words that is an answer, and not the way to one


def states(truth: str, kind: str = "math") -> bool:
    """Does a truth state something that an answer can be equal to?

    kind   as in `judge`; a label is checked where it is read

    Not so: what says that there is no answer ("I do not know", "N/A", NaN), what has neither a
    letter nor a digit nor a symbol of mathematics, and a whole solution without a marked answer.
    """
    if kind != "math":
        return True
    words = judge.normal(truth).strip(" .!?-_*\"'")
    if not words or words in _NO_ANSWERS or not any(c.isalnum() or c in _SYMBOLS for c in words):
        return False
    return len(words.split()) <= _LONGEST_WORDS or judge.extract(truth) is not None
