"""The distribution that a token is drawn from, as settings; `sar_jax.filters` draws. No JAX."""

from typing import Any, NamedTuple

from sar_jax.errors import UserError


class Sampling(NamedTuple):
    """temperature: divides the logits; top_k: so many most probable tokens stay (0 = all, ties stay); top_p: the fewest of
    these with at least this probability together; min_p: those with at least this share of the largest probability."""
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0

    @staticmethod
    def of(config: Any) -> "Sampling":
        """Out of a training config, which `check` has seen."""
        rollout = config.rollout
        return Sampling(rollout.temperature, rollout.top_k, rollout.top_p, rollout.min_p)

    @property
    def words(self) -> str:
        """For people: the temperature, and the filters that are on."""
        return ", ".join(f"{name} {value:g}" for name, value in self._asdict().items()
                         if name == "temperature" or value != self._field_defaults[name])


def check(rollout: Any) -> None:
    """Raises `UserError` where the settings of `config.rollout` leave nothing to sample, or cannot be."""
    r = rollout
    for name, fine, expected in (
            ("temperature", r.temperature > 0, "greater than 0: greedy answers to a question would all be the same"),
            ("top_k", r.top_k >= 0, "at least 0, which is off"), ("top_p", 0 < r.top_p <= 1, "in (0, 1]; 1 is off"),
            ("min_p", 0 <= r.min_p <= 1, "in [0, 1]; 0 is off"), ("slots", r.slots > 0, "greater than 0"),
            ("weights_dtype", r.weights_dtype in ("", "int8"), "'' or 'int8'"),
            ("cache_dtype", r.cache_dtype in ("", "bfloat16", "float32", "int8"), "'', 'bfloat16', 'float32' or 'int8'")):
        if not fine:
            raise UserError(f"config.rollout.{name} is {getattr(r, name)!r}: it must be {expected}")
