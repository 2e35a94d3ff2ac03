"""What a checkpoint keeps beside arrays, and which settings a restart may change."""

import json

import pytest
from etils import epath
from support import saving

from sar_jax import config
from sar_jax.errors import UserError
from sar_jax.training import workdir as workdir_lib
from sar_jax.training.checkpoints import Checkpoints


@pytest.mark.parametrize("alpha", [None, {"alpha": 0.1 + 0.2, "trust": 0.5, "level": None}])
def test_the_weights_state_is_kept_to_the_last_bit_and_may_be_missing(tmp_path, alpha):
    checkpoints = Checkpoints(epath.Path(tmp_path), saving.OWN)
    checkpoints.save(1, saving.states(1), saving.questions(), alpha)
    checkpoints.close()
    assert saving.resume(tmp_path)[0].alpha == alpha


def workdir(tmp_path, change=lambda fields: None):
    folder = epath.Path(tmp_path)
    workdir_lib.claim(folder, config.TrainConfig(), workdir_lib.facts(folder))
    path = folder / "config.json"
    fields = json.loads(path.read_text())
    change(fields)
    path.write_text(json.dumps(fields))
    return folder


def test_a_workdir_from_before_a_field_has_its_default(tmp_path):
    def older(fields):
        for name in ("guards", "advantage", "self_aligned"):
            del fields[name]
        del fields["loss"]["ratio"]

    folder, now = workdir(tmp_path, older), config.TrainConfig()
    workdir_lib.check(folder, now)
    now.loss.ratio = "sequence"
    with pytest.raises(UserError, match="config.loss.ratio: 'token' there, 'sequence' now"):
        workdir_lib.check(folder, now)


def test_alarms_may_change_and_the_steps_of_a_schedule_may_not(tmp_path):
    def scheduled(fields):
        fields["self_aligned"]["peak_at"] = 0.5

    now = config.TrainConfig()
    now.guards.echo, now.steps = 0.9, 7
    workdir_lib.check(workdir(tmp_path / "constant"), now)
    now.self_aligned.peak_at = 0.5
    with pytest.raises(UserError, match=r"\(config.steps: 500 there, 7 now\)"):
        workdir_lib.check(workdir(tmp_path / "scheduled", scheduled), now)
