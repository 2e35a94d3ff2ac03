"""config.json of a Hugging Face model -> ModelConfig, for every family that the one decoder covers.

    reading   the public functions: parse, without_effect, qwen3_json
    family    what a family is, and what most of them share
    fields    which fields have no effect, and which may not be passed over
    ropes     the rotary embedding of each layer
    values    types and ranges
    qwen, llama, olmo, phi, gemma   the families

The measure is the class that `transformers` itself has for a model type. A field that this class
does not know changes nothing there, so it changes nothing here, and is named. A field that it knows
is used, known to be without effect, or supported with one value only and otherwise refused by name.
"""

from sar_jax.model.families.family import Family as Family
from sar_jax.model.families.reading import MODEL_TYPES as MODEL_TYPES
from sar_jax.model.families.reading import Json as Json
from sar_jax.model.families.reading import add as add
from sar_jax.model.families.reading import parse as parse
from sar_jax.model.families.reading import qwen3_json as qwen3_json
from sar_jax.model.families.reading import text_part as text_part
from sar_jax.model.families.reading import without_effect as without_effect
