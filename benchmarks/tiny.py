"""The tiny config, with and without the self-aligned reward: accuracy, tokens, seconds and memory of whole runs.

    python benchmarks/tiny.py --output=runs/tiny_benchmark [--seeds=3] [--variants=sa_grpo,grpo,r_sa_alone]

Each run is the README's command in a process of its own, one after the other: 9 runs of about six minutes each on two
cores. Seconds and peak memory are the whole process's, as the operating system accounts them. Finished runs are kept, so an
interrupted benchmark goes on where it stopped. Prints a Markdown table, and writes it to OUTPUT/table.md.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).parent.parent
VARIANTS = {
    "sa_grpo": [],
    "grpo": ["--config.rewards.self_aligned=0"],
    "r_sa_alone": ["--config.rewards.verifiable=0"],
}


def run(variant: str, seed: int, output: pathlib.Path) -> dict:
    """One training run; its figures are kept in WORKDIR/figures.json."""
    workdir = output / f"{variant}_seed{seed}"
    kept = workdir / "figures.json"
    if kept.is_file():
        return json.loads(kept.read_text())
    command = [sys.executable, "-m", "sar_jax.train", "--config=configs/tiny.py", f"--config.seed={seed}",
               f"--workdir={workdir.absolute()}", *VARIANTS[variant]]
    print(" ".join(command), flush=True)
    start = time.perf_counter()
    with (output / f"{workdir.name}.log").open("w") as log:
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        first_line = None
        for line in process.stdout:
            first_line = first_line or time.perf_counter() - start
            log.write(line)
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"the run failed, see {output / workdir.name}.log")
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    evaluated = [line for line in lines if "eval/accuracy" in line]
    figures = {
        "variant": variant, "seed": seed, "steps": lines[-1]["step"],
        "accuracy": [100 * evaluated[i]["eval/accuracy"] for i in (0, -1)],
        "length": [evaluated[i]["eval/length"] for i in (0, -1)],
        "seconds": time.perf_counter() - start, "first_line_seconds": first_line,
        "peak_gib": usage.ru_maxrss / 2**20,
        "compilations_after_step_1": sum(line["compilations"] for line in lines[2:])}
    kept.write_text(json.dumps(figures, indent=2) + "\n")
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=pathlib.Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--variants", default=",".join(VARIANTS))
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    table = ["| run | seed | accuracy before -> after | tokens before -> after | change | s | first line, s | peak GiB | "
             "compilations after step 1 |", "|---|---|---|---|---|---|---|---|---|"]
    for seed in range(options.seeds):
        for variant in options.variants.split(","):
            f = run(variant, seed, options.output)
            (before, after), (long, short) = f["accuracy"], f["length"]
            table.append(f"| {variant} | {seed} | {before:.1f} -> {after:.1f} | {long:.1f} -> {short:.1f} | "
                         f"{100 * (short / long - 1):+.0f} % | {f['seconds']:.0f} | {f['first_line_seconds']:.1f} | "
                         f"{f['peak_gib']:.2f} | {f['compilations_after_step_1']} |")
            print(table[-1], flush=True)
    (options.output / "table.md").write_text("\n".join(table) + "\n")
    print("\n".join(table))


if __name__ == "__main__":
    main()
