"""Two questions on which a model's prompts are tried before anything slow starts. No JAX.

    the question, the system prompt and the worked examples are in the prompt
    prompts of two questions, and the standalone context, differ by the question alone
    the same question gives the same prompt twice
    no prompt ends with a token that ends an answer

Each id is looked up in the embedding as prompts are made (`prompts.Prompter`).
"""

from typing import Any

from sar_jax.errors import UserError

Prompter = Any  # of `prompts`, which imports this file

_QUESTIONS = ("What is 2 + 3?", "How many legs have 4 cats and a hen?")
_PLAIN = "set prompt.format=plain, or put a template that does not into chat_template.jinja"


def check(prompter: Prompter) -> None:
    """Raises `UserError` that names the template's file and what to set."""
    around = set()
    for question in _QUESTIONS:
        user = prompter.asked(question)
        text = prompter.text(user)
        if user not in text and question not in text:
            raise _fault(prompter, f"drops the question {question!r}", _PLAIN)
        if prompter.text(user) != text:
            raise _fault(prompter, "makes another text of the same question each time", _PLAIN)
        around.add(_without(text, user if user in text else question))
        _check_parts(prompter, text)
        check_end(prompter, prompter.prompt(question), "a prompt")
    if len(around) > 1:
        raise _fault(prompter, "makes texts of two questions that differ elsewhere too", _PLAIN)
    if prompter.config.standalone_context == "empty_question":
        check_end(prompter, prompter.standalone, "the context without a question")


def takes_an_empty_question(prompter: Prompter) -> bool:
    """Is what the template makes of an empty message what it puts around any other?"""
    user = prompter.asked(_QUESTIONS[0])
    try:
        empty = prompter.text("")
    except UserError:
        return False
    squeezed = lambda text: "".join(text.split())
    return squeezed(empty) == squeezed(_without(prompter.text(user), user))


def _without(text: str, user: str) -> str:
    """A prompt's text without the user's last turn."""
    return "".join(text.rsplit(user, 1))


def _check_parts(prompter: Prompter, text: str) -> None:
    """That a prompt holds what the config wants in it, once."""
    config = prompter.config
    if config.system.strip() not in text:
        raise _fault(prompter, "drops the system prompt", "set prompt.system= (empty)")
    for shot in prompter.shots:
        if shot.question not in text or shot.solution not in text:
            missing = f"drops a part of the example {shot.question!r:.60} of prompt.examples"
            raise _fault(prompter, missing, "set prompt.examples= (empty), or prompt.format=plain")
    prefix = config.assistant_prefix
    before = text.removesuffix(prefix).rstrip()
    if prefix.strip() and before.endswith(prefix.strip()):
        raise _fault(
            prompter,
            f"ends with {prefix.strip()!r} of its own",
            "set prompt.assistant_prefix= (empty)",
        )


def check_end(prompter: Prompter, ids: list[int], what: str) -> None:
    """Raises `UserError` where a prompt ends with a token that ends an answer."""
    if ids and ids[-1] in prompter.stops:
        token = prompter.tokenizer.convert_ids_to_tokens(ids[-1])
        raise UserError(
            f"{prompter.file}: {what} ends with {token!r}, which ends an answer: {_PLAIN}"
        )


def _fault(prompter: Prompter, what: str, way_out: str) -> UserError:
    return UserError(f"{prompter.file}: the chat template {what}: {way_out}")
