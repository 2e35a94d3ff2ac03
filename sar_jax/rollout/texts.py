"""Prompts as arrays for the decoder, and its answers as text."""

from collections.abc import Callable, Sequence

import numpy as np
from transformers import PreTrainedTokenizerBase

from sar_jax.errors import UserError
from sar_jax.structs import Rollouts

# an answer's ids -> how many of them count; None for all
Ended = Callable[[Sequence[int]], int | None]


def pad_prompts(
    prompts: Sequence[Sequence[int]], width: int, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Right-padded ids [count, width], and lengths [count]; missing questions have length 0.

    Raises `UserError` for a prompt that is longer than `width`.
    """
    longest = max(map(len, prompts), default=0)
    if longest > width:
        raise UserError(
            f"a prompt has {longest} tokens, but config.data.max_prompt_tokens is {width}"
        )
    tokens, lengths = np.zeros((count, width), np.int32), np.zeros(count, np.int32)
    for i, prompt in enumerate(prompts):
        tokens[i, : len(prompt)], lengths[i] = prompt, len(prompt)
    return tokens, lengths


def decode_texts(
    tokenizer: PreTrainedTokenizerBase, rollouts: Rollouts, which: Sequence[int]
) -> list[str]:
    """The answers of `which` as text, without special tokens."""
    return tokenizer.batch_decode(
        [rollouts.tokens[b, : rollouts.lengths[b]] for b in which], skip_special_tokens=True
    )


def cut(rollouts: Rollouts, ended: Ended) -> Rollouts:
    """The answers up to where they end."""
    lengths, stopped = np.array(rollouts.lengths), np.array(rollouts.stopped)
    for b, length in enumerate(lengths):
        found = ended(rollouts.tokens[b, :length].tolist())
        if found is not None:
            lengths[b], stopped[b] = found, True
    return rollouts._replace(lengths=lengths, stopped=stopped)
