"""Plans as one HTML page: memory of each program against the limit, a step at the limits of a chip.

Drawn as SVG in the page itself, without a script.
"""

import html
import math
from collections.abc import Iterator, Sequence

from sar_jax.evaluation.pages import page
from sar_jax.planning import tables
from sar_jax.planning.estimate import Plan
from sar_jax.planning.measured import Measured
from sar_jax.planning.units import duration, size

# Columns of a drawing, in its own units: names, bars, what is written behind them.
_NAMES, _BARS, _BEHIND = 120.0, 700.0, 100.0
_ROW, _AXIS = 26.0, 22.0
_PARTS = {"a": "arguments", "b": "temporaries", "c": "results and code", "d": "beside"}
_LIMITS = {"a": "compute", "b": "memory", "c": "network"}
_TICKS = 5  # about as many on an axis
_LEAST = 0.7  # width of what is not nothing


def plans_page(title: str, plans: Sequence[tuple[str, Plan]], steps: int) -> str:
    """The text of the page.

    title   of the window, and the page's heading
    plans   sections in this order; with the overrides that one is made with, or ""
    steps   of the run
    """
    return page.still_page(title, "\n".join(_section(*given, steps) for given in plans))


def _section(overrides: str, plan: Plan, steps: int) -> str:
    chip = f"{plan.chips} chips, {size(plan.hbm)} a {tables.unit(plan)} for programs"
    memory = [
        (name, tables.memory_cells(program, plan.hbm)) for name, program in plan.programs.items()
    ]
    times = [(name, tables.time_cells(time)) for name, time in plan.times.items()]
    colour = "right" if plan.fits() else "wrong"
    return f"""<section>
<h2>{_text(plan.topology)}: {_text(chip)}</h2>
<p class="{colour}"><strong>{_text(tables.verdict(plan))}</strong></p>
{_list([f"with {overrides}"] if overrides else [])}
{_list(["a run needs " + " ".join(plan.overrides)] if plan.overrides else [])}
<h2>Memory of a {tables.unit(plan)} while each program runs</h2>
{_legend(_PARTS)}
{_memory(plan)}
<p class="dim">{_text(tables.MEANT_BY_MEMORY)}</p>
{_table(("program", *tables.MEMORY), memory)}
<h2>A step at the chip's limits</h2>
<p>{_text(tables.pace(plan, steps))}</p>
{_legend(_LIMITS)}
{_gantt(plan)}
<p class="dim">{_text(tables.MEANT_BY_TIMES)}</p>
{_table(("program", *tables.TIMES), times)}
</section>"""


def _memory(plan: Plan) -> str:
    """A bar for each program, in parts, and the line that none may pass."""
    totals = [p.total for p in plan.programs.values() if math.isfinite(p.total)]
    scale = _BARS / (1.02 * max([plan.hbm, *totals]))
    rows, height = [], _ROW * len(plan.programs)
    for i, (name, program) in enumerate(plan.programs.items()):
        rows.append(_name(name, i))
        x, y = _NAMES, i * _ROW + 4
        for kind, held in _parts(program, plan.hbm):
            rows.append(_bar(kind, x, y, held * scale, _ROW - 8, f"{name}: {_said(kind, held)}"))
            x += held * scale
        rows.append(_label(x + 6, i, size(program.total)))
    x = _NAMES + plan.hbm * scale
    rows.append(f'<line class="limit" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{height:.0f}"/>')
    limit = f"{size(plan.hbm)} for programs"
    rows.append(
        f'<text class="dim" x="{x:.1f}" y="{height + 15:.0f}" text-anchor="end">'
        f"{_text(limit)}</text>"
    )
    title = "Bytes of each program against what a device has"
    return _drawing(title, height + _AXIS, rows)


def _parts(program: Measured, hbm: float) -> Iterator[tuple[str, float]]:
    """What its memory is made of: kinds of `_PARTS`, or "limit" where there is no room for it."""
    if not math.isfinite(program.total):
        yield "back", hbm
        return
    arguments = program.arguments or 0
    others = program.total - program.beside - arguments - program.temporary
    yield from zip("abcd", (arguments, program.temporary, max(others, 0), program.beside))


def _said(kind: str, held: float) -> str:
    return f"{_PARTS[kind]} {size(held)}" if kind in _PARTS else "too much"


def _gantt(plan: Plan) -> str:
    """The step's programs one after the other: all calls of each, at each limit."""
    whole = plan.step_seconds
    if not whole > 0:
        return ""
    scale, rows, height = _BARS / whole, [], _ROW * len(plan.times)
    for second in _ticks(whole):
        x = _NAMES + second * scale
        rows.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{height:.0f}"/>')
        rows.append(
            f'<text class="dim" x="{x:.1f}" y="{height + 15:.0f}" text-anchor="middle">'
            f"{_text(duration(second))}</text>"
        )
    start = 0.0
    for i, (name, time) in enumerate(plan.times.items()):
        rows.append(_name(name, i))
        x, high = _NAMES + start * scale, (_ROW - 8) / 3
        rows.append(_bar("back", x, i * _ROW + 4, time.seconds * scale, _ROW - 8, name))
        for j, (kind, limit) in enumerate(_LIMITS.items()):
            seconds = time.calls * (getattr(time, limit) or 0.0)
            said = f"{name}: {limit} {duration(seconds)}"
            rows.append(_bar(kind, x, i * _ROW + 4 + j * high, seconds * scale, high, said))
        start += time.seconds
        rows.append(_label(_NAMES + start * scale + 6, i, duration(time.seconds)))
    title = "All calls of each program in a step, at each limit of the chip"
    return _drawing(title, height + _AXIS, rows)


def _ticks(whole: float) -> list[float]:
    """Round seconds on an axis of that many: steps of 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(whole / _TICKS))
    step = next(power * n for n in (1, 2, 5, 10) if power * n * _TICKS >= whole * 0.999)
    return [i * step for i in range(int(whole / step * 1.001) + 1)]


def _drawing(title: str, height: float, shapes: Sequence[str]) -> str:
    width = _NAMES + _BARS + _BEHIND
    inside = "\n".join(shapes)
    return (
        f'<div class="scroll"><svg class="plan" role="img" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'style="min-width:640px"><title>{_text(title)}</title>\n{inside}\n</svg></div>'
    )


def _bar(kind: str, x: float, y: float, width: float, height: float, said: str) -> str:
    if width <= 0:
        return ""
    return (
        f'<rect class="{kind}" x="{x:.2f}" y="{y:.2f}" width="{max(width, _LEAST):.2f}" '
        f'height="{height:.2f}"><title>{_text(said)}</title></rect>'
    )


def _name(name: str, row: int) -> str:
    return f'<text x="0" y="{row * _ROW + 18:.0f}">{_text(name)}</text>'


def _label(x: float, row: int, said: str) -> str:
    return f'<text class="dim" x="{x:.1f}" y="{row * _ROW + 18:.0f}">{_text(said)}</text>'


def _legend(kinds: dict[str, str]) -> str:
    spans = "".join(f'<span class="{kind}">{_text(name)}</span>' for kind, name in kinds.items())
    return f'<div class="legend">{spans}</div>'


def _list(lines: Sequence[str]) -> str:
    return "".join(f"<p>{_text(line)}</p>" for line in lines)


def _table(columns: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]]) -> str:
    head = "".join(f"<th>{_text(column)}</th>" for column in columns)
    line = lambda name, cells: "".join(f"<td>{_text(cell)}</td>" for cell in (name, *cells))
    body = "\n".join(f"<tr>{line(name, cells)}</tr>" for name, cells in rows)
    return (
        f'<div class="scroll"><table class="figures"><thead><tr>{head}</tr></thead>\n'
        f"<tbody>{body}</tbody></table></div>"
    )


def _text(text: str) -> str:
    return html.escape(text)
