"""Values that a published config may hold, one by one and drawn, against `transformers`."""

import functools

import numpy as np
from hypothesis import strategies as st
from support.drawn import holds_for
from support.logits import one_row, our_logits
from support.models import FAMILIES, Loaded, make_hf_folder
from support.oracle import Oracle, assert_as_close


def _heads(count, kv_heads, size):
    return {"num_attention_heads": count, "num_key_value_heads": kv_heads, "head_dim": size}


def _rope(theta, factor=None):
    kind = {"rope_type": "default"} if factor is None else {"rope_type": "linear", "factor": factor}
    return {"rope_parameters": {**kind, "rope_theta": theta}}


def _sizes(layers, ffw, eps, tied):
    return {
        "num_hidden_layers": layers,
        "intermediate_size": ffw,
        "rms_norm_eps": eps,
        "tie_word_embeddings": tied,
    }


def _windows(window, first, on):
    return {"sliding_window": window, "max_window_layers": first, "use_sliding_window": on}


def _gemma3(window, scalar, cap, pattern):
    return {
        "sliding_window": window,
        "query_pre_attn_scalar": scalar,
        "final_logit_softcapping": cap,
        "layer_types": None,
        "sliding_window_pattern": pattern,
    }


def _yarn(factor, original, more):
    kind = {"rope_type": "yarn", "rope_theta": 5e3, "factor": factor}
    return {"rope_parameters": {**kind, "original_max_position_embeddings": original, **more}}


def _partial(share, factors):
    return {
        "rope_parameters": {
            "rope_type": "longrope",
            "rope_theta": 900.0,
            "partial_rotary_factor": share,
            "short_factor": factors,
            "long_factor": [3 * factor for factor in factors],
        }
    }


def _gemma2(window, cap, scores_cap):
    return {
        "sliding_window": window,
        "final_logit_softcapping": cap,
        "attn_logit_softcapping": scores_cap,
    }


# Values that a published config may hold, on top of the odd ones of each family.
CONFIGURATIONS = [
    ("qwen3", _heads(6, 1, 8) | _rope(100.0) | _sizes(1, 3, 1e-6, True)),
    ("qwen3", _heads(6, 6, 12) | _rope(5e6, 7.5) | _sizes(4, 70, 0.1, False)),
    ("qwen3", _heads(2, 1, 16) | _rope(1e4, 2.0)),
    ("llama", _heads(4, 2, 6) | _rope(1e4) | _sizes(2, 17, 1e-3, True)),
    ("llama", _heads(6, 3, 4) | _rope(1e6, 2.0) | _sizes(4, 40, 1e-6, False)),
    ("llama", _heads(2, 1, 16) | _sizes(3, 5, 0.1, True)),
    ("qwen2", _rope(100.0, 7.5) | _windows(1, 0, True) | _sizes(2, 9, 1e-6, False)),
    ("qwen2", _rope(5e6) | _windows(50, 3, True) | _sizes(4, 33, 0.1, True)),
    ("qwen2", _rope(1e4) | _windows(5, 1, False)),
    ("phi3", {"sliding_window": None, "num_key_value_heads": 1} | _sizes(1, 70, 1e-3, False)),
    ("phi3", {"sliding_window": 1, "num_key_value_heads": 6} | _sizes(4, 3, 1e-6, True)),
    ("phi3", {"sliding_window": 50, "num_key_value_heads": 2}),
    ("gemma3_text", _heads(6, 6, 12) | _gemma3(50, 300, 2.0, 2) | _sizes(2, 70, 0.1, True)),
    ("gemma3_text", _heads(2, 1, 16) | _gemma3(7, 64, 30.0, 1) | _sizes(1, 11, 1e-3, False)),
    ("gemma3_text", _heads(4, 2, 6) | _gemma3(3, 40, None, 4)),
    # so steep that float32 itself is off by 1e-5
    ("gemma3_text", _heads(6, 1, 8) | _gemma3(1, 9, None, 2) | _sizes(4, 3, 3e-5, False)),
    ("gemma3_text", _heads(6, 1, 8) | _gemma3(1, 9, None, 3) | _sizes(4, 3, 1e-6, False)),
    ("gemma2", _heads(6, 3, 4) | _gemma2(1, 2.0, 50.0) | _sizes(1, 3, 0.1, True)),
    ("gemma2", _heads(6, 6, 12) | _gemma2(50, 30.0, 2.0) | _sizes(4, 40, 1e-6, False)),
    ("gemma2", _heads(2, 1, 16) | _gemma2(9, 7.5, 11.0)),
    ("qwen3", {"attention_bias": True} | _rope(1e4) | _yarn(4.0, 32, {})),
    ("qwen2", _yarn(2.5, 16, {"mscale": 2.0, "mscale_all_dim": 0.5, "beta_fast": 8.0})),
    ("llama", {"attention_bias": True, "mlp_bias": True} | _sizes(2, 17, 1e-5, True)),
    ("llama", _heads(4, 2, 8) | _yarn(16.0, 300, {"truncate": False})),
    ("phi3", _partial(0.75, [1.0, 1.5, 2.0])),
    ("phi3", {"rope_parameters": {"rope_theta": 50.0, "partial_rotary_factor": 0.5}}),
    ("gemma2", {"attention_bias": True}),
    ("mistral", _heads(6, 3, 4) | _rope(1e4) | {"sliding_window": None}),
    ("ministral", _heads(2, 1, 16) | {"layer_types": None, "sliding_window": 5}),
    ("smollm3", {"no_rope_layers": None, "use_sliding_window": False, "attention_bias": False}),
    ("smollm3", {"no_rope_layers": None, "no_rope_layer_interval": 2, "mlp_bias": False}),
    ("olmo2", _heads(6, 6, 4) | _rope(1e4, 2.0) | _sizes(2, 9, 1e-3, True)),
    (
        "olmo3",
        _heads(2, 1, 16) | {"layer_types": None, "sliding_window": 3, "rope_parameters": None},
    ),
]
_HEADS = st.sampled_from([(6, 1, 8), (6, 6, 12), (4, 2, 6), (2, 1, 16), (6, 3, 4)])
_HEADED = _HEADS.map(lambda sizes: _heads(*sizes))
_ROPE = st.builds(_rope, st.sampled_from([100.0, 1e4, 1e6, 5e6]), st.sampled_from([None, 2.0, 7.5]))
_SIZES = st.builds(
    _sizes,
    st.integers(1, 4),
    st.integers(3, 70),
    st.sampled_from([1e-6, 1e-3, 0.1]),
    st.booleans(),
)
_WINDOW, _CAP = st.integers(1, 50), st.floats(2, 50)


def _sliding(window):
    return {"sliding_window": window, "layer_types": None}


_DRAWN = {
    "qwen3": [_HEADED, _ROPE],
    "llama": [_HEADED, _ROPE],
    "qwen2": [_ROPE, st.builds(_windows, _WINDOW, st.integers(0, 4), st.booleans())],
    "phi3": [
        st.fixed_dictionaries(
            {
                "sliding_window": st.none() | _WINDOW,
                "num_key_value_heads": st.sampled_from([1, 2, 6]),
            }
        )
    ],
    "gemma3_text": [
        _HEADED,
        st.builds(_gemma3, _WINDOW, st.integers(1, 300), st.none() | _CAP, st.integers(1, 4)),
    ],
    "gemma2": [_HEADED, st.builds(_gemma2, _WINDOW, _CAP, _CAP)],
    "mistral": [_HEADED, _ROPE, st.builds(_sliding, st.none() | _WINDOW)],
    "ministral": [_HEADED, _ROPE, st.builds(_sliding, _WINDOW)],
    "smollm3": [
        st.builds(
            lambda on, every, biased: {
                "use_sliding_window": on,
                "no_rope_layers": None,
                "no_rope_layer_interval": every,
                "attention_bias": biased,
                "mlp_bias": biased,
            },
            st.booleans(),
            st.integers(1, 4),
            st.booleans(),
        )
    ],
    "olmo2": [_HEADED, _ROPE],
    "olmo3": [_HEADED, st.builds(_sliding, _WINDOW)],
}


def _of(family):
    parts = st.tuples(*_DRAWN[family], st.just({}) | _SIZES)
    merge = lambda dicts: (family, functools.reduce(dict.__or__, dicts))
    return parts.map(merge)


@holds_for(CONFIGURATIONS, model=st.sampled_from(sorted(FAMILIES)).flatmap(_of))
def test_any_configuration_equals_transformers(tmp_path_factory, mesh, model):
    family, overrides = model
    folder = make_hf_folder(
        tmp_path_factory.mktemp("drawn") / "m", seed=3, family=family, **overrides
    )
    loaded, oracle = Loaded(folder, mesh), Oracle(folder, long=True)
    ids = np.random.default_rng(1).integers(0, loaded.cfg.vocab_size, 60)
    ours = our_logits(loaded, one_row(ids, 2, 3))[0, 2:62]
    assert_as_close(ours, *oracle.logits(ids))
