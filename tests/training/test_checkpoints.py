"""What a checkpoint keeps beside arrays, and which settings a restart may change."""

import json

import jax
import jax.numpy as jnp
import pytest
from etils import epath

from sar_jax import config
from sar_jax.errors import UserError
from sar_jax.training import checkpoints as checkpoints_lib
from sar_jax.training import learner
from sar_jax.training import questions as questions_lib
from sar_jax.training import workdir as workdir_lib


def saved(folder, alpha):
    count = jnp.zeros((), jnp.int32)
    state = learner.States(learner.TrainState({"x": jnp.ones(3)}, (), count, count), None)
    iterator = questions_lib.batches([1, 2, 3, 4], 2, 0, 0, 1)
    checkpoints = checkpoints_lib.Checkpoints(epath.Path(folder))
    checkpoints.save(1, state, iterator, "these", *alpha)
    checkpoints.wait()
    return checkpoints, state, iterator


@pytest.mark.parametrize(
    "alpha, kept",
    [
        ((), None),
        (({},), None),
        (
            ({"alpha": 0.1 + 0.2, "trust": 0.5, "level": None},),
            {"alpha": 0.1 + 0.2, "trust": 0.5, "level": None},
        ),
    ],
)
def test_the_weights_state_is_kept_to_the_last_bit_and_may_be_missing(tmp_path, alpha, kept):
    """Checkpoints of before there was one, and of runs with a constant weight, have none."""
    checkpoints, state, iterator = saved(tmp_path, alpha)
    like = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state
    )
    assert (checkpoints.restore(1, like, iterator, "these").policy.params["x"] == 1).all()
    assert checkpoints.meta(1).get("alpha") == kept
    checkpoints.close()
    again = checkpoints_lib.Checkpoints(epath.Path(tmp_path))  # as a new process does
    assert again.meta(1).get("alpha") == kept
    again.close()


def workdir(tmp_path, change=lambda fields: None):
    folder = epath.Path(tmp_path)
    workdir_lib.claim(folder, config.TrainConfig())
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
