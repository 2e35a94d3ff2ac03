"""What a checkpoint keeps beside arrays."""

import errno
import os
import time

import pytest
from etils import epath
from support import saving

from sar_jax.training.storage import digests
from sar_jax.training.storage.checkpoints import Checkpoints


@pytest.mark.parametrize("alpha", [None, {"alpha": 0.1 + 0.2, "trust": 0.5, "level": None}])
def test_the_weights_state_is_kept_to_the_last_bit_and_may_be_missing(tmp_path, alpha):
    checkpoints = Checkpoints(epath.Path(tmp_path), saving.OWN)
    checkpoints.save(1, saving.states(1), saving.questions(), alpha)
    checkpoints.close()
    assert saving.resume(tmp_path)[0].alpha == alpha


def test_a_save_that_fails_behind_is_seen_at_once_and_told_by_the_next(
    tmp_path, monkeypatch, capsys
):
    """The disk is full when the list of files is written, and later it is not."""
    checkpoints = Checkpoints(epath.Path(tmp_path), saving.OWN, keep=9)
    checkpoints.save(1, saving.states(1), saving.questions(1))
    checkpoints.wait()
    assert not checkpoints.has_failed()

    def full(folder):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(digests, "write_files", full)
        checkpoints.save(2, saving.states(2), saving.questions(2))
        while checkpoints.manager.is_saving_in_progress():
            time.sleep(0.01)
    assert checkpoints.has_failed() and checkpoints.has_failed()  # until it is told
    checkpoints.save(3, saving.states(3), saving.questions(3))
    assert not checkpoints.has_failed()
    told = capsys.readouterr().out
    assert "the checkpoint of step 2 could not be written" in told and "Now step 3" in told
    assert "No space left on device" in told and "step 1 is complete" in told
    checkpoints.close()
    assert saving.resume(tmp_path)[0].step == 3
