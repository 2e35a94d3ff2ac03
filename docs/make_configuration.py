"""Writes docs/configuration.md: each field of sar_jax/config.py, its type, default and comment.

    python docs/make_configuration.py             writes the page
    python docs/make_configuration.py --check     exits with 1 if the page is not up to date

`sar_jax.training.settings.config_help` says what a field's text is. Only the source is read: the
config itself is not imported.
"""

import ast
import pathlib
import re
import sys

from sar_jax.training.settings.config_help import CONFIG, Sources

DOCS = pathlib.Path(__file__).parent
PAGE = DOCS / "configuration.md"
HEAD = """\
# Configuration

A config file is a Python file whose `get_config()` returns one experiment as a dataclass, or a YAML
or JSON file that holds its fields. The command line overrides any field by its path:

```sh
sar_jax train --config=configs/tiny.py --config.optimizer.lr=1e-4 --config.steps=20
sar_jax train --help optimizer
```

The second shows the fields with this in their name; `--help` alone shows all.

The defaults are the published SA-GRPO settings. An unknown field, a value of another type, and a
value that cannot work are errors that name the field, before anything slow starts; in a config file
with its line. A whole number is taken for a float, numbers of numpy for plain ones, and a path for
text. Text after a colon is given to the file's function: `--config=FILE:TEXT` calls
`get_config(TEXT)`.

docs/method.md has the formulas. A workdir keeps its run's settings in `config.json`. This page is
made of the comments in [sar_jax/config.py](../sar_jax/config.py) by `docs/make_configuration.py`.

## YAML and JSON

`--config=FILE.yaml`, `.yml` or `.json` holds fields, nested or with dots; what it leaves out has
the default. So `--config=WORKDIR/config.json` begins a run with another's settings.

```yaml
steps: 200
model.path: Qwen/Qwen3-4B-Base
data:
  train: gsm8k
  eval: gsm8k
prompt:
  thinking: on      # text, since the field is text
optimizer:
  lr: 1e-6          # a number
model.offload_reference: true
```

YAML is read as its version 1.2 says, and a value as its field's type asks: text needs no quotes
where it looks like a number, a date or a switch; `yes` and `no` switch a field that is true or
false; `1_000` is 1000.

Refused, with file and line: a name that is no field or is given twice, a value that is missing or
of another type, NaN, `010` (octal to some readers), tags (`!!python/...`), merges (`<<`), tabs,
several documents, and bytes that are not UTF-8.
"""


def table(sources: Sources, cls: str, prefix: str = "") -> str:
    """The fields of a class as a table, after its docstring."""
    rows = [sources.doc(cls), ""]
    rows += ["| field | type or choices | default | meaning |", "|---|---|---|---|"]
    for field in sources.of(cls):
        choices = [f"`{choice}`" for choice in sources.choices(field)]
        kind = ", ".join(choices) or ast.unparse(field.annotation)
        columns = kind, f"`{sources.default(field)}`", sources.meaning(field).replace("|", "\\|")
        rows.append(f"| `{prefix}{field.target.id}` | {' | '.join(columns)} |")
    return "\n".join(rows) + "\n"


def page(source: str) -> str:
    sources = Sources(source)
    train, pretrain = sources.sections("TrainConfig"), sources.sections("PretrainConfig")
    parts = [HEAD, "## Training\n", table(sources, "TrainConfig")]
    for name, cls in train.items():
        parts += [f"### {name}\n", table(sources, cls, f"{name}.")]
    shared = [f"[{name}](#{name})" for name in pretrain if name in train]
    parts += ["## Pretraining\n", table(sources, "PretrainConfig")]
    parts += [f"These sections are those of training: {', '.join(shared)}.\n"]
    for name in [name for name in pretrain if name not in train]:
        parts += [f"### {name}\n", table(sources, pretrain[name], f"{name}.")]
    return re.sub(r"docs/(\w+\.md)", r"[\1](\1)", "\n".join(parts))  # pages as links


def main() -> int:
    made = page(CONFIG.read_text())
    if "--check" in sys.argv[1:]:
        fresh = PAGE.exists() and PAGE.read_text() == made
        print(f"{PAGE.name} is up to date" if fresh else f"{PAGE.name} differs: run {sys.argv[0]}")
        return not fresh
    PAGE.write_text(made)
    print(f"wrote {PAGE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
