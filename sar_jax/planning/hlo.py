"""What a compiled program sends between chips: the collectives in its text.

A collective in a loop counts as often as the loop runs.
"""

import collections
import dataclasses
import math
import re

_BYTES = {
    "pred": 1,
    "s8": 1,
    "u8": 1,
    "bf16": 2,
    "f16": 2,
    "s16": 2,
    "u16": 2,
    "f32": 4,
    "s32": 4,
    "u32": 4,
    "f64": 8,
    "s64": 8,
    "u64": 8,
}
# What one of n devices sends for a result of a given size, in a ring.
_SENT = {
    "all-gather": lambda size, n: size * (n - 1) / n,
    "reduce-scatter": lambda size, n: size * (n - 1),
    "all-reduce": lambda size, n: 2 * size * (n - 1) / n,
    "all-to-all": lambda size, n: size * (n - 1) / n,
    "collective-permute": lambda size, n: size,
}
# the TPU compiler begins the names of its reduce-scatter fusions with this
_SCATTER = "all-reduce-scatter"
_COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) \(.*\) -> .* \{")
_COLLECTIVE = re.compile(rf" = (.*?) ({'|'.join(_SENT)})(-start)?\(")
_ARRAY = re.compile(r"\b(" + "|".join(_BYTES) + r")\[([\d,]*)\]")
_WHILE = re.compile(r" while\(.*condition=%?([\w.\-]+), body=%?([\w.\-]+)")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_CALLED = re.compile(
    r"(?:calls|to_apply|called_computations|branch_computations|true_computation|"
    r"false_computation)="
    r"\{?((?:%?[\w.\-]+(?:, )?)+)\}?"
)
_CHANNEL = re.compile(r"channel_id=(\d+)")
_GROUPS = re.compile(
    r"replica_groups=(?:mesh\[([^\]]*)\] \{([^}]*)\}|\[\d+,(\d+)\]|\{\{([\d,]+)\})"
)
# Of a loop's counter: a constant, an element of the loop's state, a comparison or a sum of two of
# these, the new state.
_CONSTANT = re.compile(r"%?([\w.\-]+) = [su]32\[\]\S* constant\((\d+)\)")
_ELEMENT = re.compile(r"%?([\w.\-]+) = [su]32\[\]\S* get-tuple-element\(.*\), index=(\d+)")
_BINARY = re.compile(
    r"%?([\w.\-]+) = (?:pred|[su]32)\[\]\S* (compare|add)\(%?([\w.\-]+), %?([\w.\-]+)\)"
)
_ROOT = re.compile(r"ROOT %?[\w.\-]+ = \(.* tuple\((.*?)\)")


@dataclasses.dataclass
class _Computation:
    """The lines of one that matter here.

    sent    kind, bytes and channel of its collectives
    calls   other computations, with a loop's condition or how often they run

    The other fields are of loops' counters.
    """

    sent: list[tuple[str, float, str]] = dataclasses.field(default_factory=list)
    calls: list[tuple[str, str | int]] = dataclasses.field(default_factory=list)
    constants: dict[str, int] = dataclasses.field(default_factory=dict)
    elements: dict[str, int] = dataclasses.field(default_factory=dict)
    compares: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    adds: dict[str, tuple[str, str]] = dataclasses.field(default_factory=dict)
    state: list[str] = dataclasses.field(default_factory=list)


def collective_bytes(text: str, devices: int) -> dict[str, float]:
    """Bytes that one device sends in one run of the program, by kind of collective.

    text      `compiled.as_text()`
    devices   of the program

    Loops run as often as the compiler says, else as their counter's bound and step say, else once.
    A collective that the TPU works on in several places, while it computes, is in all of them under
    one channel: it counts where it counts least. Its fusions "all-reduce-scatter" hold an
    all-reduce of which each device keeps its part: libtpu names their emitter
    AllReduceScatterFusion, and they count as reduce-scatters.
    """
    computations, entry = _parse(text, devices)
    runs: collections.Counter = collections.Counter()

    def walk(name: str, times: int) -> None:
        if name not in computations:
            return
        runs[name] += times
        for called, trips in computations[name].calls:
            walk(
                called,
                times
                * (
                    _trips(computations[trips], computations[called])
                    if isinstance(trips, str)
                    else trips
                ),
            )

    walk(entry, 1)
    places: dict[tuple[str, str], list[float]] = {}
    for name, computation in computations.items():
        for i, (kind, size, channel) in enumerate(computation.sent):
            if runs[name]:
                places.setdefault((kind, channel or f"{name} {i}"), []).append(runs[name] * size)
    found: collections.Counter = collections.Counter()
    for (kind, _), sizes in places.items():
        found[kind] += min(sizes)
    return dict(found)


def _parse(text: str, devices: int) -> tuple[dict[str, _Computation], str]:
    """All computations of a module by name, and the name of the one where it begins."""
    found: dict[str, _Computation] = {}
    entry, name, now = "", "", _Computation()
    for line in text.splitlines():
        if match := _COMPUTATION.match(line):
            name = match[1]
            found[name] = now = _Computation()
            entry = name if line.startswith("ENTRY") else entry
        elif match := _COLLECTIVE.search(line):
            channel, group = _CHANNEL.search(line), _group(line, devices)
            kind, size = match[2], _size(match[1], bool(match[3]))
            if kind == "all-reduce" and name.startswith(_SCATTER):
                kind, size = "reduce-scatter", size / group
            now.sent.append((kind, _SENT[kind](size, group), channel[1] if channel else ""))
        elif match := _WHILE.search(line):
            known = _TRIPS.search(line)
            now.calls.append((match[2], int(known[1]) if known else match[1]))
        elif match := _CONSTANT.search(line):
            now.constants[match[1]] = int(match[2])
        elif match := _ELEMENT.search(line):
            now.elements[match[1]] = int(match[2])
        elif match := _BINARY.search(line):
            if match[2] == "compare":
                now.compares.append((match[3], match[4]))
            else:
                now.adds[match[1]] = (match[3], match[4])
        elif match := _ROOT.search(line):
            now.state = [name.strip().rsplit("%", 1)[-1] for name in match[1].split(",")]
        elif match := _CALLED.search(line):
            now.calls += [(called.strip().lstrip("%"), 1) for called in match[1].split(",")]
    return found, entry


def _size(shapes: str, started: bool) -> int:
    """Bytes of a result.

    started   of a -start operation, which holds its operand too: the largest array is the result
    """
    sizes = [
        _BYTES[kind] * math.prod(int(d) for d in dims.split(",") if d)
        for kind, dims in _ARRAY.findall(shapes)
    ]
    return (max if started else sum)(sizes) if sizes else 0


def _group(line: str, devices: int) -> int:
    """How many devices take part: the axes of a mesh, [groups, size] or the first group in full."""
    match = _GROUPS.search(line)
    if not match:
        return devices
    mesh, axes, size, members = match.groups()
    if mesh is not None:
        sizes = dict(re.findall(r"'(\w+)'=(\d+)", mesh))
        return math.prod(int(sizes[axis]) for axis in re.findall(r"'(\w+)'", axes))
    return int(size) if size else len(members.split(","))


def _trips(condition: _Computation, body: _Computation) -> int:
    """Of a loop whose counter, an element of its state, runs from 0 to a constant."""
    for left, right in condition.compares:
        bound, index = condition.constants.get(right), condition.elements.get(left)
        if bound is None or index is None:
            continue
        terms = body.adds.get(body.state[index], ()) if index < len(body.state) else ()
        step = next((body.constants[t] for t in terms if t in body.constants), 1)
        return math.ceil(bound / max(step, 1))
    return max(condition.constants.values(), default=1)
