"""Small tokenizers in the ways of known families: byte-level or sentencepiece's, with templates."""

import functools

from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    trainers,
)
from transformers import PreTrainedTokenizerFast

_TEXTS = ["How many apples does Mia have? system user assistant 12 + 34 = 46. |end turn|"] * 30
_QWEN = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}"
    "{% endif %}"
)
_LLAMA3 = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n"
    "{{ m['content'] | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
_PHI3 = (
    "{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
_GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}"
    "{{ raise_exception('no system role') }}{% endif %}"
    "{% for m in messages %}<start_of_turn>{{ 'model' if m['role'] == 'assistant' else 'user' }}\n"
    "{{ m['content'] | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
_MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}[INST] {{ m['content'] }} "
    "[/INST]{% elif m['role'] == 'assistant' %} {{ m['content'] }}{{ eos_token }}{% endif %}"
    "{% endfor %}"
)
# special tokens, the first of which is BOS and the second EOS; further added tokens; template
_KINDS = {
    "qwen": (["<|endoftext|>", "<|im_end|>", "<|im_start|>"], ["<think>", "</think>"], _QWEN),
    "llama3": (
        ["<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>"],
        ["\n\n"],
        _LLAMA3,
    ),
    "phi3": (["<s>", "<|end|>", "<|user|>", "<|system|>", "<|assistant|>"], [], _PHI3),
    "gemma": (["<bos>", "<end_of_turn>", "<start_of_turn>"], ["\n\n", "  "], _GEMMA),
    "mistral": (["<s>", "</s>", "[INST]", "[/INST]"], [], _MISTRAL),
}
KINDS = tuple(_KINDS)
_BYTES = ("qwen", "llama3")


@functools.cache
def make(kind: str) -> PreTrainedTokenizerFast:
    """kind: one of KINDS. It has added tokens within its vocabulary ("gemma") or behind it, some of
    which take the white space behind them ("phi3"), and white space as a token ("llama3")."""
    special, others, template = _KINDS[kind]
    if kind in _BYTES:
        backend = Tokenizer(models.BPE())
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=300,
            show_progress=False,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        )
    else:
        backend = Tokenizer(models.BPE(byte_fallback=True, unk_token=None))
        replaced = normalizers.Replace(" ", "\u2581")
        backend.normalizer = (
            replaced
            if kind == "gemma"
            else normalizers.Sequence([normalizers.Prepend("\u2581"), replaced])
        )
        backend.decoder = decoders.Sequence(
            [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()]
        )
        known = special if kind == "gemma" else []
        characters = [chr(c) for c in range(32, 127)] + ["\u2581", "\n"]
        trainer = trainers.BpeTrainer(
            vocab_size=500,
            show_progress=False,
            initial_alphabet=characters,
            special_tokens=[*known, *(f"<0x{byte:02X}>" for byte in range(256))],
        )
    backend.train_from_iterator(_TEXTS, trainer)
    strips = kind == "phi3"
    backend.add_special_tokens([AddedToken(t, rstrip=strips, normalized=False) for t in special])
    backend.add_tokens([AddedToken(t, normalized=False) for t in others])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=special[0],
        eos_token=special[1],
        chat_template=template,
        clean_up_tokenization_spaces=False,
    )
