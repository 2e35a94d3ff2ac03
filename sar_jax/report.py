"""One page that tells what happened in a training run, or in several beside each other.

    python -m sar_jax.report WORKDIR|RESULTS ... --output=report.html [--watch=SECONDS]

WORKDIR is a run's, RESULTS the --output of `sar_jax.evaluate`. The page needs no network: what was
trained and in which settings the runs differ, curves, alarms, evaluations with their intervals,
accuracy against length, the same question before and after, the most and the least rewarded
answers, and what the verifier could not judge.

Every training run writes the page of its own to its workdir at the end. With --watch the page is
written anew as often as that, until the command is stopped.
"""

import pathlib
import time

from absl import flags
from etils import epath

from sar_jax import cli, files
from sar_jax.errors import UserError
from sar_jax.evaluation import folder
from sar_jax.evaluation.pages.report import report_page
from sar_jax.training.commands import reported
from sar_jax.training.commands import trained as trained_lib

_OUTPUT = flags.DEFINE_string("output", "report.html", "Page to write; an older one is replaced.")
_WATCH = flags.DEFINE_integer(
    "watch", 0, "Seconds after which the page is written anew, and again; 0: once.", lower_bound=0
)


def main(paths: list[str]) -> None:
    if not paths:
        raise UserError("no WORKDIR is given: python -m sar_jax.report WORKDIR ... (see --help)")
    output = pathlib.Path(_OUTPUT.value).expanduser()
    if output.is_dir():
        raise UserError(f"--output: {output} is a folder; name a file in it, such as report.html")
    output.parent.mkdir(parents=True, exist_ok=True)
    while True:
        size = _write(paths, output)
        print(f"wrote {output} ({size / 1e6:.2f} MB)", flush=True)
        if not _WATCH.value:
            return
        time.sleep(_WATCH.value)


def _write(paths: list[str], output: pathlib.Path) -> int:
    """Returns the page's bytes."""
    runs, results = [], {}
    for name, path in reported.named([path.rstrip("/") for path in paths]).items():
        place = epath.Path(path).expanduser()
        if trained_lib.is_workdir(str(place)):
            runs.append(reported.read(place, name))
        elif (place / "results.json").is_file():
            results[name] = folder.read_results(pathlib.Path(place), "RESULTS")
        else:
            raise UserError(
                f"{path} is neither the workdir of a run, which has metrics.jsonl, nor the "
                "--output of a finished evaluation, which has results.json"
            )
    page = report_page(runs, results)
    files.write_atomically(output, page)
    return len(page.encode())


if __name__ == "__main__":
    cli.run(main, __doc__, words=True)
