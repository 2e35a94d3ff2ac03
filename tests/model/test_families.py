"""config.json, field by field: the measure is the class of `transformers` for the model type."""

import copy
import dataclasses

import pytest
import torch
from support.models import FAMILIES

from sar_jax.model import families
from sar_jax.model.families import fields, reading

TINY = {
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "intermediate_size": 12,
    "vocab_size": 20,
    "max_position_embeddings": 64,
    "head_dim": 4,
}
# for fields without effect, a value that is not the usual one
UNUSUAL = {
    "architectures": ["Qwen9ForCausalLM"],
    "attention_dropout": 0.5,
    "bos_token_id": 3,
    "chunk_size_feed_forward": 7,
    "dtype": "float32",
    "embd_pdrop": 0.5,
    "eos_token_id": [4, 5],
    "id2label": {"0": "a", "1": "b"},
    "initializer_range": 0.5,
    "is_encoder_decoder": True,
    "label2id": {"a": 0, "b": 1},
    "model_type": None,  # what the class is chosen by
    "output_hidden_states": True,
    "pad_token_id": 2,
    "pretraining_tp": 2,
    "problem_type": "regression",
    "resid_pdrop": 0.5,
    "residual_dropout": 0.5,
    "return_dict": True,
    "torch_dtype": "float32",
    "transformers_version": "9.0",
    "use_cache": False,
}
# as people's folders have them
FOUND = {
    "_name_or_path": "/home/someone/model",
    "auto_map": {"AutoConfig": "configuration_other.OtherConfig"},
    "torchscript": True,
    "pruned_heads": {"0": [1]},
    "tokenizer_class": "Other",
    "unsloth_fixed": True,
    "unsloth_version": "2030.1",
    "use_mrope": True,
    "tie_encoder_decoder": True,
    "temperature": 0.3,
    "_attn_implementation_autoset": True,
    "hidden_dropout": 0.5,
    "rope_local_base_freq": 77.0,
    "query_pre_attn_scalar": 3,
    "attn_logit_softcapping": 2.0,
    "final_logit_softcapping": 2.0,
    "mlp_bias": True,
    "no_rope_layers": [0, 1],
    "clip_qkv": 0.1,
}


def raw_of(kind: str) -> families.Json:
    return {"model_type": kind, "pad_token_id": 0, **TINY}


def logits(raw: families.Json) -> torch.Tensor:
    """Of a model with weights that depend on their names and shapes alone."""
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(**raw)
    config._attn_implementation = "eager"
    network = AutoModelForCausalLM.from_config(config).eval()
    for name, p in network.named_parameters():
        torch.manual_seed(len(name))
        p.data = 0.4 * torch.randn_like(p) + (1 if "norm" in name else 0)
    with torch.no_grad():
        return network(torch.arange(20)[None]).logits


@pytest.mark.parametrize("kind", reading.MODEL_TYPES)
def test_every_field_of_the_class_is_accounted_for_with_its_default(kind):
    """A field that a newer `transformers` adds shows here."""
    from transformers import CONFIG_MAPPING

    family = reading._FAMILIES[kind]
    known = {*family.defaults, *family.fixed, *fields.INERT, *fields.ROPE}
    assert fields.known_to_transformers(kind) <= known
    assert family.defaults.keys() >= {"tie_word_embeddings", "head_dim"}
    for field in dataclasses.fields(CONFIG_MAPPING[kind]):
        if field.name in family.defaults:
            assert family.defaults[field.name] == field.default, field.name


@pytest.mark.parametrize("kind", reading.MODEL_TYPES)
def test_a_config_with_defaults_left_out_is_the_one_that_transformers_completes(kind):
    from transformers import AutoConfig

    completed = AutoConfig.for_model(kind).to_dict() | {"model_type": kind, "dtype": None}
    assert families.parse({"model_type": kind}, 64) == families.parse(completed, 64)


@pytest.mark.parametrize("kind", reading.MODEL_TYPES)
def test_fields_without_effect_change_nothing_here_or_in_transformers(kind):
    assert set(UNUSUAL) == fields.INERT
    raw = raw_of(kind)
    expected, cfg = logits(raw), families.parse(raw, 64)
    known = fields.known_to_transformers(kind)
    family = reading._FAMILIES[kind]
    others = {k: v for k, v in FOUND.items() if k not in {*known, *family.defaults}}
    for name, value in (UNUSUAL | others).items():
        if value is None:
            continue
        assert families.parse(raw | {name: value}, 64) == cfg, name
        assert torch.equal(logits(raw | {name: value}), expected), name
    assert sorted(families.without_effect(raw | others)) == sorted(others)


# with values that change what is computed
MATTERS = {
    "head_dim": 8,
    "rms_norm_eps": 0.5,
    "rope_theta": 3.0,
    "rope_scaling": {"rope_type": "linear", "factor": 4.0},
    "sliding_window": 3,
    "attention_bias": True,
    "no_rope_layers": [0, 1],
    "query_pre_attn_scalar": 3,
    "final_logit_softcapping": 2.0,
    "is_causal": False,
}


@pytest.mark.parametrize("kind", reading.MODEL_TYPES)
def test_a_field_that_changes_the_logits_changes_the_model_or_is_refused(kind):
    raw = raw_of(kind)
    expected, cfg = logits(raw), families.parse(raw, 64)
    changed = 0
    for name, value in MATTERS.items():
        try:
            theirs = logits(raw | {name: value})
        except Exception:  # transformers refuses it
            continue
        try:
            same = families.parse(raw | {name: value}, 64) == cfg
        except families.reading.UserError:
            continue
        assert same == torch.equal(theirs, expected), name
        changed += not same
    assert changed >= 3


def test_what_the_installed_transformers_knows_and_this_package_does_not_is_refused(monkeypatch):
    monkeypatch.setattr(fields, "known_to_transformers", lambda kind: {"gated_attention"})
    with pytest.raises(families.reading.UserError, match="gated_attention = True"):
        families.parse(raw_of("qwen3") | {"gated_attention": True, "use_mrope": True}, 64)


def test_the_families_of_the_tests_are_those_that_are_supported():
    assert sorted(FAMILIES) == sorted(reading.MODEL_TYPES)


def test_the_text_part_of_gemma_3_is_what_transformers_makes_of_the_whole():
    """Published with most of its fields left out."""
    from transformers import AutoConfig

    text = {"hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 34}
    text |= {"sliding_window": 1024, "rope_scaling": {"factor": 8.0, "rope_type": "linear"}}
    raw = {"model_type": "gemma3", "text_config": text, "vision_config": {"hidden_size": 8}}
    whole = AutoConfig.for_model(**raw).to_dict()
    theirs = whole["text_config"] | {"model_type": "gemma3_text", "dtype": None}
    assert families.parse(raw, 64) == families.parse(theirs, 64)
    assert families.parse(raw | {"tie_word_embeddings": False}, 64).tied is False
    with pytest.raises(families.reading.UserError, match="quantization_config"):
        families.parse(raw | {"quantization_config": {"bits": 4}}, 64)


@pytest.mark.parametrize("kind", ["qwen3", "llama", "olmo3", "gemma3_text"])
def test_of_two_descriptions_of_the_rotary_embedding_the_one_of_transformers_is_taken(kind):
    from transformers import AutoConfig

    linear, other = {"rope_type": "linear", "factor": 4.0}, {"rope_type": "default"}
    nested = {"full_attention": other, "sliding_attention": other | {"rope_theta": 33.0}}
    given = nested if kind in ("olmo3", "gemma3_text") else other | {"rope_theta": 33.0}
    raw = raw_of(kind) | {"rope_scaling": linear, "rope_parameters": given, "rope_theta": 55.0}
    # for_model writes into what it is given
    theirs = AutoConfig.for_model(**copy.deepcopy(raw)).to_dict() | {"model_type": kind}
    assert families.parse(raw, 64) == families.parse(theirs | {"dtype": None}, 64)
