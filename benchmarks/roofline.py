"""The plan's seconds against this machine: its roofline with limits that are measured here.

    JAX_PLATFORMS=cpu python benchmarks/roofline.py [--sizes=tiny,width256,0.1B] [--rounds=5]
    JAX_PLATFORMS=cpu python benchmarks/roofline.py --sizes= --model=HF_DIR

For each size of a random Qwen3, or a model that you have, in float32, the functions of a run are
called on its own rows: score, gradient and apply of a step, and the decoder. In turn with them the
machine's limits are measured, in processor seconds (user and system, all threads): that of the one
and of the other are a pair. Prints one line of JSON a figure: each limit, and measured over
predicted processor seconds, the median of the pairs.

    plan     as `sar_jax.plan` has it: flops at the peak of one large product, bytes at the
             bandwidth of long arrays, whichever takes longer
    shapes   a product of each shape that the function has takes what it takes alone; and so do
             softmax, activations and norms, which the plan leaves out

`step` is all calls of these functions together. What a ratio is above 1 is what the estimate leaves
out.
"""

import contextlib
import dataclasses
import functools
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from peers import meter, models
from peers import options as options_lib
from peers.with_sar_jax import Program
from peers.work import Work

from sar_jax.model import hf
from sar_jax.model.parameters import ModelConfig, count_params
from sar_jax.parallel.chips import Chip
from sar_jax.planning import programs, roofline
from sar_jax.rollout import slots
from sar_jax.training import score


class Sizes(NamedTuple):
    """fields: of the model's config.json; questions, with answers of so many tokens."""

    fields: dict[str, int]
    vocabulary: int
    questions: int
    answer: int


_TINY = dict(
    hidden_size=128,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
    intermediate_size=384,
)
_LARGE = dict(
    hidden_size=768,
    num_hidden_layers=12,
    num_attention_heads=12,
    num_key_value_heads=4,
    head_dim=64,
    intermediate_size=2048,
)
SIZES = {
    "tiny": Sizes(_TINY, 512, 16, 128),
    "width256": Sizes({}, 4096, 16, 256),
    "0.1B": Sizes(_LARGE, 32000, 2, 128),
}
GIVEN = Sizes({}, 0, 4, 128)  # of a model that is there
PROMPT, SAMPLES = 64, 4
LARGE, LONG = 2048, 2**25  # of the product at its peak, and of arrays of numbers
BLOCKS = 1.25  # attention in four blocks of queries over the keys up to their end


class Waiting:
    """Results that are waited for when they are more than caches hold: then their memory can be
    taken again, and small functions follow each other as the parts of a compiled one do."""

    def __init__(self) -> None:
        self.results: list[jax.Array] = []

    def add(self, found: Any) -> None:
        self.results += jax.tree.leaves(found)
        if len(self.results) > 16 or sum(result.nbytes for result in self.results) > 2**20:
            self.end()

    def end(self) -> None:
        jax.block_until_ready(self.results)
        self.results.clear()


def mean_of(least: float, function: Callable[..., Any], *given: Any) -> float:
    """Processor seconds of a call, the mean of as many as take `least` seconds. Compiled before."""
    waiting = Waiting()
    waiting.add(function(*given))
    waiting.end()
    count, start, wall = 0, time.process_time(), time.perf_counter()
    while count == 0 or time.perf_counter() - wall < least:
        waiting.add(function(*given))
        count += 1
    waiting.end()
    return (time.process_time() - start) / count


@functools.cache
def _drawn(*shape: int, dtype: Any = jnp.float32, seed: int = 0) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


def each(function: Callable[..., Any], calls: list[tuple[jax.Array, ...]]) -> list[jax.Array]:
    """Calls it with each of these. Weights that differ are in no cache when their turn comes."""
    waiting = Waiting()
    for given in calls:
        waiting.add(function(*given))
    return waiting.results


# jitted once each, for all shapes
_product = jax.jit(lambda x, w: x @ w)
_backward = jax.jit(lambda x, w, g: (g @ w.T, x.T @ g))
_triad = jax.jit(lambda x, y: x + 0.5 * y)
_scores = jax.jit(lambda q, k: jnp.einsum("bnqh,bnkh->bnqk", q, k))
_softmax = jax.jit(lambda x: jax.nn.softmax(jnp.where(x > -9.0, x, -1e30), axis=-1))
_gated = jax.jit(lambda x, y: jax.nn.silu(x) * y)
_one = jax.jit(lambda x: x + 1.0)
_norm = jax.jit(lambda x, w: x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + 1e-6) * w)


Spent = Callable[..., float]  # processor seconds of a function and what it is given


def peak(spent: Spent, dtype: Any = jnp.float32) -> float:
    """Flops a processor second of one large product."""
    x = _drawn(LARGE, LARGE, dtype=dtype)
    return 2 * LARGE**3 / spent(_product, x, x)


def bandwidth(spent: Spent, count: int = LONG) -> float:
    """Bytes a processor second: two arrays of so many numbers are read, and one is written."""
    x = _drawn(count)
    return 3 * 4 * x.size / spent(_triad, x, x)


class Alone(NamedTuple):
    """Processor seconds of what passes are made of, one by one.

    again   what the backward pass computes again of the forward pass
    """

    forward: float
    backward: float
    again: float


def alone(
    spent: Spent,
    cfg: ModelConfig,
    rows: int,
    queries: int,
    keys: int,
    share: float,
    logits: int,
    kept: bool = False,
) -> Alone:
    """A pass over rows of so many tokens each.

    keys     that the queries of a row meet
    share    of these products that is computed
    logits   tokens whose logits are computed
    kept     the backward pass does not compute them again
    """
    tokens, D, F, L = rows * queries, cfg.embed_dim, cfg.ffw_dim, cfg.num_layers
    N, K, H, x = cfg.num_heads, cfg.num_kv_heads, cfg.head_dim, _drawn
    calling = spent(_one, x())  # a compiled function calls nothing for each of its parts
    once = lambda function, *given: spent(function, *given) - calling
    several = lambda function, calls: spent(each, function, calls) - len(calls) * calling
    products = [(D, N * H, L), (D, K * H, 2 * L), (N * H, D, L), (D, F, 2 * L), (F, D, L)]
    shapes = [(tokens, into, out, i) for into, out, count in products for i in range(count)]
    shapes += [(logits, D, cfg.vocab_size, 0)] if logits else []
    given = [(x(n, into), x(into, out, seed=i), x(n, out)) for n, into, out, i in shapes]
    forward = several(_product, [those[:2] for those in given])
    backward = several(_backward, given)
    dots = L * share * once(_scores, x(rows, N, queries, H), x(rows, N, keys, H))
    softmax = L * share * once(_softmax, x(rows, N, queries, keys))
    gated = L * once(_gated, x(tokens, F), x(tokens, F))
    norms = (2 * L + 1) * once(_norm, x(tokens, D), x(D))
    rotated = L * 2 * once(_triad, x(tokens, (N + K) * H), x(tokens, (N + K) * H))
    added = 2 * L * once(_triad, x(tokens, D), x(tokens, D))
    ends = once(_softmax, x(logits, cfg.vocab_size)) if logits else 0.0
    small = gated + norms + rotated + added
    whole = forward + 2 * dots + softmax + small + ends
    # of a layer, which nothing needs again
    last = several(_product, [(x(tokens, F), x(F, D, seed=i)) for i in range(L)])
    if kept:
        last += several(_product, [given[-1][:2]])
    return Alone(whole, backward + 4 * dots + softmax + 2 * small + ends, whole - last)


class Timer:
    """Calls and processor seconds of functions, each of which is waited for."""

    def __init__(self) -> None:
        self.calls: dict[str, int] = {}
        self.seconds: dict[str, float] = {}

    def of(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*given: Any, **named: Any) -> Any:
            start = time.process_time()
            found = jax.block_until_ready(function(*given, **named))
            self.seconds[name] = self.seconds.get(name, 0.0) + time.process_time() - start
            self.calls[name] = self.calls.get(name, 0) + 1
            return found

        return call


class Size:
    """The run of a folder's model, with the functions of its step timed."""

    def __init__(self, name: str, folder: Path, sizes: Sizes, overrides: list[str], spent: Spent):
        self.spent = spent
        self.name, self.answer, self.slots = name, sizes.answer, sizes.questions * SAMPLES
        rows = f"packing.rows_per_microbatch={min(8, self.slots)}"
        given = (f"rollout.slots={self.slots}", rows, *overrides)
        make = lambda task: Program(
            Work(
                model=str(folder),
                task=task,
                questions=sizes.questions,
                minibatch=sizes.questions,
                prompt=PROMPT,
                answer=sizes.answer,
                overrides=given,
            )
        )
        self.decoding, self.learning = make("rollout"), make("step")
        self.config, self.cfg = self.learning.config, self.learning.cfg
        self.described = programs.describe(self.config, self.cfg, self.learning.mesh)
        self.calls: dict[str, int] = {}  # of a step
        for program in (self.decoding, self.learning):
            program()  # compiles

    def measure(self) -> dict[str, float]:
        """Processor seconds of a call of each function; of the decoder, of one token."""
        timer, learning = Timer(), self.learning
        made, tools = learning.assembly, learning.tools
        accumulate = timer.of("gradient", made.update.accumulate)
        apply = timer.of("apply", made.update.apply)
        update = dataclasses.replace(made.update, accumulate=accumulate, apply=apply)
        timed = timer.of("score", made.score)
        learning.assembly = dataclasses.replace(made, update=update, score=timed)
        learning.tools = tools._replace(score=timed)
        real = {name: getattr(slots, name) for name in ("prefill", "decode")}
        for name, function in real.items():
            setattr(slots, name, timer.of(name, function))
        try:
            learning(), self.decoding()
        finally:
            learning.assembly, learning.tools = made, tools
            for name, function in real.items():
                setattr(slots, name, function)
        # every slot has an answer of this length
        self.calls = timer.calls | {"decode": self.answer}
        return {name: seconds / self.calls[name] for name, seconds in timer.seconds.items()}

    def planned(self, chip: Chip) -> dict[str, float]:
        """Seconds of a call as the plan has it.

        Answers have one length: on average a slot is half as far.
        """
        shapes, config = self.described.shapes, self.config
        work = roofline.Work(PROMPT, self.answer / 2, shapes.rows * shapes.width, 1)
        rows = roofline.packed_rows(config, work, self.learning.assembly.base.kernel)
        rows = rows._replace(asked_logits=self._logits() / config.packing.row_tokens)
        network, residents = self.learning.assembly.base, self.described.residents
        calls = roofline.step_calls(config, network, residents, work, rows)
        return {name: roofline.limits(call, 0.0, chip).longest for name, call in calls.items()}

    def by_shapes(self, chip: Chip) -> dict[str, float]:
        """Seconds of a call by what its parts take alone; what only moves bytes is the plan's."""
        packing = self.config.packing
        rows, width = packing.rows_per_microbatch, packing.row_tokens
        spent = self.spent
        kept = self.config.model.keep_logits
        logits = rows * self._logits()
        packed = alone(spent, self.cfg, rows, width, width, BLOCKS / 2, logits, kept)
        shapes = self.described.shapes
        columns = shapes.width
        read = alone(spent, self.cfg, shapes.rows, columns, columns, BLOCKS / 2, 0)
        token = alone(spent, self.cfg, self.slots, 1, self._columns(), 1.0, self.slots)
        longest = max(x.size for x in jax.tree.leaves(self.learning.state.params))
        return {
            "score": packed.forward,
            "gradient": packed.forward + packed.again + packed.backward,
            "apply": self.planned(chip)["apply"] * chip.bandwidth / bandwidth(spent, longest),
            "prefill": read.forward,
            "decode": token.forward,
        }

    def _logits(self) -> int:
        """Tokens of a row whose logits are computed: each row has one answer."""
        widths = score.answer_widths(self.config.packing.row_tokens)
        return next(width for width in widths if width >= self.answer)

    def _columns(self) -> int:
        """Of the cache that a token's keys are read from, on average: it has a few sizes."""
        there = [c - 1 for c in self.described.shapes.columns]
        held = range(PROMPT, PROMPT + self.answer)
        return round(statistics.mean(next((c for c in there if c >= n), there[-1]) for n in held))


def _write(folder: Path, sizes: Sizes) -> None:
    """A random Qwen3."""
    raw = models.describe(sizes.vocabulary, **sizes.fields)
    cfg, params = models.draw(raw, 4096)
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(raw))
    hf.save_weights(params, cfg, folder)


def compare(size: Size, rounds: int) -> None:
    """Prints how far the predictions are from what is measured, in pairs."""
    ratios: dict[tuple[str, str], list[float]] = {}
    shares: dict[str, list[float]] = {}
    for _ in range(rounds):
        chip = Chip("cpu", 0.0, peak(size.spent), bandwidth(size.spent), 1.0)
        measured = size.measure()
        for name, seconds in measured.items():
            shares.setdefault(name, []).append(seconds)
        for kind, predicted in (("plan", size.planned(chip)), ("shapes", size.by_shapes(chip))):
            both = [name for name in measured if name in predicted]
            found = {name: measured[name] / predicted[name] for name in both}
            counts = {name: size.calls.get(name, 0) for name in both}
            whole = lambda of, counts=counts: sum(n * of[name] for name, n in counts.items())
            for name, ratio in (found | {"step": whole(measured) / whole(predicted)}).items():
                ratios.setdefault((kind, name), []).append(ratio)
    setting = dict(model=size.name, parameters=count_params(size.cfg), rounds=rounds)
    for name, seconds in shares.items():
        meter.figure(f"roofline.{name}.call", statistics.median(seconds), "s", **setting)
    for (kind, name), found in ratios.items():
        middle = statistics.median(found)
        meter.figure(f"roofline.{name}.{kind}", middle, "measured / predicted", 3, **setting)


def main() -> None:
    parser = options_lib.parser(__doc__)
    parser.add_argument("--sizes", default=",".join(SIZES), help="separated by commas")
    parser.add_argument("--model", type=Path, help="a Hugging Face folder, after the sizes")
    parser.add_argument("--rounds", type=int, default=5, help="pairs of measurements")
    parser.add_argument(
        "--seconds", type=float, default=0.2, help="that each part of a limit is measured, at least"
    )
    options = parser.parse_args()
    spent = functools.partial(mean_of, options.seconds)
    names = [name for name in options.sizes.split(",") if name]
    unknown = set(names) - set(SIZES)
    if unknown:
        parser.error(f"--sizes: {', '.join(sorted(unknown))} is none of {', '.join(SIZES)}")
    if options.model and not (options.model / "config.json").is_file():
        parser.error(f"--model: {options.model} is no Hugging Face folder: it has no config.json")
    output = meter.channel()
    about = dict(device=jax.devices()[0].device_kind, jax=jax.__version__)
    with contextlib.redirect_stdout(output), tempfile.TemporaryDirectory() as folder:
        meter.figure("peak.float32", peak(spent) / 1e9, "Gflop/processor s", **about)
        meter.figure("peak.bfloat16", peak(spent, jnp.bfloat16) / 1e9, "Gflop/processor s", **about)
        meter.figure("bandwidth", bandwidth(spent) / 1e9, "GB/processor s", **about)
        for name in names:
            _write(Path(folder) / name, SIZES[name])
            size = Size(name, Path(folder) / name, SIZES[name], options.overrides, spent)
            compare(size, options.rounds)
        if options.model:
            size = Size(str(options.model), options.model, GIVEN, options.overrides, spent)
            compare(size, options.rounds)


if __name__ == "__main__":
    main()
