"""`sar_jax.explain` beside a computation with PyTorch and `transformers`, token by token.

    python benchmarks/explain_torch.py --model=HF_DIR --input=answers.jsonl [--pairs=16]

Each pair goes through `AutoModelForCausalLM` alone, in float32, unpadded and without a cache: once
after its prompt, once after the standalone context. Both sides take the same token ids. Prints the
largest differences, in nats."""

import argparse
import itertools
import pathlib

import numpy as np
import torch
from transformers import AutoModelForCausalLM

from sar_jax import config as config_lib
from sar_jax.parallel import sharding
from sar_jax.text import prompts
from sar_jax.text.tasks import given
from sar_jax.training.commands import explained
from sar_jax.training.commands import trained as trained_lib


def by_torch(model: torch.nn.Module, context: list[int], answer: list[int]) -> np.ndarray:
    """The logprobs of the answer's tokens after the context."""
    with torch.no_grad():
        logits = model(torch.tensor([context + answer])).logits[0, len(context) - 1 : -1]
    chosen = torch.log_softmax(logits.float(), -1).gather(1, torch.tensor(answer)[:, None])
    return chosen[:, 0].double().numpy()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True)
    parser.add_argument("--input", required=True)
    parser.add_argument("--pairs", type=int, default=16)
    options = parser.parse_args()
    config = config_lib.TrainConfig()
    config.model.dtype = "float32"
    found = trained_lib.locate(options.model, None, config)
    params = trained_lib.load_params(found, sharding.make_mesh(1, -1, 1), "float32")
    rows = list(itertools.islice(given.read(options.input), options.pairs))
    scored = explained.explain(rows, params, found.cfg, found.tokenizer, found.config)
    del params
    prompter = prompts.Prompter(found.tokenizer, found.config.prompt)
    folder = pathlib.Path(found.folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    gaps: dict[str, list[float]] = {"token": [], "v": [], "ln ppl": [], "R_SA": []}
    for row in scored:
        answer = prompter.answer(row["answer"])
        ours = [np.array(row[name]) for name in ("token_logps", "token_logps_standalone")]
        contexts = (prompter.prompt(row["question"]), prompter.standalone)
        theirs = [by_torch(model, list(context), answer) for context in contexts]
        gaps["token"] += [np.abs(a - b).max() for a, b in zip(ours, theirs)]
        gaps["v"].append(np.abs(ours[0] - ours[1] - (theirs[0] - theirs[1])).max())
        gaps["ln ppl"] += [abs(a.mean() - b.mean()) for a, b in zip(ours, theirs)]
        gain = (theirs[0] - theirs[1]).mean()
        gaps["R_SA"].append(abs(row["self_aligned"] - np.clip(1 - np.exp(-gain), -1, 1)))
    tokens = sum(len(row["tokens"]) for row in scored)
    largest = ", ".join(f"{name} {max(values):.1e}" for name, values in gaps.items())
    print(f"{model.config.model_type}: {len(scored)} pairs, {tokens} answer tokens: {largest}")


if __name__ == "__main__":
    main()
