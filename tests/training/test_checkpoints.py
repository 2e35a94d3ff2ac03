"""What a checkpoint keeps beside arrays."""

import pytest
from etils import epath
from support import saving

from sar_jax.training.checkpoints import Checkpoints


@pytest.mark.parametrize("alpha", [None, {"alpha": 0.1 + 0.2, "trust": 0.5, "level": None}])
def test_the_weights_state_is_kept_to_the_last_bit_and_may_be_missing(tmp_path, alpha):
    checkpoints = Checkpoints(epath.Path(tmp_path), saving.OWN)
    checkpoints.save(1, saving.states(1), saving.questions(), alpha)
    checkpoints.close()
    assert saving.resume(tmp_path)[0].alpha == alpha
