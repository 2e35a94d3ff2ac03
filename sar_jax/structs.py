"""The pytrees that cross borders between files, and the letters of their shapes.

Q  questions a step          M  samples a question      B  Q * M answers
A  answer width (limit)      P  prompt width (limit)
R  packed rows               T  tokens a row
V  vocabulary                D  embed
"""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Array, Bool, Float, Int


class Sampling(NamedTuple):
    """The distribution that a token is drawn from.

    temperature   divides the logits
    top_k         this many most probable tokens stay (0: all; ties stay)
    top_p         the fewest of these with at least this probability together stay
    min_p         those with at least this share of the largest probability stay
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0

    @staticmethod
    def of(config: Any) -> "Sampling":
        """Of a training config that has passed `checks.check`."""
        rollout = config.rollout
        return Sampling(rollout.temperature, rollout.top_k, rollout.top_p, rollout.min_p)

    @property
    def words(self) -> str:
        """For people: the temperature, and the filters that are on."""
        is_shown = lambda name, value: name == "temperature" or value != self._field_defaults[name]
        shown = {name: value for name, value in self._asdict().items() if is_shown(name, value)}
        return ", ".join(f"{name} {value:g}" for name, value in shown.items())


class Packed(NamedTuple):
    """Rows of one fixed width; several sequences share a row. Host (numpy) or device arrays.

    tokens        token ids, 0 where there is none; segment_ids says what is padding, never this
    positions     each token's position in its own sequence
    segment_ids   1, 2, ... for the sequences of a row, 0 for padding
    mask          True on the tokens that are scored: the answer's, its first EOS included
    """

    tokens: Int[Array, "R T"]
    positions: Int[Array, "R T"]
    segment_ids: Int[Array, "R T"]
    mask: Bool[Array, "R T"]


class Layout(NamedTuple):
    """Where each packed sequence's answer is: its row, first column and length, on the host."""

    row: Int[np.ndarray, " n"]
    start: Int[np.ndarray, " n"]
    length: Int[np.ndarray, " n"]


class Scores(NamedTuple):
    """On the packed grid, at each scored token (0 elsewhere), in nats.

    logps     log P(token | the tokens before it in its sequence)
    entropy   entropy of the policy's distribution there, without temperature or filters
    """

    logps: Float[Array, "R T"]
    entropy: Float[Array, "R T"]


class Rollouts(NamedTuple):
    """Sampled answers. Rows are [question, sample], samples of a question side by side.

    tokens           token ids; beyond `lengths` without meaning
    lengths          tokens up to and including the first stop token; A where none came
    sampling_logps   logprobs of the distribution that was drawn from
    stopped          True where a stop token ended the answer, False where the limit cut it
    logps            logprobs of the policy, whatever temperature and filters were applied to it:
                     what `score` gives
    """

    tokens: Int[Array, "B A"]
    lengths: Int[Array, " B"]
    sampling_logps: Float[Array, "B A"]
    stopped: Bool[Array, " B"]
    logps: Float[Array, "B A"]


class Batch(NamedTuple):
    """What one policy update sees of packed rows, all on the packed grid.

    advantages     the answer's advantage on each of its tokens
    old_logps      logps of the policy that sampled (scored, so that the ratio starts at exactly 1)
    ref_logps      logps of the frozen initial policy; zeros where no KL is asked for
    sampling_logps the sampler's own; None where no importance weights are asked for
    """

    packed: Packed
    advantages: Float[Array, "R T"]
    old_logps: Float[Array, "R T"]
    ref_logps: Float[Array, "R T"]
    sampling_logps: Float[Array, "R T"] | None = None


class ValueBatch(NamedTuple):
    """What one update of the critic sees of packed rows, all on the packed grid.

    returns      what the value of each answer token should have been
    old_values   the values before the step's first update
    """

    packed: Packed
    returns: Float[Array, "R T"]
    old_values: Float[Array, "R T"]
