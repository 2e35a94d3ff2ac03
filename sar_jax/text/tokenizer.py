"""A small tokenizer made from scratch: byte-level BPE, digits one by one, ChatML template. No JAX.

Byte-level: the 256 bytes are all in the vocabulary, so any text can be encoded. Each digit is a
token, so that arithmetic is done digit by digit.
"""

import json
import pathlib
from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

PAD, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
_SPECIAL = [PAD, START, END]
_ALPHABET = pre_tokenizers.ByteLevel.alphabet()  # the 256 bytes
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def train_tokenizer(
    texts: Iterable[str], vocab_size: int, max_length: int
) -> PreTrainedTokenizerFast:
    """A tokenizer that is made from texts; the same texts give the same tokenizer.

    vocab_size   its entries, at most
    max_length   the longest sequence of its model, in tokens
    """
    texts = list(texts)
    # each merge joins two pieces of them; the trainer reserves memory for as many as are asked for
    possible = len(_ALPHABET) + len(_SPECIAL) + sum(len(text.encode()) for text in texts)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\d"), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=min(vocab_size, possible),
        special_tokens=_SPECIAL,
        show_progress=False,
        initial_alphabet=_ALPHABET,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END,
        pad_token=PAD,
        chat_template=CHAT_TEMPLATE,
        model_max_length=max_length,
        clean_up_tokenization_spaces=False,
    )


def save_tokenizer(tokenizer: PreTrainedTokenizerFast, folder: pathlib.Path) -> None:
    """Writes its files; transformers 4 and 5 load them.

    Version 5 names its class by the name that it has there alone, and version 4 knows no "backend".
    """
    tokenizer.save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    found = json.loads(path.read_text())
    found.pop("backend", None)
    found["tokenizer_class"] = "PreTrainedTokenizerFast"
    path.write_text(json.dumps(found, indent=2) + "\n")
