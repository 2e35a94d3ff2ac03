"""Draws docs/heatmap.svg, the picture in the README, from what `sar_jax.explain` wrote:

    python -m sar_jax.explain --model=sar_jax/assets/tiny --config=configs/tiny.py \\
        --input=examples/filler.jsonl --output=scored.jsonl
    python docs/make_heatmap.py scored.jsonl

A token's colour is its value v = log P(a_j | q, a_<j) - log P(a_j | a_<j), in nats. The number
above neighbouring tokens is the sum of their values."""

import itertools
import json
import pathlib
import sys
from typing import NamedTuple
from xml.sax.saxutils import escape

FILE = pathlib.Path(__file__).parent / "heatmap.svg"
WIDTH, MARGIN, CHARACTER, LINE = 840, 20, 8.4, 38  # pixels
LEAST, FULL = 0.1, 2.5  # nats: no colour below, full colour above
STYLE = """
text { font: 14px ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; fill: #1f2328; }
.head { font: 600 14px system-ui, "DejaVu Sans", sans-serif; }
.note { font: 11px system-ui, "DejaVu Sans", sans-serif; fill: #59636e; }
.panel { fill: #ffffff; stroke: #d1d9e0; }
.more { fill: #2f9e44; }
.less { fill: #d9480f; }
@media (prefers-color-scheme: dark) {
  text { fill: #f0f6fc; }
  .note { fill: #9198a1; }
  .panel { fill: #0d1117; stroke: #3d444d; }
}
"""


class Token(NamedTuple):
    """A piece of an answer, its value in nats, and its place in pixels."""

    piece: str
    value: float
    x: float
    y: float

    @property
    def width(self) -> float:
        return len(self.piece) * CHARACTER


def text(kind: str, x: float, y: float, words: str, more: str = "") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.0f}"{more}>{escape(words)}</text>'


def place(pieces: list[str], values: list[float], y: float) -> list[Token]:
    """Tokens from left to right and line by line, the first line at the height y."""
    placed: list[Token] = []
    x = float(MARGIN)
    for piece, value in zip(pieces, values, strict=True):
        if x + len(piece) * CHARACTER > WIDTH - MARGIN:
            x, y, piece = float(MARGIN), y + LINE, piece.lstrip()
        placed.append(Token(piece, value, x, y))
        x += placed[-1].width
    return placed


def draw(token: Token) -> list[str]:
    """A token's box and its text."""
    drawn, (piece, value, x, y) = [], token
    if abs(value) >= LEAST:
        kind, opacity = "more" if value > 0 else "less", min(abs(value) / FULL, 1.0)
        place = f'x="{x:.1f}" y="{y - 14:.0f}" width="{token.width:.1f}" height="19"'
        drawn.append(f'<rect class="{kind}" {place} opacity="{opacity:.2f}"/>')
    if piece.strip():
        more = f' textLength="{token.width:.1f}" xml:space="preserve"'
        drawn.append(text("token", x, y, piece, more))
    return drawn


def sums(tokens: list[Token]) -> list[str]:
    """The sum of values above each run of coloured tokens on one line."""
    drawn = []
    for (coloured, y), run in itertools.groupby(tokens, lambda t: (abs(t.value) >= LEAST, t.y)):
        if coloured:
            run = list(run)
            middle = (run[0].x + run[-1].x + run[-1].width) / 2
            total = sum(t.value for t in run)
            drawn.append(text("note", middle, y - 17, f"{total:+.1f}", ' text-anchor="middle"'))
    return drawn


def picture(answers: list[dict]) -> str:
    """The question, then each answer under a line with its figures."""
    drawn, y = [text("head", MARGIN, 30, answers[0]["question"])], 66.0
    for scored in answers:
        figures = (
            f"{scored['id']}, {len(scored['tokens'])} tokens: "
            f"ppl(a) = {scored['ppl_standalone']:.2f}, "
            f"ppl(a|q) = {scored['ppl_conditional']:.2f}, R_SA = {scored['self_aligned']:.2f}"
        )
        drawn.append(text("head", MARGIN, y, figures))
        tokens = place(scored["tokens"][:-1], scored["token_values"][:-1], y + LINE)  # without EOS
        drawn += [line for token in tokens for line in draw(token)] + sums(tokens)
        y = tokens[-1].y + LINE + 4
    drawn.append(
        text("note", MARGIN, y, "Numbers: nats by which the question makes these tokens likelier.")
    )
    size = f'width="{WIDTH}" height="{y + 18:.0f}"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} viewBox="0 0 {WIDTH} {y + 18:.0f}">',
            f"<style>{STYLE}</style>",
            f'<rect class="panel" {size} rx="6"/>',
            *drawn,
            "</svg>\n",
        ]
    )


if __name__ == "__main__":
    lines = pathlib.Path(sys.argv[1]).read_text().splitlines()
    FILE.write_text(picture([json.loads(line) for line in lines]))
    print(f"wrote {FILE}")
