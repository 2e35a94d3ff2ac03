"""What a reward of one's own costs the host: making the answers that it sees, and calling it.

    python benchmarks/own_reward.py [FILE.py:NAME]

768 made-up answers of 300 to 1,500 tokens, as a step of the shipped configs has them; processor
seconds, the least of seven. Without an argument both rewards of examples/own_reward.
"""

import argparse
import pathlib
import time

import numpy as np

from sar_jax.config import TrainConfig
from sar_jax.rl.rewards import Signals
from sar_jax.structs import Rollouts
from sar_jax.text.answers.verifier import Outcome
from sar_jax.text.prompts import Question
from sar_jax.text.tasks.example import Example
from sar_jax.training.grids import Scored
from sar_jax.training.own import rewards as own_rewards
from sar_jax.training.rollouts import Verdicts

QUESTIONS, SAMPLES, LIMIT = 128, 6, 4096
REWARDS = pathlib.Path(__file__).parent.parent / "examples/own_reward/rewards.py"


def step() -> tuple:
    """What `own_rewards.values` gets of a step, drawn at random."""
    rng, count = np.random.default_rng(0), QUESTIONS * SAMPLES
    lengths = rng.integers(300, 1500, count)
    logps = [rng.normal(-1, 1, n).astype(np.float32) for n in lengths]
    alone = [x - 1 for x in logps]
    blank = np.zeros((count, 1), np.float32)
    tokens = rng.integers(0, 150_000, (count, LIMIT))
    by_question = lambda values: np.array(values).reshape(QUESTIONS, SAMPLES)
    signals = Signals(
        correct=by_question(rng.random(count) < 0.5),
        lengths=by_question(lengths),
        mean_logp=by_question([x.mean() for x in logps]),
        mean_logp_alone=by_question([x.mean() for x in alone]),
        max_length=LIMIT,
    )
    rows = [Question(Example(str(q), "What is 2 + 3? " * 10, "5"), [1]) for q in range(QUESTIONS)]
    texts = ["Let me look at that again. " * 100] * count
    verdicts = Verdicts([Outcome.RIGHT] * count, texts)
    rollouts = Rollouts(tokens, lengths, blank, np.ones(count, bool), blank)
    return rows, rollouts, verdicts, Scored(logps, logps, alone, (), ()), signals


def main(names: list[str]) -> None:
    inputs = step()
    for name in names:
        config = TrainConfig()
        config.rewards.custom = f"{name}=1"
        rewards, spent = own_rewards.load(config), []
        for _ in range(7):
            start = time.process_time()
            own_rewards.values(rewards, *inputs)
            spent.append(time.process_time() - start)
        print(f"{rewards[0].name}: {1000 * min(spent):.0f} ms for {QUESTIONS * SAMPLES} answers")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="FILE.py:NAME")
    given = parser.parse_args().names
    main(given or [f"{REWARDS}:no_filler", f"{REWARDS}:shortest_right"])
