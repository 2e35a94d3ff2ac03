"""When the sampler's logprobs take the place of scored ones: `loss.old_logps="sampled"`.

The decoder computed each token's logprob when it drew the token. To score the answers once more
costs a forward pass, and gives what the update will compute up to rounding. The gap between the two
is measured in every so many steps, which score; where it is too large, all later steps score.
"""

from collections.abc import Mapping, Sequence

LIMIT = 0.02  # nats a token, the mean; a ratio that starts at exp(0.02) is a tenth of the clip
_GAP = "sampling/logp_difference/mean"


class Gap:
    """Which steps score the answers with their questions.

    every   steps from one that measures the gap to the next; the first is one
    """

    def __init__(self, old_logps: str, every: int):
        self.is_wanted, self.every = old_logps == "sampled", every
        self.is_large = False

    def scores(self, step: int) -> bool:
        """Does this step, from 1, score them?"""
        return not self.is_wanted or self.is_large or (step - 1) % self.every == 0

    def learn(self, metrics: Mapping[str, float]) -> bool:
        """Looks at a step's metrics. True once: where all steps score from here on."""
        was_large = self.is_large
        self.is_large |= self.is_wanted and metrics.get(_GAP, 0.0) > LIMIT
        return self.is_large and not was_large

    def remember(self, lines: Sequence[Mapping[str, float]]) -> None:
        """The same for the steps before a restart."""
        for line in lines:
            self.learn(line)
