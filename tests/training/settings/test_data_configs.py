"""Config files in YAML and JSON: what is taken as it is meant, and the one line for what cannot
be."""

import json

import pytest
from support.commands import ROOT, one_error, run_command

from sar_jax.config import PretrainConfig, TrainConfig, to_json
from sar_jax.errors import UserError
from sar_jax.training.settings import config_files


def read(tmp_path, content: str | bytes, suffix: str = "yaml", cls: type = TrainConfig):
    path = tmp_path / f"own.{suffix}"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return config_files.load_config(str(path), cls)


def error_of(tmp_path, content: str | bytes, suffix: str = "yaml", cls: type = TrainConfig) -> str:
    """The error of a file with this content, without the file's name."""
    with pytest.raises(UserError) as error:
        read(tmp_path, content, suffix, cls)
    start, message = f"--config: {tmp_path}/own.{suffix}", str(error.value)
    assert message.startswith(start) and "\n" not in message
    return message.removeprefix(start)


def test_fields_are_nested_or_have_dots(tmp_path):
    config = read(tmp_path, "steps: 7\noptimizer:\n  lr: 1e-3\noptimizer.b1: .5\nloss: {kl: 0}\n")
    expected = TrainConfig(steps=7)
    expected.optimizer.lr, expected.optimizer.b1, expected.loss.kl = 1e-3, 0.5, 0.0
    assert config == expected
    same = '{"steps": 7, "optimizer": {"lr": 1e-3}, "optimizer.b1": 0.5, "loss.kl": 0}'
    assert read(tmp_path, same, "json") == expected


@pytest.mark.parametrize("suffix", ["yaml", "yml", "YAML", "json"])
def test_what_a_workdir_keeps_is_a_config_file(tmp_path, suffix):
    """JSON is YAML, too."""
    config = TrainConfig(steps=3)
    config.prompt.stop, config.prompt.system = '["\\n\\n", "Q:"]', "caf\u00e9 \U0001f600 \\ #: x"
    config.optimizer.lr = 1e-7
    assert read(tmp_path, to_json(config).replace("\\ud83d\\ude00", "\U0001f600"), suffix) == config
    pretrain = PretrainConfig(batch_examples=5)
    assert read(tmp_path, to_json(pretrain), suffix, PretrainConfig) == pretrain


@pytest.mark.parametrize(
    "written, value",
    [
        ("1e-6", 1e-6), ("1E-6", 1e-6), (".5", 0.5), ("5.", 5.0), ("-.5e+3", -500.0),
        ("3", 3.0), ("1_000", 1000.0), ("1_0.5", 10.5), ("0x10", 16.0), ("!!float 2", 2.0),
    ],
)  # fmt: skip
def test_numbers(tmp_path, written, value):
    assert read(tmp_path, f"optimizer.lr: {written}\n").optimizer.lr == value


@pytest.mark.parametrize(
    "written, value",
    [("5", 5), ("+5", 5), ("-0", 0), ("1_000", 1000), ("0o10", 8), ("0x1F", 31), ("0", 0)],
)
def test_whole_numbers(tmp_path, written, value):
    assert read(tmp_path, f"steps: {written}\n").steps == value


@pytest.mark.parametrize(
    "text", ["on", "off", "no", "yes", "true", "2024", "1e-6", "1_000", "010", "2024-01-01", "1:30",
             ".inf", "=", "<think>", "null hypothesis", "a#b", "caf\u00e9", "0x10"],
)  # fmt: skip
def test_text_needs_no_quotes(tmp_path, text):
    """Whatever YAML would take it for: the field is text."""
    for written in (text, f"'{text}'", f'"{text}"'):
        assert read(tmp_path, f"logging.project: {written}\n").logging.project == text
        assert read(tmp_path, f"prompt:\n  thinking: {written}\n").prompt.thinking == text


def test_text_of_several_lines(tmp_path):
    config = read(
        tmp_path, "prompt:\n  system: |\n    a: b\n    c\n  instruction: >-\n    d\n    e\n"
    )
    assert (config.prompt.system, config.prompt.instruction) == ("a: b\nc\n", "d e")


@pytest.mark.parametrize(
    "written, value",
    [
        ("true", True),
        ("False", False),
        ("TRUE", True),
        ("yes", True),
        ("No", False),
        ("off", False),
    ],
)
def test_a_field_that_is_on_or_off(tmp_path, written, value):
    assert read(tmp_path, f"model.offload_reference: {written}\n").model.offload_reference is value


@pytest.mark.parametrize(
    "content",
    [
        "optimizer:\n", "optimizer: {}\n", "optimizer:  # later\nsteps: 500\n",
        "---\nsteps: 500\n...\n", b"\xef\xbb\xbfsteps: 500\r\nseed: 0\r\n",
        "%YAML 1.1\n---\nseed: 0",
        "seed: &zero 0\nprofile_steps: *zero\n", "loss: &all\n  kl: 0.001\n", "{steps: 500,}",
    ],
)  # fmt: skip
def test_what_is_harmless_is_taken(tmp_path, content):
    assert read(tmp_path, content) == TrainConfig()


@pytest.mark.parametrize(
    "content, words",
    [
        # fields
        ("seed: 1\nstepz: 3", ", line 2: config has no field 'stepz': did you mean 'steps'?"),
        ("optimizer:\n  lr: 1\n  lrr: 1", ", line 3: config.optimizer has no field 'lrr': did you"),
        ("lr: 1", ", line 1: config has no field 'lr': did you mean 'critic.lr' or 'optimizer.lr'"),
        ("optimizr: {lr: 1}", ", line 1: config has no field 'optimizr': did you mean 'optimizer'"),
        ("config.steps: 2", ", line 1: a field is written without config: steps, optimizer.lr"),
        ("config:\n  steps: 2", ", line 1: a field is written without config"),
        ("steps.x: 1", ", line 1: config.steps is no section: it has no field 'x'"),
        ("1: 2", ", line 1: config has no field '1': it has seed, steps"),
        ("? [a]\n: 1", ", line 1: a field's name must be text"),
        ("steps: 1\nsteps: 2", ", line 2: config.steps is given twice, in line 1 too: leave one"),
        ("optimizer.lr: 1\noptimizer:\n  lr: 2", ", line 3: config.optimizer.lr is given twice, i"),
        ("loss: {kl: 1}\nloss: {clip_low: 1}", ", line 2: config.loss is given twice"),
        # types
        ("optimizer: 3", ", line 1: config.optimizer is a section: give its fields one by one, su"),
        ("optimizer: [lr]", ", line 1: config.optimizer is a section"),
        ("steps: {x: 1}", ", line 1: config.steps is a dict: it must be a whole number"),
        ("steps: {}", ", line 1: config.steps is a dict: it must be a whole number"),
        ("steps: '5'", ", line 1: config.steps is '5': it must be a whole number; write it withou"),
        ("steps: 1e3", ", line 1: config.steps is 1000.0: it must be a whole number"),
        ("steps: many", ", line 1: config.steps is 'many': it must be a whole number"),
        ("steps: true", ", line 1: config.steps is True: it must be a whole number"),
        ("steps: \u0663", ", line 1: config.steps is '\u0663': it must be a whole number"),
        ("steps: 010", ", line 1: config.steps is 010, octal to some readers: write it without"),
        ("steps:", ", line 1: config.steps has no value: leave it out for the default"),
        ("logging.project: ~", 'has no value: leave it out for the default; write "" for empty te'),
        ("model.offload_reference: 1", ", line 1: config.model.offload_reference is '1': it must"),
        ("model.offload_reference: 'true'", "it must be True or False; write it without quotes"),
        ("logging.to: [wandb, mlflow]", "it must be text; docs/configuration.md says how it names"),
        ("optimizer.lr: .nan", ", line 1: config.optimizer.lr is not a number (NaN): give one"),
        ("optimizer.lr: nan", ", line 1: config.optimizer.lr is not a number (NaN): give one"),
        # YAML
        ("", ": it is empty: write fields, such as `steps: 100`"),
        ("\n \n", ": it is empty: write fields, such as `steps: 100`"),
        ("# steps: 3\n", ": it holds no fields: write some, such as `steps: 100`"),
        ("- steps\n- 3\n", ", line 1: it holds a list: write fields, as `steps: 100`"),
        ("steps\n", ", line 1: it holds a value: write fields, as `steps: 100`"),
        ("optimizer:\n\tlr: 1", ", line 2: not YAML: there is a tab: use spaces"),
        ("steps: 1\t\n", ", line 1: not YAML: there is a tab: use spaces"),
        ("steps: 1\n---\nsteps: 2", ", line 2: not YAML: a second document begins here: give one"),
        ("loss:\n  <<: {kl: 1}", ", line 2: a config merges nothing (<<): write the fields out"),
        ("seed: 1\nloss: *common", ", line 2: not YAML: found undefined alias 'common'"),
        ("loss: &l\n  kl: 1\n  loss: *l", ", line 3: config.loss has no field 'loss'"),
        ("steps: !!python/object:os.system 5", ", line 1: the tag !!python/object:os.system is no"),
        ("loss: !!python/dict {kl: 1}", ", line 1: the tag !!python/dict is not read: write text"),
        ("model.path: !ENV HOME", ", line 1: the tag !ENV is not read"),
        ("!mine\nsteps: 1", ", line 1: the tag !mine is not read"),
        ("seed: 1\nsystem: caf\xe9".encode("latin-1"), ", line 2: the byte 0xe9 is not UTF-8: sav"),
        ("steps: 1".encode("utf-16"), ", line 1: the byte 0xff is not UTF-8: save the file as UTF"),
        ("seed: 1\nsteps: \x07", ", line 2: the character 0x7 may not be in YAML"),
        ("prompt.system: Say: hello", ": text with a colon and a space in it needs quotes"),
        ("prompt.system: @hello", ": text that begins with a sign of YAML's needs quotes"),
        ("seed: 1\nsteps: 'a", "not YAML: found unexpected end of stream"),
        ("[" * 5000, ": it is nested too deeply for a config"),
        ("{a: " * 5000, ": it is nested too deeply for a config"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_yaml_is_one_line(tmp_path, content, words):
    assert words in error_of(tmp_path, content)


@pytest.mark.parametrize("written, value", [("auto", "auto"), ("'auto'", "auto"), ("32", 32)])
def test_a_field_that_is_a_number_or_a_word(tmp_path, written, value):
    assert read(tmp_path, f"rollout.slots: {written}\n").rollout.slots == value
    with pytest.raises(UserError, match="config.rollout.slots is 'many': it must be a whole numb"):
        read(tmp_path, "rollout.slots: many\n")


@pytest.mark.parametrize("content", ["steps: many", "model.offload_reference: 1", "steps: 1.5"])
def test_only_what_has_quotes_is_told_to_leave_them(tmp_path, content):
    assert "quotes" not in error_of(tmp_path, content)


@pytest.mark.parametrize(
    "content, words",
    [
        ('{\n"seed": 1,\n"steps": "x"}', ", line 3: config.steps is 'x': it must be a whole numbe"),
        ('{\n"optimizer": {\n"lrr": 1}}', ", line 3: config.optimizer has no field 'lrr': did you"),
        ('{"steps": 1, "steps": 2}', ": config.steps is given twice: leave one"),
        ('{"loss.kl": 1, "loss": {"kl": 2}}', ": config.loss.kl is given twice: leave one"),
        ('{"optimizer": {"lr": NaN}}', ", line 1: config.optimizer.lr is not a number (NaN)"),
        ('{"steps": null}', ", line 1: config.steps has no value: leave it out for the default"),
        ('{"steps": 1,\n}', "not JSON: "),
        ("{'steps': 1}", ", line 1: not JSON: "),
        ('{"steps": 1}\nx', ", line 2: not JSON: Extra data (column 1)"),
        ('{"steps": ' + "1" * 5000 + "}", ": not JSON: "),
        ('{"prompt.system": "\\ud800"}', ", line 1: config.prompt.system holds \\ud800, which is"),
        ("[]", ': it holds a list: write fields, as {"steps": 100}'),
        ("null", ": it holds no fields: write some"),
        ("", ": it is empty: write fields"),
        ("[" * 100_000, ": it is nested too deeply for a config"),
        ('{"model_type": "qwen3"}', ", line 1: config has no field 'model_type'"),
        (b'{"seed": 1,\n"x": "\xff"}', ", line 2: the byte 0xff is not UTF-8: save the file as UT"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_json_is_one_line(tmp_path, content, words):
    assert words in error_of(tmp_path, content, "json")


def test_a_name_that_no_reader_knows_and_a_text_for_no_function(tmp_path):
    assert error_of(tmp_path, "steps = 1", "toml") == (
        ": give a Python, YAML or JSON file (.py, .yaml, .json)"
    )
    path = tmp_path / "own.yml"
    path.write_text("steps: 1")
    with pytest.raises(UserError, match="'seven' after the colon is for the get_config"):
        config_files.load_config(f"{path}:seven", TrainConfig)
    path.rename(tmp_path / "a:b.yml")
    assert config_files.load_config(f"{tmp_path}/a:b.yml", TrainConfig).steps == 1


def test_a_workdir_is_no_file_but_has_one(tmp_path):
    (tmp_path / "config.json").write_text(to_json(TrainConfig()))
    with pytest.raises(UserError, match=f"is a folder; give its file: {tmp_path}/config.json"):
        config_files.load_config(str(tmp_path), TrainConfig)


def test_a_mark_of_the_encoding_is_no_part_of_the_file(tmp_path):
    """Editors on Windows write one."""
    for suffix in ("json", "yaml"):
        assert read(tmp_path, b'\xef\xbb\xbf{"steps": 5}', suffix) == TrainConfig(steps=5)


def test_every_field_of_a_shipped_config_can_be_written(tmp_path):
    """What Python's file returns, YAML's and JSON's do."""
    for name, cls in (("tiny", TrainConfig), ("tiny_pretrain", PretrainConfig)):
        config = config_files.load_config(str(ROOT / f"configs/{name}.py"), cls)
        assert read(tmp_path, to_json(config), "json", cls) == config
        nested = json.loads(to_json(config))
        lines = []
        for key, value in nested.items():
            given = value if isinstance(value, dict) else {"": value}
            for field, leaf in given.items():
                lines.append(f"{key}.{field}".strip(".") + f": {json.dumps(leaf)}")
        assert read(tmp_path, "\n".join(lines), "yaml", cls) == config


def test_a_command_takes_yaml_with_overrides(tmp_path):
    """Up to the model, which is not there: the override and the file are both read."""
    path = tmp_path / "own.yaml"
    path.write_text("data.train: arithmetic\nmodel.path: /nowhere/x\nrollout.samples: 2\n")
    done = run_command("sar_jax.train", f"--config={path}", "--config.rollout.samples=0")
    assert one_error(done).startswith("error: config.rollout.samples is 0")
    done = run_command("sar_jax.train", f"--config={path}", "--config.rollout.sample=1")
    assert "config.rollout has no field 'sample': did you mean 'samples'?" in one_error(done)
    done = run_command("sar_jax.train", f"--config={path}", f"--workdir={tmp_path}/run")
    assert "/nowhere/x: no such folder" in one_error(done)


def test_pretraining_takes_yaml(tmp_path):
    """Up to an output that is there already: the file and the override are both read."""
    path = tmp_path / "own.yaml"
    path.write_text("steps: 0\ndata: {train: 'arithmetic:8', max_prompt_tokens: 200}\n")
    run = lambda *more: one_error(
        run_command("sar_jax.pretrain", f"--config={path}", f"--output={tmp_path}", *more)
    )
    assert run().startswith("error: config.steps is 0")
    assert run("--config.steps=1").startswith(f"error: {tmp_path}")
