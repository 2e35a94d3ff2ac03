"""configs/tiny.py as the tests of plans have it: what the TPU compiler has to do for it is half as
much, and everything that a plan can have is there (with float32 nothing would be cast)."""

import pathlib
import runpy

from sar_jax.config import TrainConfig

_CONFIGS = pathlib.Path(__file__).parents[2] / "configs"


def get_config() -> TrainConfig:
    config = runpy.run_path(str(_CONFIGS / "tiny.py"))["get_config"]()
    config.data.max_prompt_tokens, config.rollout.max_answer_tokens = 60, 60
    config.rollout.questions, config.rollout.samples, config.rollout.slots = 8, 4, 32
    config.loss.minibatch_questions = 4
    config.model.dtype, config.model.remat = "bfloat16", "dots"
    config.packing.row_tokens, config.packing.rows_per_microbatch = 128, 16
    config.mesh.data = 2
    return config
