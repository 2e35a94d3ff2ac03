"""Fields of config.json that are not used: which have no effect, and which may not be passed over.

without effect   known to `transformers` (INERT), or known to nothing
refused          a value other than that of FIXED; what another mechanism is described by
                 (OTHERS); what the installed `transformers` knows and this package does not
"""

import dataclasses
import inspect
import re
from typing import Any

from sar_jax.model.families.family import Family, Json

# Known to `transformers` without changing what is computed from tokens and weights.
INERT = {
    "architectures",
    "attention_dropout",
    "bos_token_id",
    "chunk_size_feed_forward",
    "dtype",
    "embd_pdrop",
    "eos_token_id",
    "id2label",
    "initializer_range",
    "is_encoder_decoder",
    "label2id",
    "model_type",
    "output_hidden_states",
    "pad_token_id",
    "pretraining_tp",
    "problem_type",
    "resid_pdrop",
    "residual_dropout",
    "return_dict",
    "torch_dtype",
    "transformers_version",
    "use_cache",
}
# Read for every family, though no class names them.
ROPE = {"rope_theta", "rope_parameters", "rope_scaling", "original_max_position_embeddings"}
# Wherever they are given, `transformers` does something else for another value.
FIXED: dict[str, tuple[Any, ...]] = {
    "quantization_config": (None,),
    "per_layer_config": (None, {}),
    "is_causal": (True, None),
    "transformers_weights": (None,),
    "partial_rotary_factor": (1.0, None),
}
# Names of mechanisms that the decoder lacks. A class that does not know them would pass them over,
# but whoever wrote one trained another function.
OTHERS = re.compile(
    "expert|moe|quantiz|compress|lora_rank|mamba|ssm_|linear_(num|conv|key|value)|attention_chunk"
    "|alibi|vision|audio"
)


_WAYS_OUT = {
    "quantization_config": ": the weights are quantised; give the model in bfloat16 or float32",
    "transformers_weights": ": the weights are in another file; name it model.safetensors",
}


def problems(raw: Json, family: Family) -> list[str]:
    """What of a config.json cannot be accepted, in words."""
    fixed = {**FIXED, **family.fixed}
    for name in family.defaults:
        fixed.pop(name, None)
    wrong = {k: v for k, v in raw.items() if k in fixed and v not in fixed[k]}
    found = [f"{k} = {v!r:.60}{_WAYS_OUT.get(k, '')}" for k, v in wrong.items()]
    own = [name for name in unknown(raw, family) if raw[name]]
    others = [name for name in own if OTHERS.search(name)]
    found += [f"{name} = {raw[name]!r:.60} (unknown)" for name in others]
    if rest := set(own) - set(others):
        newer = sorted(rest & known_to_transformers(raw["model_type"]))
        found += [f"{name} = {raw[name]!r:.60} (unknown)" for name in newer]
    needed = [k for k, v in family.defaults.items() if _is_number(v) and k not in _MAY_BE_NULL]
    return found + [f"{k} is missing" for k in sorted(needed) if raw.get(k, 0) is None]


_MAY_BE_NULL = {
    "attn_logit_softcapping",
    "final_logit_softcapping",
    "num_key_value_heads",
    "sliding_window",
}


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def unknown(raw: Json, family: Family) -> list[str]:
    """The fields that no table knows."""
    known = {*family.defaults, *family.fixed, *FIXED, *INERT, *ROPE, "layer_types"}
    return [name for name in raw if name not in known]


def known_to_transformers(model_type: str) -> set[str]:
    """The fields of the class that the installed `transformers` has for a model type."""
    from transformers import CONFIG_MAPPING  # takes seconds, and is seldom needed

    if model_type not in CONFIG_MAPPING:
        return set()
    made = CONFIG_MAPPING[model_type]
    if dataclasses.is_dataclass(made):
        return {field.name for field in dataclasses.fields(made)}
    return set(inspect.signature(made.__init__).parameters) - {"self", "kwargs"}
