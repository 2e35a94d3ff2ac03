"""Writes docs/configuration.md: each field of sar_jax/config.py, its type, default and comment.

    python docs/make_configuration.py             writes the page
    python docs/make_configuration.py --check     exits with 1 if the page is not up to date

A field's text is the comment lines above it and the comment behind it; a section's text is the
docstring of its class. The type of a field that takes only some values lists them. Only the source
is read: nothing is imported.
"""

import ast
import json
import pathlib
import re
import sys
import tokenize

DOCS = pathlib.Path(__file__).parent
SOURCE, PAGE = DOCS.parent / "sar_jax/config.py", DOCS / "configuration.md"
HEAD = """\
# Configuration

A config file returns one experiment as a dataclass, and the command line overrides any field of it
by its path:

```sh
python -m sar_jax.train --config=configs/tiny.py --config.optimizer.lr=1e-4 --config.steps=20
```

The defaults are the published SA-GRPO settings. An unknown field, a value of another type, and a
value that cannot work are errors that name the field, before anything slow starts; in a config file
with its line. A whole number is taken for a float, numbers of numpy for plain ones, and a path for
text. Text after a colon is given to the file's function: `--config=FILE:TEXT` calls
`get_config(TEXT)`.

docs/method.md has the formulas. A workdir keeps its run's settings in `config.json`. This page is
made of the comments in [sar_jax/config.py](../sar_jax/config.py) by `docs/make_configuration.py`.
"""


class Fields:
    """The fields of a source's classes, as Markdown; a field made by a call is a section."""

    def __init__(self, source: str):
        self.lines = source.splitlines()
        self.classes = {n.name: n for n in ast.parse(source).body if isinstance(n, ast.ClassDef)}
        tokens = tokenize.generate_tokens(iter(source.splitlines(keepends=True)).__next__)
        comments = [token for token in tokens if token.type == tokenize.COMMENT]
        self.notes = {token.start[0]: token.string.strip("# ") for token in comments}

    def of(self, cls: str) -> list[ast.AnnAssign]:
        return [node for node in self.classes[cls].body if isinstance(node, ast.AnnAssign)]

    def sections(self, cls: str) -> dict[str, str]:
        made = [f for f in self.of(cls) if isinstance(f.value, ast.Call)]
        return {f.target.id: ast.unparse(f.annotation) for f in made}

    def meaning(self, field: ast.AnnAssign) -> str:
        """The comment lines above a field, then the one behind it."""
        first = field.lineno
        while self.lines[first - 2].strip().startswith("#"):
            first -= 1
        rows = [*range(first, field.lineno), field.end_lineno]
        text = " ".join(self.notes[row] for row in rows if row in self.notes)
        return text.replace("|", "\\|")

    def kind(self, field: ast.AnnAssign) -> str:
        """The type; of a `Literal` the choices."""
        if not isinstance(field.annotation, ast.Subscript):
            return ast.unparse(field.annotation)
        choices = ast.literal_eval(field.annotation.slice)
        return ", ".join(f"`{json.dumps(choice)}`" for choice in choices)

    def table(self, cls: str, prefix: str = "") -> str:
        doc = " ".join((ast.get_docstring(self.classes[cls]) or "").split())
        rows = [doc, "", "| field | type or choices | default | meaning |", "|---|---|---|---|"]
        for field in self.of(cls):
            if not isinstance(field.value, ast.Call):
                default = ast.get_source_segment("\n".join(self.lines), field.value)
                columns = self.kind(field), f"`{default}`", self.meaning(field)
                rows.append(f"| `{prefix}{field.target.id}` | {' | '.join(columns)} |")
        return "\n".join(rows) + "\n"


def page(source: str) -> str:
    fields = Fields(source)
    train, pretrain = fields.sections("TrainConfig"), fields.sections("PretrainConfig")
    parts = [HEAD, "## Training\n", fields.table("TrainConfig")]
    for name, cls in train.items():
        parts += [f"### {name}\n", fields.table(cls, f"{name}.")]
    shared = [f"[{name}](#{name})" for name in pretrain if name in train]
    parts += ["## Pretraining\n", fields.table("PretrainConfig")]
    parts += [f"These sections are those of training: {', '.join(shared)}.\n"]
    for name in [name for name in pretrain if name not in train]:
        parts += [f"### {name}\n", fields.table(pretrain[name], f"{name}.")]
    return re.sub(r"docs/(\w+\.md)", r"[\1](\1)", "\n".join(parts))  # pages as links


def main() -> int:
    made = page(SOURCE.read_text())
    if "--check" in sys.argv[1:]:
        fresh = PAGE.exists() and PAGE.read_text() == made
        print(f"{PAGE.name} is up to date" if fresh else f"{PAGE.name} differs: run {sys.argv[0]}")
        return not fresh
    PAGE.write_text(made)
    print(f"wrote {PAGE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
