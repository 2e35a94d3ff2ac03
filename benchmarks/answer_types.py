"""What a model's self-aligned reward pays for: answers of eight kinds to questions with worked
solutions, scored as `sar_jax.explain --answer_types` does, for docs/answer_types.md.

    python benchmarks/answer_types.py --model=HF_DIR --data=gsm8k=FOLDER --rows=200 --output=DIR \\
        [--page=docs/answer_types.md]

Each part of 10 questions is a file in OUTPUT: the same command goes on where it was stopped. After
each part it writes answer_types.md, the tables with their 95 % intervals, and answer_types.svg of
what there is by then. --page puts the tables between the page's two marks, and the plot beside it.
"""

import argparse
import json
import os
import pathlib
from typing import Any

from matplotlib import rc
from matplotlib.figure import Figure

from sar_jax import config as config_lib
from sar_jax import files
from sar_jax.parallel import sharding
from sar_jax.rl import copies
from sar_jax.text import answer_types as types_lib
from sar_jax.text import prompts, tasks
from sar_jax.text.tasks import Source
from sar_jax.training.commands import answer_types, explained
from sar_jax.training.commands import trained as trained_lib

PART = 10  # questions
RUNS = (3, 4, 6, 8, 12, 16)  # tokens
BEGIN, END = "<!-- measured -->", "<!-- until here -->"  # in the page
COLOURS = ("#0b5cab", "#a8470a", "#0f6b3c", "#8b2f7f", "#5f5500", "#00666e", "#8a1c3b", "#444444")
DASHES = ("-", "--", ":", "-.", "-", "--", ":", "-.")


def by_run(rows: list[dict[str, Any]], prompter: prompts.Prompter) -> str:
    """A table of R_SA and of the overlap where a copy is a run of fewer or more tokens."""
    kinds = list(dict.fromkeys(row["kind"] for row in rows))
    lines = []
    for run in RUNS:
        again = []
        for row in rows:
            ids = prompter.prompt(row["question"]), prompter.answer(row["answer"])
            again.append(row | {"token_copied": copies.copied(*ids, run).tolist()})
        found = answer_types.summarise(again)
        share = [f"{100 * kind.copied:.1f} %" for kind in found]
        reward = [f"{kind.without_copies.value:.3f}" for kind in found]
        lines.append([str(run), *(f"{r} ({s})" for r, s in zip(reward, share))])
    return answer_types.tables.table(["run", *kinds], lines)


def draw(kinds: list[answer_types.Kind], path: pathlib.Path) -> None:
    """R_SA of each kind with its interval, with and without copies; and v along the answer."""
    rc("svg", fonttype="none", hashsalt="answer_types")
    figure = Figure(figsize=(9.2, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for i, kind in enumerate(kinds):
        for mean, offset, face in (
            (kind.reward, -0.14, COLOURS[0]),
            (kind.without_copies, 0.14, "white"),
        ):
            spread = [[mean.value - mean.low], [mean.high - mean.value]]
            left.errorbar([mean.value], [i + offset], xerr=spread, fmt="o", color=COLOURS[0],
                          markerfacecolor=face, markersize=5, capsize=2)  # fmt: skip
    left.set_yticks(range(len(kinds)), [kind.name for kind in kinds])
    left.invert_yaxis()
    left.axvline(0, color="#999999", linewidth=0.8)
    left.set_xlabel("R_SA; open: copies of the question left out")
    for kind, colour, dash in zip(kinds, COLOURS, DASHES):
        x = [100 * (i + 0.5) / len(kind.profile) for i in range(len(kind.profile))]
        right.plot(x, [float("nan") if v is None else v for v in kind.profile],
                   color=colour, linestyle=dash, label=kind.name)  # fmt: skip
    right.axhline(0, color="#999999", linewidth=0.8)
    right.set_xlabel("position in the answer, %")
    right.set_ylabel("mean v, nats")
    right.legend(fontsize=7, ncols=2)
    figure.savefig(path, metadata={"Date": None})


def _made(source: Source, questions: int) -> list[dict[str, Any]]:
    """The answers to the first so many questions that have a solution of two steps."""
    for count in range(questions, len(source) + 1):
        made = types_lib.make(source, count=count)
        if count - made.left_out == questions:
            return made.rows
    raise SystemExit(f"fewer than {questions} questions have a solution of two steps")


def _parts(rows: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    size = PART * len(types_lib.KINDS)
    return [rows[i : i + size] for i in range(0, len(rows), size)]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", default="gsm8k")
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--output", type=pathlib.Path, required=True)
    parser.add_argument("--page", type=pathlib.Path)
    options = parser.parse_args()
    config = config_lib.TrainConfig()
    config.model.dtype = "float32"
    found = trained_lib.locate(options.model, None, config)
    prompter = prompts.Prompter(found.tokenizer, found.config.prompt)
    rows = _made(tasks.load(options.data, "test"), options.rows)
    options.output.mkdir(parents=True, exist_ok=True)
    params, scored = None, []
    for number, part in enumerate(_parts(rows)):
        path = options.output / f"part_{number:03d}.jsonl"
        if not path.is_file():
            if params is None:
                params = trained_lib.load_params(found, sharding.make_mesh(1, -1, 1), "float32")
            new = explained.explain(part, params, found.cfg, found.tokenizer, found.config)
            files.write_atomically(path, "".join(json.dumps(row) + "\n" for row in new))
        scored += [json.loads(line) for line in path.read_text().splitlines()]
        kinds = answer_types.summarise(scored)
        count = len(scored) // len(types_lib.KINDS)
        text = f"{count} questions\n\n{answer_types.to_markdown(kinds)}\n"
        if len(scored) == len(rows):
            text += "\nR_SA and the share of copied tokens by the shortest run that is a copy:\n"
            text += f"\n{by_run(scored, prompter)}\n"
        files.write_atomically(options.output / "answer_types.md", text)
        draw(kinds, options.output / "answer_types.svg")
        print(f"{count} of {options.rows} questions, {os.times().user:.0f} processor s", flush=True)
    print(text)
    if options.page:
        before, mark, rest = options.page.read_text().partition(BEGIN)
        after = rest.partition(END)[2]
        files.write_atomically(options.page, f"{before}{mark}\n\n{text}\n{END}{after}")
        draw(kinds, options.page.with_suffix(".svg"))


if __name__ == "__main__":
    main()
