"""What a workdir keeps: which settings a restart may change, the run's facts, its metrics."""

import datetime
import json
import math

import pytest
from etils import epath

from sar_jax import config
from sar_jax.errors import UserError
from sar_jax.training.reporting import metrics
from sar_jax.training.storage import workdir as workdir_lib


def workdir(tmp_path, change=lambda fields: None):
    folder = epath.Path(tmp_path)
    workdir_lib.claim(folder, config.TrainConfig(), workdir_lib.facts(folder))
    path = folder / "config.json"
    fields = json.loads(path.read_text())
    change(fields)
    path.write_text(json.dumps(fields))
    return folder


def test_a_workdir_from_before_a_field_has_its_default(tmp_path):
    def older(fields):
        for name in ("guards", "advantage", "self_aligned"):
            del fields[name]
        del fields["loss"]["ratio"]

    folder, now = workdir(tmp_path, older), config.TrainConfig()
    workdir_lib.check(folder, now)
    now.loss.ratio = "sequence"
    with pytest.raises(UserError, match="config.loss.ratio: 'token' there, 'sequence' now"):
        workdir_lib.check(folder, now)


def test_alarms_may_change_and_the_steps_of_a_schedule_may_not(tmp_path):
    def scheduled(fields):
        fields["self_aligned"]["peak_at"] = 0.5

    now = config.TrainConfig()
    now.guards.echo, now.steps = 0.9, 7
    workdir_lib.check(workdir(tmp_path / "constant"), now)
    now.self_aligned.peak_at = 0.5
    with pytest.raises(UserError, match=r"\(config.steps: 500 there, 7 now\)"):
        workdir_lib.check(workdir(tmp_path / "scheduled", scheduled), now)


def changed(**sections):
    """The default config with fields of its sections changed."""
    made = config.TrainConfig()
    for name, fields in sections.items():
        if not isinstance(fields, dict):
            setattr(made, name, fields)
            continue
        for field, value in fields.items():
            setattr(getattr(made, name), field, value)
    return made


@pytest.mark.parametrize(
    "fields, rounds",
    [
        ({"evaluation": {"every_steps": 3, "batch": 7}}, False),
        ({"verification": {"workers": 5, "timeout": 9.0, "max_error_share": 0.5}}, False),
        ({"profile_steps": 2}, False),
        ({"rollout": {"precision": "int8"}}, False),
        ({"guards": {"echo": 0.9}, "logging": {"samples_shown": 0}}, False),
        ({"checkpoint": {"keep": 9, "every_steps": 1, "retry_seconds": 0}}, False),
        ({"model": {"path": "/elsewhere/model"}, "data": {"train": "/elsewhere/x.jsonl"}}, False),
        ({"mesh": {"fsdp": 4, "tensor": 2}}, True),
        ({"packing": {"rows_per_microbatch": 4, "row_tokens": 9000}}, True),
        ({"rollout": {"slots": 8}}, True),
        ({"model": {"remat": "none"}}, True),
    ],
)
def test_what_changes_no_meaning_may_change_on_a_restart_and_is_said(tmp_path, fields, rounds):
    said = workdir_lib.check(workdir(tmp_path), changed(**fields))
    for section, values in fields.items():
        for name in values if isinstance(values, dict) else [None]:
            path = f"config.{section}.{name}" if name else f"config.{section}"
            assert any(line.startswith(f"changed since the last start: {path}: ") for line in said)
    assert any("last bits" in line for line in said) == rounds


@pytest.mark.parametrize(
    "fields",
    [
        {"seed": 1},
        {"optimizer": {"lr": 1.0}},
        {"rewards": {"self_aligned": 0.1}},
        {"rollout": {"samples": 3}},
        {"rollout": {"cache_dtype": "int8"}},
        {"prompt": {"system": "Other."}},
        {"model": {"dtype": "float32"}},
        {"lora": {"rank": 8}},
        {"data": {"max_prompt_tokens": 7}},
    ],
)
def test_what_changes_the_run_is_refused_by_name(tmp_path, fields):
    ((section, values),) = fields.items()
    name = f"{section}.{next(iter(values))}" if isinstance(values, dict) else section
    with pytest.raises(UserError, match=rf"config\.{name}: .* there, .* now"):
        workdir_lib.check(workdir(tmp_path), changed(**fields))


@pytest.mark.parametrize("there, now", [(True, "block"), (False, "none")])
def test_a_workdir_from_when_remat_was_a_switch_goes_on(tmp_path, there, now):
    def of_then(fields):
        fields["model"]["remat"] = there

    folder = workdir(tmp_path, of_then)
    assert workdir_lib.read_config(folder).model.remat == now
    assert workdir_lib.check(folder, changed(model={"remat": now})) == []


def test_more_steps_of_a_schedule_are_allowed_where_they_are_asked_for(tmp_path):
    def scheduled(fields):
        fields["optimizer"]["final_lr_fraction"] = 0.1

    folder = workdir(tmp_path, scheduled)
    more, less = (changed(optimizer={"final_lr_fraction": 0.1}, steps=n) for n in (600, 400))
    with pytest.raises(UserError, match="500 there, 600 now.*--extend"):
        workdir_lib.check(folder, more)
    assert "config.steps: 500 there, 600 now" in "".join(workdir_lib.check(folder, more, True))
    for extend in (False, True):
        with pytest.raises(UserError, match="500 there, 400 now"):
            workdir_lib.check(folder, less, extend)


@pytest.mark.parametrize("text", ["{", "[]", '{"optimizer": 3}', '{"optimizer": {"lrr": 1}}', ""])
def test_damaged_settings_are_named(tmp_path, text):
    folder = workdir(tmp_path)
    (folder / "config.json").write_text(text)
    with pytest.raises(UserError, match="config.json"):
        workdir_lib.check(folder, config.TrainConfig())


def test_the_day_and_the_id_are_those_of_the_first_start(tmp_path):
    folder = workdir(tmp_path)
    first = workdir_lib.facts(folder)
    assert first.day == datetime.date.today()
    earlier = first._replace(began="2024-02-29")
    workdir_lib.claim(folder, config.TrainConfig(), earlier)
    assert workdir_lib.facts(folder) == earlier
    assert workdir_lib.facts(epath.Path(tmp_path / "other")).run != first.run


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "{}",
        '{"run": "a", "began": "yesterday"}',
        *(
            f'{{"run": "a", "began": "2026-01-31", "slots": {slots}}}'
            for slots in ('"auto"', '"8"', "0", "-8", "1.5", "true")
        ),
    ],
)
def test_damaged_facts_are_named(tmp_path, text):
    folder = workdir(tmp_path)
    (folder / "run.json").write_text(text)
    with pytest.raises(UserError, match="run.json"):
        workdir_lib.facts(folder)


def test_a_lost_id_is_that_of_the_newest_checkpoint(tmp_path):
    folder = workdir(tmp_path)
    for step, text in ((1, '{"run": "old"}'), (2, '{"run": "new"}'), (3, "{")):
        path = folder / f"checkpoints/0000000{step}/meta/metadata"
        path.parent.mkdir(parents=True)
        path.write_text(text)
    (folder / "run.json").unlink()
    assert workdir_lib.facts(folder).run == "new"


def test_a_bad_line_is_left_out_and_the_file_kept(tmp_path, capsys):
    """A reader and a resumed run have all others, also later ones."""
    good = ['{"step": 0, "loss": 1.5}', '{"step": 1, "loss": NaN}', '{"step": 3, "loss": 2}']
    bad = ["{", "[]", '{"loss": 1}', '{"step": 2, "loss": "x"}', "\x00\xff"]
    lines = [good[0], *bad[:2], good[1], *bad[2:], good[2]]
    text = "\n".join(lines).encode("latin-1") + b'\n{"step": 4, "lo'
    (tmp_path / "metrics.jsonl").write_bytes(text)
    folder = epath.Path(tmp_path)
    assert [line["step"] for line in workdir_lib.read_metrics(folder)] == [0, 1, 3]
    metrics.Metrics(folder, 3).close()
    printed = capsys.readouterr().out
    assert "5 line(s) cannot be read and are left out (line 2, 3, 5, 6, 7)" in printed
    (kept,) = tmp_path.glob("metrics-*.damaged.jsonl")
    assert kept.read_bytes() == text
    strict = lambda line: json.loads(line, parse_constant=lambda name: pytest.fail(name))
    now = [strict(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in now] == [0, 1, 3] and now[1]["loss"] is None


def test_what_is_not_finite_is_null_in_the_file_and_nan_to_a_reader(tmp_path):
    folder = epath.Path(tmp_path)
    written = metrics.Metrics(folder, None)
    written.write(1, {"a": math.nan, "b": math.inf, "c": 0.1 + 0.2})
    written.close()
    assert '"a": null, "b": null' in (tmp_path / "metrics.jsonl").read_text()
    (line,) = workdir_lib.read_metrics(folder)
    assert math.isnan(line["a"]) and math.isnan(line["b"]) and line["c"] == 0.1 + 0.2


def test_half_a_line_on_a_full_disk_is_no_line(tmp_path, monkeypatch):
    """What a failed write left is overwritten by the next."""
    folder = epath.Path(tmp_path)
    written = metrics.Metrics(folder, None)
    written.write(1, {"a": 1.0})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 2, "a')
    written.write(2, {"a": 2.0})
    written.close()
    assert workdir_lib.read_lines(folder) == (
        [{"step": 1, "a": 1.0}, {"step": 2, "a": 2.0}],
        [],
    )
