"""What `transformers` and PyTorch make of a model; runs in their environment, in float32.

    python -m peers.by_transformers FOLDER < asked.json > told.json

asked   {"model": a folder, "texts": to encode, "sequences": ids whose logits are written to
        FOLDER/logits-N.npy, "prompts": ids that are gone on with greedily, "tokens": how far}
told    {"ids": of the texts, "answers": ids of each prompt's}
"""

import json
import pathlib
import sys

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def main() -> None:
    folder, asked = pathlib.Path(sys.argv[1]), json.load(sys.stdin)
    tokenizer = AutoTokenizer.from_pretrained(asked["model"])
    model = AutoModelForCausalLM.from_pretrained(asked["model"], dtype=torch.float32)
    ids = [tokenizer(text, add_special_tokens=False).input_ids for text in asked["texts"]]
    answers = []
    with torch.no_grad():
        for number, sequence in enumerate(asked["sequences"]):
            logits = model(torch.tensor([sequence])).logits[0].numpy()
            np.save(folder / f"logits-{number}.npy", logits)
        for prompt in asked["prompts"]:
            given = torch.tensor([prompt])
            made = model.generate(
                given,
                attention_mask=torch.ones_like(given),
                max_new_tokens=asked["tokens"],
                do_sample=False,
            )
            answers.append(made[0, len(prompt) :].tolist())
    json.dump({"ids": ids, "answers": answers}, sys.stdout)


if __name__ == "__main__":
    main()
