"""Which part of a text is its answer: without the thought, of the final channel, in <answer>.

No JAX.

    <think>7?</think> It is 8.                       -> It is 8.
    ... 7?</think> It is 8.                          -> It is 8.  (the prompt opened the thought)
    <think>7?                                        -> nothing: a thought that was cut off
    <|channel|>final<|message|>It is 8.<|return|>    -> It is 8.
    It has 3 legs. <answer>8</answer>                -> 8
"""

import re
from typing import NamedTuple

# Answers end with their result, and every later step takes time by the character: what is further
# from the end than any sampled answer is long (4,096 tokens are about 16,000 characters) is
# degenerate, and never read.
LONGEST_TEXT = 20_000

# one of which is in each of these tags, in lower case
_THOUGHTS = ("think>", "think▷", "think]", "thinking>", "thought", "reasoning>")
_THOUGHT = r"(?:seed:)?(?:think(?:ing)?|thoughts?|reasoning)"
_TAG = re.compile(
    rf"(?P<open><{_THOUGHT}>|<\|begin_of_thought\|>|\[think\]|◁think▷)"
    rf"|</{_THOUGHT}>|<\|end_of_thought\|>|\[/think\]|◁/think▷",
    re.IGNORECASE,
)
_CHANNEL = "<|channel|>"
_FINAL = re.compile(r"<\|channel\|>\s*final\b[^<]*<\|message\|>")
# The same without its special tokens: "analysisWe add.assistantfinalIt is 8."
_BARE_CHANNEL = re.compile(r"\s*analysis(?=[^\sa-z])")
_BARE_FINAL = "assistantfinal"
_ANSWER = re.compile(r"<answer>(.*?)(?:</answer>|(?=<answer>)|\Z)", re.IGNORECASE | re.DOTALL)
_SPECIAL = re.compile(r"<\|[a-z_]{1,30}\|>")


class Section(NamedTuple):
    """The part of a text that is its answer; is_answer: it is nothing else, as in <answer>."""

    text: str
    is_answer: bool


def answered(text: str) -> Section | None:
    """None where a text is nothing but a thought. Its last `LONGEST_TEXT` characters at most.

    Linear in the text's length.
    """
    text = _without_thought(text)
    text = None if text is None else _final_channel(text)
    if text is None:
        return None
    text = text[-LONGEST_TEXT:]
    if "<|" in text:
        text = _SPECIAL.sub("\n", text)
    contents = []
    if "<" in text:
        contents = [found[1] for found in _ANSWER.finditer(text) if found[1].strip()]
    return Section(contents[-1].strip(), True) if contents else Section(text, False)


def _without_thought(text: str) -> str | None:
    """The text outside of thoughts; None if the last one is not closed.

    A closing tag alone ends a thought from the text's start on.
    """
    lower = text.lower()
    if not any(word in lower for word in _THOUGHTS):
        return text
    kept, start, is_thinking = [], 0, False
    for tag in _TAG.finditer(text):
        if tag["open"]:
            if not is_thinking:
                kept.append(text[start : tag.start()])
            is_thinking = True
        else:
            if not is_thinking:
                kept.clear()
            start, is_thinking = tag.end(), False
    return None if is_thinking else "\n".join([*kept, text[start:]])


def _final_channel(text: str) -> str | None:
    """What the last final channel holds; None if there are channels, and none is final."""
    if _CHANNEL in text:
        finals = _FINAL.split(text)
        return finals[-1] if len(finals) > 1 else None
    if _BARE_CHANNEL.match(text):
        _, mark, final = text.rpartition(_BARE_FINAL)
        return final if mark else None
    return text
