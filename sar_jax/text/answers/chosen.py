"""The verifier that a config asks for: by each row's kind, one kind, a function, or a model."""

from sar_jax.config import Verification
from sar_jax.text.answers import model_judge, named, own_verifier
from sar_jax.text.answers.verifier import Item, Outcome, Verifier
from sar_jax.text.answers.worker import OWN
from sar_jax.text.tasks.example import Example

JUDGE = "judge"  # of `verification.verifier`


def verifier(config: Verification, kept: str | None) -> Verifier:
    """Starts nothing yet. kept: the file of what a judge has said; None where none can be kept."""
    name = config.verifier
    if name == JUDGE:
        asked = model_judge.spec(config.judge_url, config.judge_model, kept, config.timeout)
        return Verifier(config.workers, config.timeout, OWN + asked)
    if ":" in name:
        return Verifier(config.workers, config.timeout, OWN + name)
    return Verifier(config.workers, config.timeout, kind=name)


def is_own(config: Verification) -> bool:
    """Does a function decide, so that a row's kind does not count?"""
    return config.verifier == JUDGE or ":" in config.verifier


def compares(config: Verification, kind: str) -> str:
    """The kind by which the answers to a row of this kind are compared; empty for a function."""
    return "" if is_own(config) else config.verifier or kind


def rehearse(verifier: Verifier, config: Verification, example: Example) -> None:
    """Tries a function on two made-up answers to a question, in the processes that it will run in.

    Raises `UserError` where it cannot be loaded, raises, takes too long, or returns something else.
    A judge is not asked: that may cost money.
    """
    if ":" not in config.verifier:
        return
    texts = (f"The answer is {example.answer}.", "Wait, I")
    items = [Item(text, example.answer, example.kind, row=example.row()) for text in texts]
    handle = verifier.submit(items)
    for i, outcome in enumerate(handle.result()):
        reason = handle.reasons.get(i, "")
        if outcome is Outcome.ERROR and f"{config.verifier} says" not in reason:
            raise own_verifier.fault(f"{reason} (of the made-up answer {texts[i]!r:.60})")


def check_truth(config: Verification, example: Example) -> None:
    """Raises ValueError, in words that follow "the answer", where a row's truth does not fit."""
    if config.verifier in ("regex", "json"):
        named.check(example.answer, config.verifier)
