"""The page of a run, and of several."""

import json
import shutil

import pytest
from support.commands import one_error, run_command
from support.training import read_metrics

from sar_jax.errors import UserError
from sar_jax.training.commands import reported


def data_of(page):
    return json.loads(page.read_text().partition('id="data">')[2].partition("</script>")[0])


def test_every_run_leaves_a_page_of_what_happened(finished):
    workdir, printed = finished
    (run,) = data_of(workdir / "report.html")["runs"]
    lines = read_metrics(workdir)
    assert run["steps"] == [line["step"] for line in lines] and run["name"] == workdir.name
    for name in ("accuracy", "kl", "eval/accuracy", "reward/self_aligned/mean"):
        for ours, line in zip(run["metrics"][name], lines):
            theirs = line.get(name)
            assert ours == theirs or ours == pytest.approx(theirs, rel=1e-4)
    assert len(run["pairs"]) == lines[0]["eval/questions"] and run["most"] and run["least"]
    assert {"jax", "flax", "Python", "devices", "began"} <= set(run["facts"])
    assert str(workdir / "report.html") in printed


def test_several_runs_stand_beside_each_other(finished, tmp_path):
    other = shutil.copytree(finished[0], tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    config["rewards"]["self_aligned"] = 0.5
    (other / "config.json").write_text(json.dumps(config))
    lines = (other / "metrics.jsonl").read_text().splitlines(keepends=True)
    (other / "metrics.jsonl").write_text("".join([*lines[:2], "nonsense\n", *lines[2:4]]))
    (other / "machine.json").unlink()
    for samples in (other / "samples").glob("step_*"):
        samples.write_bytes(b"nonsense")
    output = tmp_path / "pages/report.html"
    done = run_command(
        "sar_jax.report", str(finished[0]), f"{other}/", f"--output={output}", check=True
    )
    assert f"wrote {output}" in done.stdout and "line 3 of" in done.stdout
    assert "cannot be read and is left out" in done.stdout
    data = data_of(output)
    assert [run["name"] for run in data["runs"]] == [finished[0].name, "other"]
    assert data["runs"][1]["steps"] == [0, 1, 2, 3] and not data["runs"][1]["most"]
    differing = {row["name"]: row["values"] for row in data["config"] if row["differs"]}
    assert differing == {"rewards.self_aligned": ["0.2", "0.5"]}


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "no WORKDIR is given"),
        (["{}"], "is neither the workdir of a run"),
        (["{}/none"], "is neither the workdir of a run"),
        (["{0}", "{0}"], "is given twice"),
        (["{}", "--output={}"], "is a folder; name a file in it"),
    ],
)
def test_what_is_no_run_is_one_line(tmp_path, arguments, message):
    words = [argument.format(tmp_path) for argument in arguments]
    assert message in one_error(run_command("sar_jax.report", *words))


def test_names_are_as_long_as_they_must_be():
    assert dict(reported.named(["a/b/run", "a/c/other"])) == {
        "run": "a/b/run",
        "other": "a/c/other",
    }
    assert list(reported.named(["a/b/run", "a/c/run"])) == ["b/run", "c/run"]
    with pytest.raises(UserError, match="twice"):
        reported.named(["a/b", "a/b"])
