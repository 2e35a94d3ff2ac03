"""The paper's comparisons: every reward and method, several seeds, one table and the Pareto plot.

    python benchmarks/reproduce.py --output=runs/tiny_comparison
    python benchmarks/reproduce.py --model=qwen3_1p7b --tasks=gsm8k,math,... --output=DIR

The first trains the tiny model, on this machine; the second a real one, on a TPU host.
launch/reproduce_tiny.sh and launch/reproduce.sh call it. A run is a process of its own, `python -m
sar_jax.train` with the overrides in `VARIANTS`; finished runs are kept, unfinished ones resumed, so
the same command goes on where it was stopped. --parallel=2 trains two at once, each on its share of
the cores. Arguments after `--` go to every run. Written to OUTPUT: a JSON file of figures a run,
table.md, pareto.png, curves.png; with --tasks also an evaluation of every run, and `comparison/` of
all."""

import argparse
import collections
import concurrent.futures
import json
import os
import pathlib
import queue
import statistics
import subprocess
import sys
import time

from absl import flags

from sar_jax import cli
from sar_jax import config as config_lib
from sar_jax.errors import UserError
from sar_jax.evaluation import measures, plots
from sar_jax.training.settings import checks

ROOT = pathlib.Path(__file__).parent.parent
NO_SAR = "--config.rewards.self_aligned=0"
# Name -> (is the critic's config taken, overrides). Weights as in the paper: .2 for R_SA, .05 for
# O1 and ER.
VARIANTS = {
    "PPO": (True, [NO_SAR]),
    "SA-PPO": (True, []),
    "GRPO": (False, [NO_SAR]),
    "GRPO-O1": (False, [NO_SAR, "--config.rewards.o1_pruner=0.05"]),
    "GRPO-ER": (False, [NO_SAR, "--config.rewards.efficient_reasoner=0.05"]),
    "SA-GRPO": (False, []),
    "R_SA alone": (False, ["--config.rewards.verifiable=0"]),
    "R_EM alone": (
        False,
        [NO_SAR, "--config.rewards.verifiable=0", "--config.rewards.entropy_min=1"],
    ),
    "R_VR + R_EM": (False, [NO_SAR, "--config.rewards.entropy_min=0.2"]),
    "alpha .05": (False, ["--config.rewards.self_aligned=0.05"]),
    "alpha .1": (False, ["--config.rewards.self_aligned=0.1"]),
    "alpha .3": (False, ["--config.rewards.self_aligned=0.3"]),
    "alpha 1": (False, ["--config.rewards.self_aligned=1"]),
    "adaptive alpha": (False, ["--config.self_aligned.adaptive=true"]),
}
SWEEP = ("alpha .05", "alpha .1", "SA-GRPO", "alpha .3", "alpha 1")  # SA-GRPO is alpha .2
USUAL = [name for name in VARIANTS if name != "alpha 1"]  # that is for runs of few answers
CURVES = {  # of the answers sampled in a step: metric -> (title, factor)
    "completions/mean_length": ("tokens an answer", 1),
    "accuracy": ("right answers, %", 100),
}
WINDOW = 5  # steps of which a curve shows the mean
PHASES = ("rollout", "score", "value", "critic_update", "update", "step")


def check(model: str, variant: str, rest: list[str]) -> None:
    """Reads the config of a variant with a run's arguments, as the run would, hours before it does.

    Once a process: the flags of a config are defined for good. Raises SystemExit in one line for a
    wrong field or value.
    """
    with_critic, overrides = VARIANTS[variant]
    file = ROOT / f"configs/{model}{'_ppo' * with_critic}.py"
    get = cli.config_flag(config_lib.TrainConfig)
    sys.argv[1:] = [f"--config={file}", *overrides, *rest]  # the config's flag reads them there
    try:
        cli.refuse_words(flags.FLAGS(sys.argv)[1:])
        checks.check(get())
    except (flags.Error, UserError) as error:
        raise SystemExit(f"error: {error}") from None


def folder_of(output: pathlib.Path, variant: str, seed: int) -> pathlib.Path:
    """A run's workdir."""
    return output / f"{variant.replace(' ', '_')}_seed{seed}"


def run(variant: str, seed: int, options: argparse.Namespace, cores: set[int]) -> dict:
    """One training run, and its evaluation if there are tasks; its figures are kept in its
    folder."""
    folder = folder_of(options.output, variant, seed)
    kept, printed = (folder.parent / f"{folder.name}.{kind}" for kind in ("json", "log"))
    if kept.is_file():
        return json.loads(kept.read_text())
    with_critic, overrides = VARIANTS[variant]
    config = f"configs/{options.model}{'_ppo' * with_critic}.py"
    command = [
        sys.executable,
        "-m",
        "sar_jax.train",
        f"--config={config}",
        f"--config.seed={seed}",
        f"--workdir={folder.absolute()}",
        *overrides,
        *options.rest,
    ]
    print(" ".join(command), flush=True)
    start = time.perf_counter()
    with printed.open("a") as log:
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        os.sched_setaffinity(process.pid, cores)  # before JAX counts them
        first_line = None
        for line in process.stdout:
            first_line = first_line or time.perf_counter() - start
            log.write(line)
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"the run failed, see {printed}")
    found = figures(read_metrics(folder / "metrics.jsonl")) | {
        "variant": variant,
        "seed": seed,
        "seconds": time.perf_counter() - start,
        "first_line_seconds": first_line,
        "peak_gib": usage.ru_maxrss / 2**20,
    }
    kept.write_text(json.dumps(found, indent=2) + "\n")
    return found


def metrics_of(output: pathlib.Path, found: dict) -> pathlib.Path:
    """The metrics.jsonl of a run with these figures."""
    return folder_of(output, found["variant"], found["seed"]) / "metrics.jsonl"


def read_metrics(file: pathlib.Path) -> list[dict]:
    """Its lines."""
    return [json.loads(line) for line in file.read_text().splitlines()]


def figures(lines: list[dict]) -> dict:
    """Of metrics.jsonl: accuracy in percent and tokens at the start and at the end, medians of
    seconds a step."""
    evaluated = [line for line in lines if "eval/accuracy" in line]
    timed = [line for line in lines if line["step"] > 1]
    phases = {
        p: statistics.median(line[f"time/{p}"] for line in timed)
        for p in PHASES
        if f"time/{p}" in timed[-1]
    }
    return {
        "steps": lines[-1]["step"],
        "accuracy": [100 * evaluated[i]["eval/accuracy"] for i in (0, -1)],
        "length": [evaluated[i]["eval/length"] for i in (0, -1)],
        "phases": phases,
        "compilations_after_step_1": sum(line["compilations"] for line in lines[2:]),
    }


def table(found: list[dict]) -> list[str]:
    """A Markdown table with a line a variant: means over seeds, and every seed's own figures."""
    by_variant = collections.defaultdict(list)
    for f in found:
        by_variant[f["variant"]].append(f)
    start = plots.Mark("base", found[0]["accuracy"][0] / 100, found[0]["length"][0])
    lines = [
        "| method | accuracy, % | tokens | AES | each seed: accuracy / tokens | "
        "s a step (rollout, score, value, critic, update) |",
        "|---|---|---|---|---|---|",
        f"| before training | {100 * start.accuracy:.1f} | {start.length:.1f} | | | |",
    ]
    for name, runs in by_variant.items():
        m = mark(name, runs)
        each = ", ".join(f"{r['accuracy'][1]:.1f} / {r['length'][1]:.1f}" for r in runs)
        mean = lambda phase, runs=runs: statistics.mean(r["phases"].get(phase, 0) for r in runs)
        phases = ", ".join(f"{mean(p):.2f}" if mean(p) else "-" for p in PHASES[:-1])
        score = measures.aes(m, start)
        lines.append(
            f"| {name} | {100 * m.accuracy:.1f} | {m.length:.1f} | {score:.2f} | {each} | "
            f"{mean('step'):.2f} ({phases}) |"
        )
    return lines


def mark(name: str, runs: list[dict]) -> plots.Mark:
    """The mean over seeds."""
    return plots.Mark(
        name,
        statistics.mean(r["accuracy"][1] for r in runs) / 100,
        statistics.mean(r["length"][1] for r in runs),
    )


def draw(found: list[dict], path: pathlib.Path) -> None:
    """All methods beside each other, and the sweep of alpha."""
    runs = collections.defaultdict(list)
    for f in found:
        runs[f["variant"]].append(f)
    marks = {name: mark(name, r) for name, r in runs.items()}
    methods = [m for name, m in marks.items() if name not in SWEEP or name == "SA-GRPO"]
    sweep = {"fixed alpha": [marks[name] for name in SWEEP if name in marks]}
    if "adaptive alpha" in marks:
        sweep["adaptive"] = [marks["adaptive alpha"]]
    panels = [("mean over seeds", {"methods": methods}), ("alpha", sweep)]
    plots.pareto([plots.Panel(*panel) for panel in panels if any(panel[1].values())], path)


def smoothed(values: list[float]) -> list[float]:
    """Each value's mean with those before it, WINDOW at most."""
    return [statistics.mean(values[max(i + 1 - WINDOW, 0) : i + 1]) for i in range(len(values))]


def draw_curves(found: list[dict], path: pathlib.Path) -> None:
    """The sampled answers of every step: each seed's thin, and their mean.

    A run whose workdir is no longer there has no curve. Raises `UserError` where none is.
    """
    found = [f for f in found if metrics_of(path.parent, f).is_file()]
    if not found:
        raise UserError("no run's metrics.jsonl is there")
    drawn = plots.figure(figsize=(12, 4.5), layout="constrained")
    variants = dict.fromkeys(f["variant"] for f in found)
    for i, (name, (title, factor)) in enumerate(CURVES.items()):
        axes = drawn.add_subplot(1, len(CURVES), i + 1)
        axes.set(title=f"{title}, mean of {WINDOW} steps", xlabel="step")
        axes.grid(alpha=0.3)
        for k, variant in enumerate(variants):
            seeds = []
            for f in found:
                if f["variant"] == variant:
                    lines = read_metrics(metrics_of(path.parent, f))[1:]
                    seeds.append(smoothed([factor * line[name] for line in lines]))
                    axes.plot(range(1, len(lines) + 1), seeds[-1], color=f"C{k}", alpha=0.3)
            mean = [statistics.mean(values) for values in zip(*seeds)]
            axes.plot(range(1, len(mean) + 1), mean, color=f"C{k}", label=variant)
    axes.legend(fontsize="small")
    drawn.savefig(path, dpi=150)


def evaluate(options: argparse.Namespace, names: list[str]) -> None:
    """The benchmarks: the model before training, every run after it, and all beside each other."""
    command = [sys.executable, "-m", "sar_jax.evaluate"]
    config = f"configs/{options.model}.py"
    scope: dict = {}
    exec((ROOT / config).read_text(), scope)
    base = options.output / "results" / "base"
    path = next(
        (r.split("=", 1)[1] for r in options.rest if r.startswith("--config.model.path=")),
        scope["get_config"]().model.path,
    )
    subprocess.run(
        [
            *command,
            f"--config={config}",
            f"--model={path}",
            f"--tasks={options.tasks}",
            f"--output={base}",
        ],
        cwd=ROOT,
        check=True,
    )
    for name in names:
        subprocess.run(
            [
                *command,
                f"--model={options.output / name}",
                f"--tasks={options.tasks}",
                f"--reference={base}",
                f"--output={base.parent / name}",
            ],
            cwd=ROOT,
            check=True,
        )
    subprocess.run(
        [
            *command,
            "--compare",
            str(base),
            *(str(base.parent / n) for n in names),
            f"--output={options.output / 'comparison'}",
        ],
        cwd=ROOT,
        check=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=pathlib.Path, required=True)
    parser.add_argument(
        "--model", default="tiny", help="configs/MODEL.py, and configs/MODEL_ppo.py for PPO"
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--variants", default=",".join(USUAL))
    parser.add_argument(
        "--tasks",
        default="",
        help="benchmarks for sar_jax.evaluate; without, training's own evaluation",
    )
    parser.add_argument("--parallel", type=int, default=1)
    parser.add_argument("--check", action="store_true", help="check the arguments, and run nothing")
    parser.add_argument("rest", nargs="*", help="after --: arguments for every run")
    options = parser.parse_args()
    options.output = options.output.absolute()
    variants = options.variants.split(",")
    unknown = set(variants) - set(VARIANTS)
    if unknown:
        parser.error(
            f"unknown variants {', '.join(sorted(unknown))}; there are: {', '.join(VARIANTS)}"
        )
    if (
        any(VARIANTS[v][0] for v in variants)
        and not (ROOT / f"configs/{options.model}_ppo.py").is_file()
    ):
        parser.error(
            f"configs/{options.model}_ppo.py does not exist: leave PPO and SA-PPO out of --variants"
        )
    check(options.model, variants[0], options.rest)
    if options.check:
        return
    options.output.mkdir(parents=True, exist_ok=True)
    every = sorted(os.sched_getaffinity(0))
    share = max(len(every) // options.parallel, 1)
    free: queue.Queue[set[int]] = queue.Queue()
    for i in range(options.parallel):
        free.put(set(every[i * share : (i + 1) * share]))

    def on_its_cores(job: tuple[int, str]) -> dict:
        cores = free.get()
        try:
            return run(job[1], job[0], options, cores)
        finally:
            free.put(cores)

    with concurrent.futures.ThreadPoolExecutor(options.parallel) as pool:
        found = list(
            pool.map(on_its_cores, [(seed, v) for seed in range(options.seeds) for v in variants])
        )
    (options.output / "table.md").write_text("\n".join(table(found)) + "\n")
    print((options.output / "table.md").read_text())
    for name, drawing in (("pareto.png", draw), ("curves.png", draw_curves)):
        print(f"{name}: {plots.told(options.output / name, drawing, found)}")
    if options.tasks:
        evaluate(options, [folder_of(options.output, f["variant"], f["seed"]).name for f in found])


if __name__ == "__main__":
    main()
