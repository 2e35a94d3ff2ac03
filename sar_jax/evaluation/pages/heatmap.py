"""Answers with each token coloured by how much the question explains it: as a page, as a part of
one, as terminal text, and as a picture.

    v_j = log P(a_j | q, a_<j) - log P(a_j | a_<j)      nats

Blue is a token that the question makes more probable, orange one that it makes less probable; the
colours are told apart by people who do not tell red from green. A token of |v| >= `FULL` nats has
the full colour.
"""

import html
import pathlib
import unicodedata
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from rich.text import Text

from sar_jax.evaluation import plots
from sar_jax.evaluation.pages.page import page

FULL = 3.0  # nats
# Of a token that the question makes more, and less, probable; backgrounds of light and dark text.
LIGHT = {"more": (0x86, 0xBC, 0xF0), "less": (0xF5, 0xB2, 0x6B), "none": (0xFF, 0xFF, 0xFF)}
DARK = {"more": (0x1F, 0x55, 0x91), "less": (0x8A, 0x4B, 0x08), "none": (0x16, 0x18, 0x1C)}
_KEPT = (
    "id", "kind", "question", "answer", "truth", "correct", "ppl_conditional", "ppl_standalone",
    "self_aligned", "tokens", "token_values", "token_logps", "token_logps_standalone",
)  # fmt: skip


def colour(value: float, palette: Mapping[str, tuple[int, int, int]] = LIGHT) -> str:
    """The background of a token, such as "#86bcf0". value: v in nats."""
    share = min(abs(value) / FULL, 1.0) if value == value else 0.0
    end = palette["more" if value > 0 else "less"]
    mixed = (round(n + (e - n) * share) for n, e in zip(palette["none"], end))
    return "#" + "".join(f"{part:02x}" for part in mixed)


def answers_page(
    title: str, rows: Sequence[Mapping[str, Any]], kinds: Sequence[Mapping[str, Any]] = ()
) -> str:
    """A page of scored answers, as `sar_jax.explain` writes them; further fields are left out.

    Sorted and filtered by R_SA, right or wrong, kind, and length.

    kinds   of answers, and what each earns (`answer_types`): tables and a plot above them
    """
    kept = [
        {name: _short(row[name]) for name in _KEPT if row.get(name) is not None} for row in rows
    ]
    data = {"answers": kept, "kinds": list(kinds), **scale()}
    shown = ("charts.js", "kinds.js") if kinds else ()
    return page(title, data, ("elements.js", *shown, "tokens.js", "answers.js"))


def scale() -> dict[str, Any]:
    """The colours as tokens.js takes them."""
    return {"full": FULL, "palettes": {"light": _ends(LIGHT), "dark": _ends(DARK)}}


def _short(value: Any) -> Any:
    """Floats to what a page shows of them, which is half of its size."""
    if isinstance(value, float):
        return round(value, 4)
    return [_short(v) for v in value] if isinstance(value, list) else value


def _ends(palette: Mapping[str, tuple[int, int, int]]) -> dict[str, list[int]]:
    return {name: list(parts) for name, parts in palette.items()}


def visible(piece: str) -> str:
    """A token's piece with the characters that have no shape, or change that of others, spelled."""
    return "".join(_spelled(c) for c in piece)


def _spelled(c: str) -> str:
    if c == "\n":
        return "\u23ce\n"  # a sign for the end of a line, and the end
    if c == "\t":
        return "\u21e5"
    if c != " " and unicodedata.category(c) in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp"):
        return f"\u27e8U+{ord(c):04X}\u27e9"
    return c


def terminal_text(row: Mapping[str, Any]) -> Text:
    """A scored answer for a terminal, with its two perplexities and its reward."""
    text = Text()
    text.append(f"{row['question'].strip()}\n", style="dim")
    for piece, value in zip(row["tokens"], row["token_values"]):
        text.append(visible(piece), style=f"#111111 on {colour(value)}")
    text.append(
        f"\nppl(a) {row['ppl_standalone']:.3f}   ppl(a|q) {row['ppl_conditional']:.3f}   "
        f"R_SA {row['self_aligned']:+.3f}\n",
        style="bold",
    )
    return text


def fragment(row: Mapping[str, Any]) -> str:
    """A scored answer as HTML without a page around it, for a notebook.

    What people and models wrote is text: none of it becomes markup. v is a token's tool tip.
    """
    tokens = "".join(
        f'<span style="background:{colour(value)};color:#111" title="v = {value:+.3f}">'
        f"{html.escape(visible(piece))}</span>"
        for piece, value in zip(row["tokens"], row["token_values"])
    )
    figures = (
        f"ppl(a) {row['ppl_standalone']:.3f}, ppl(a|q) {row['ppl_conditional']:.3f}, "
        f"<b>R_SA {row['self_aligned']:+.3f}</b>"
    )
    return (
        '<div style="margin:0 0 1em">'
        f'<div style="white-space:pre-wrap;opacity:.7">{html.escape(row["question"].strip())}</div>'
        f'<div style="white-space:pre-wrap">{tokens}</div><div>{figures}</div></div>'
    )


def picture(rows: Sequence[Mapping[str, Any]], path: pathlib.Path, columns: int = 88) -> None:
    """The answers as a PNG: monospaced text, `columns` characters wide.

    Raises `UserError` without matplotlib.
    """
    lines: list[list[tuple[str, str | None]]] = []
    for row in rows:
        lines += [[(part, None)] for part in _wrapped(row["question"], columns)]
        lines += _filled(row["tokens"], row["token_values"], columns)
        reward = f"R_SA {row['self_aligned']:+.3f}"
        ppl = f"ppl(a) {row['ppl_standalone']:.3f}  ppl(a|q) {row['ppl_conditional']:.3f}"
        lines += [[(f"{ppl}  {reward}", None)], []]
    wide, high, size = 0.078, 0.19, 9  # inches of a character and a line; points
    figure = plots.figure(figsize=(columns * wide + 0.4, len(lines) * high + 0.4), dpi=130)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    width, height = figure.get_size_inches()
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    for number, line in enumerate(lines):
        x, y = 0.2, 0.3 + number * high
        for piece, background in line:
            span = len(piece) * wide
            if background:
                axes.fill([x, x + span, x + span, x], [y - 0.13, y - 0.13, y + 0.05, y + 0.05],
                          color=background, linewidth=0)  # fmt: skip
            for i, c in enumerate(piece):
                axes.text(x + i * wide, y, c, family="monospace", size=size, color="#111111",
                          parse_math=False)  # fmt: skip
            x += span
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # a character that the font lacks is a box
        figure.savefig(path)


def _filled(
    tokens: Sequence[str], values: Sequence[float], columns: int
) -> list[list[tuple[str, str | None]]]:
    """Coloured pieces as lines of at most `columns` characters."""
    lines: list[list[tuple[str, str | None]]] = [[]]
    used = 0
    for token, value in zip(tokens, values):
        for part in visible(token).splitlines(keepends=True):
            while part:
                piece, part = part[: columns - used], part[columns - used :]
                lines[-1].append((piece.rstrip("\n"), colour(value)))
                used += len(piece)
                if used >= columns or piece.endswith("\n"):
                    lines.append([])
                    used = 0
    return lines


def _wrapped(text: str, columns: int) -> list[str]:
    pieces = (visible(line).rstrip("\n") for line in text.strip().splitlines())
    return [p[i : i + columns] for p in pieces for i in range(0, max(len(p), 1), columns)]
