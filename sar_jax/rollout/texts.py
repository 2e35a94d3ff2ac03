"""Prompts as arrays for the decoder, and its answers as text."""

from collections.abc import Sequence

import numpy as np
from transformers import PreTrainedTokenizerBase

from sar_jax.errors import UserError
from sar_jax.structs import Rollouts


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
