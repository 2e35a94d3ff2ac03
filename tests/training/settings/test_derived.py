"""What `rollout.precision` sets."""

from support.configs import good, good_pretrain

from sar_jax.training.settings import derived


def spelled(**rollout):
    config = good()
    for name, value in rollout.items():
        setattr(config.rollout, name, value)
    before = repr(config)
    found = derived.spelled_out(config)
    assert repr(config) == before  # a config that somebody holds stays as it is
    return found.rollout.weights_dtype, found.rollout.cache_dtype, found.loss.importance_cap


def test_int8_is_weights_cache_and_a_cap():
    assert spelled() == ("", "", 0)
    assert spelled(precision="int8") == ("int8", "int8", 2)
    assert spelled(precision="int8", cache_dtype="bfloat16") == ("int8", "bfloat16", 2)


def test_a_cap_that_is_given_stays():
    config = good()
    config.rollout.precision, config.loss.importance_cap = "int8", 5
    assert derived.spelled_out(config).loss.importance_cap == 5


def test_pretraining_has_no_rollout():
    config = good_pretrain()
    assert derived.spelled_out(config) is config
