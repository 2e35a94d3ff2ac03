"""10,000 answers through the verifier: each is judged, or counted as an error with its reason."""

import random

import pytest
from support.soak import Tally

from sar_jax.errors import UserError
from sar_jax.evaluation import judged
from sar_jax.text.answers import verifier as verifier_lib
from sar_jax.text.tasks.example import Example

pytestmark = pytest.mark.soak

_PIECES = (
    "\\boxed{", "}", "{", "\\frac", "\\frac{1}{2}", "\\sqrt", "\\sqrt{2}", "^", "_", "$", "$$",
    "72", "-72", "7.2", "1e999", "1" * 400, "9" * 40 + "!", "2^2^2^2^2", "10^{10^{10}}",
    "\\infty", "\\pi", "i", "x", "x = 3", ",", "(", ")", "[", "]", "\\{", "\\}", "|", "\\text{",
    "so the answer is ", "The answer is ", "#### ", "**", "\n", "\\\\", "\u00bd", "\u0664",
    "\uff15", "\u00b2", "\u2212", "\x00", "\ud83d", "\u202e", "\ufeff", "%", "50%", "\\%",
    "\u20ac", "3:30", "A", "(B)", "true", "False", "nan", "None",
    "\\begin{pmatrix}1&2\\\\3&4\\end{pmatrix}", "\\begin{cases}", "\\int_0^1",
    "\\sum_{n=1}^{\\infty} 1/n^2", "\\log", "\\sin(", "__import__('os')", "lambda x: x", "0/0",
    "1/0", "((((((((((", "\\left(", "\\right)", "=", "<", "\\le", "\\cup", "or", "and", "<think>",
    "</think>",
)  # fmt: skip
_TRUTHS = (
    ("72", "math"), ("-7.2", "math"), ("\\frac{1}{2}", "math"), ("\\sqrt{2}", "math"),
    ("x^2+1", "math"), ("(1, 2)", "math"), ("\\{1, 2\\}", "math"), ("B", "choice"),
    ("true", "boolean"), ("50\\%", "math"), ("\\pi", "math"), ("10^{100}", "math"),
    ("half", "math"),
)  # fmt: skip
_BATCH = 50


def answer(rng: random.Random) -> tuple[verifier_lib.Item, bool]:
    """An answer, and whether it must be right: it ends in the truth, in a box of its own."""
    truth, kind = rng.choice(_TRUTHS)
    text = "".join(rng.choice(_PIECES) for _ in range(rng.randrange(12)))
    states = rng.randrange(4) == 0
    if states:
        plain = [rng.choice(("so", "then", "we add 3", "and", "x", "\n")) for _ in range(5)]
        text = " ".join(plain) + f". The final answer is \\boxed{{{truth}}}."
    return verifier_lib.Item(text, truth, kind, 4 if kind == "choice" else 0), states


def test_answers(record_property):
    rng, tally, errors = random.Random(18), Tally("answer", limit=120), 0
    with verifier_lib.Verifier(workers=2, timeout=3) as verifier:
        for start in range(0, 10_000, _BATCH):
            drawn = [answer(rng) for _ in range(_BATCH)]
            items = [item for item, _ in drawn]
            handle = tally.call(f"{start}", lambda: verifier.submit(items))  # noqa: B023
            outcomes = handle and tally.call(f"{start}", handle.result)
            tally.tried, tally.right = tally.tried - 2, tally.right - 2
            for i, (item, states) in enumerate(drawn):
                name = f"{start + i}: {item.text[:150]!r} to {item.truth!r}"
                example = Example("", "Why?", item.truth, kind=item.kind, choices=item.choices)
                row = judged.Question(example, [])
                tally.call(name, lambda: judged._final(item.text, row))  # noqa: B023
                outcome = outcomes[i]
                if outcome is verifier_lib.Outcome.ERROR:
                    errors += 1
                    tally.right, tally.lines = tally.right - 1, tally.lines + 1
                    reason = handle.reasons[i]
                    if not reason or len(reason.splitlines()) != 1:
                        tally.wrong.append(f"{name}: {reason!r}")
                if states and outcome is not verifier_lib.Outcome.RIGHT:
                    tally.wrong.append(f"{name}: {outcome}")
            share = verifier_lib.ErrorShare(0.0, _BATCH)
            try:
                share.add(handle)
            except UserError as error:
                if len(str(error).splitlines()) != 1:
                    tally.wrong.append(f"{start}: {error}")
    record_property("errors", errors)
    tally.finish(record_property)
