"""Score, update and rollout beside PyTorch and Tunix, on the same rows, in turn.

    python benchmarks/against_peers.py --environments=FOLDER [--only=score,update] [--peers=torch]

Every comparison starts one process for each program, lets them warm up, and then calls them in
turn, so that each pair of calls sees the same machine. One line of JSON a figure: medians of
processor seconds and of seconds, peak memory, and sar_jax's ratios to the others (below 1: sar_jax
takes less). A ratio is the median of the rounds' ratios. `first_value` is what each program
computed: the sum of all logprobs, the loss of the update, or tokens; these have to agree.

The comparisons, of a random 4-layer Qwen3 (width 256, 8 heads, 4 key and value heads of 32,
feed-forward 1,024, vocabulary 4,096):

    score        logprobs of 64 rows of 64 + 256 tokens
    update       gradient of GRPO's loss on these, and AdamW
    lengths      both, of answers with published lengths divided by 8: packed here, padded by others
    vocabulary   score of 8 rows with a vocabulary of 151,936
    rollout      256 tokens after each of 64 prompts, all drawn from the whole distribution

sar_jax has the defaults of a config, and its options can be given: --set=model.remat=none. The
others keep their activations, and compute --rows rows at once.

The peers' packages are installed into virtual environments below --environments, once. PYTHONPATH
says which sar_jax is measured, where it is not the one that is installed. Where there is an NVIDIA
GPU, everything runs on it in bfloat16, and --peers=vllm can be asked
for: rollout alone. Give this the machine alone: other work moves the seconds, and the ratios
less. On two cores `lengths` takes about an hour, and everything with --lengths-questions=8
--rounds=2 takes ten minutes."""

import argparse
import dataclasses
import math
import os
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Sequence

from peers import environments, turns
from peers import options as options_lib
from peers.turns import Side
from peers.work import Work

COMPARISONS = ("score", "update", "lengths", "vocabulary", "rollout")
PEERS = ("torch", "tunix", "vllm")
LARGE = 151_936


def works(options: argparse.Namespace) -> dict[str, Work]:
    """The comparisons that are asked for; the model's folder is that of the small vocabulary."""
    standard = Work(
        model=options.model,
        task="score",
        questions=options.questions,
        minibatch=options.questions,
        prompt=options.prompt,
        answer=options.answer,
        dtype=options.dtype,
        rows=options.rows,
        recomputes=options.peers_recompute,
        overrides=tuple(options.overrides),
    )
    count = options.lengths_questions
    of_lengths = dict(
        task="step",
        samples=6,
        divisor=8,
        questions=count,
        minibatch=count // 2,
        rows=min(options.rows, 32),
        warm_ups=1,
    )
    few = dict(questions=2, minibatch=2, rows=8)
    found = {
        "score": standard,
        "update": dataclasses.replace(standard, task="update"),
        "lengths": dataclasses.replace(standard, **of_lengths),
        "vocabulary": dataclasses.replace(standard, **few),
        "rollout": dataclasses.replace(standard, task="rollout", warm_ups=1),
    }
    fitting = lambda work: math.gcd(work.rows, work.minibatch * work.samples)
    return {
        name: dataclasses.replace(found[name], rows=fitting(found[name])) for name in options.only
    }


def sides(options: argparse.Namespace, gpu: bool) -> list[Side]:
    """sar_jax first, then another checkout of it where one is named, then the peers."""
    own = os.environ.get("PYTHONPATH", "")
    path = os.pathsep.join(os.path.abspath(part) for part in own.split(os.pathsep) if part)
    packages = environments.versions(sys.executable, ["jax"])
    found = [Side("sar_jax", "with_sar_jax", sys.executable, path, packages)]
    if options.beside:
        checkout = os.path.abspath(options.beside)
        found.append(Side(options.beside, "with_sar_jax", sys.executable, checkout, packages))
    bases = {"tunix": options.tunix_python}
    for name in options.peers:
        python = environments.python(name, options.environments, bases.get(name, ""), gpu)
        packages = environments.described(name, python)
        found.append(Side(name, f"with_{name}", python, packages=packages))
    return found


def model(options: argparse.Namespace, side: Side, which: str) -> str:
    """A folder with a random model of a vocabulary, or of the sizes of a published one."""
    folder = options.environments.resolve() / f"model_{which.replace('/', '_')}"
    words, environment = side.command("models", str(folder), which)
    if subprocess.run(words, cwd=turns.FOLDER, env=environment, stdout=sys.stderr).returncode:
        raise SystemExit("no random model was made: the message is above")
    return str(folder)


def chosen(known: Sequence[str], optional: bool = False):
    """An argparse type: some of the known words, with commas between them."""

    def parse(text: str) -> list[str]:
        words = [word for word in text.split(",") if word]
        if set(words) - set(known) or not (words or optional):
            raise argparse.ArgumentTypeError(f"choose from {', '.join(known)}")
        return words

    return parse


def parse() -> argparse.Namespace:
    parser = options_lib.parser(__doc__)
    add = parser.add_argument
    add(
        "--environments",
        type=pathlib.Path,
        required=True,
        help="folder of the peers' environments and of the random models; kept for the next time",
    )
    add(
        "--only",
        type=chosen(COMPARISONS),
        default=list(COMPARISONS),
        help=f"comparisons to make, of {', '.join(COMPARISONS)}; all of them by default",
    )
    add(
        "--peers",
        type=chosen(PEERS, optional=True),
        default=["torch", "tunix"],
        help="programs to compare with: torch, tunix, vllm; empty for none",
    )
    add("--rounds", type=int, default=6, help="calls of each program")
    add("--beside", metavar="CHECKOUT", help="another checkout of sar_jax, to compare with too")
    add(
        "--tunix-python",
        default="python3.12",
        help="what Tunix's environment is made of; it needs Python 3.12",
    )
    add(
        "--rows",
        type=int,
        default=64,
        help="rows that the peers compute at once; fewer where an update has no multiple of it",
    )
    add("--peers-recompute", action="store_true", help="the peers recompute activations")
    add("--lengths-questions", type=int, default=128, help="of lengths, 6 answers each; even")
    other = parser.add_mutually_exclusive_group().add_argument
    other("--model", default="", help="a Hugging Face folder in place of the random model")
    other(
        "--sizes-of", metavar="ID", help="a random model of the sizes of a shipped config's model"
    )
    options_lib.add_sizes(parser)
    return parser.parse_args()


def main() -> None:
    options = parse()
    if options.model:
        options.model = os.path.abspath(options.model)
    gpu = os.environ.get("JAX_PLATFORMS") != "cpu" and bool(shutil.which("nvidia-smi"))
    options.dtype = options.dtype or ("bfloat16" if gpu else "float32")
    running = sides(options, gpu)
    for name, work in works(options).items():
        which = options.sizes_of or str(LARGE if name == "vocabulary" else 4096)
        work = dataclasses.replace(work, model=work.model or model(options, running[0], which))
        able = [side for side in running if side.name != "vllm" or name == "rollout"]
        found = turns.take(able, work, options.rounds)
        turns.report(name, found, dtype=work.dtype, questions=work.questions)


if __name__ == "__main__":
    main()
