"""How many answers a second the verifier checks: worked GSM8K-like solutions, LaTeX answers, and
with one that hangs.

    python benchmarks/verifier.py [--workers=2] [--data=DIR/gsm8k/train.jsonl]

Ordinary answers are lines of `solution` and `answer` from the file, else generated ones of the same
form. Prints a table."""

import argparse
import json
import pathlib
import random
import time

from sar_jax.text.answers.verifier import Item, Outcome, Verifier

TIMEOUT = 5.0


def ordinary(file: pathlib.Path | None, count: int) -> list[Item]:
    """Solutions of some lines each, with their own truth or, every second one, another."""
    if file:
        rows = [json.loads(line) for line in file.read_bytes().split(b"\n") if line]
        rows = [(row["solution"], row["answer"]) for row in rows]
    else:
        draw = random.Random(0)
        rows = []
        for _ in range(count):
            a, b, c = (draw.randrange(2, 2000) for _ in range(3))
            line = (
                f"First there are {a} + {b} = <<{a}+{b}={a + b}>>{a + b} of them, "
                f"and {c} more make {a + b + c}.\n"
            )
            rows.append((4 * line + f"#### {a + b + c:,}", str(a + b + c)))
    pairs = [(rows[i % len(rows)][0], rows[(i + i % 2) % len(rows)][1]) for i in range(count)]
    return [Item(text, truth) for text, truth in pairs]


def latex(count: int) -> list[Item]:
    """Boxed expressions, all different, of five forms; every second one is right."""
    forms = [
        (r"{a}\sqrt{{{b}}}", r"\sqrt{{{aab}}}"),
        (r"\frac{{{a}\pi}}{{{b}}}", r"{a}\pi/{b}"),
        (r"(x+{a})^2+{b}", r"x^2+{aa}x+{sab}"),
        (r"\left[{a},{b}+{a}\right)", r"[{a},{ab})"),
        (r"\{{{a},-{b},\sqrt{{2}}\}}", r"\{{\sqrt{{2}},{a},-{b}\}}"),
    ]
    items = []
    for i in range(count):
        given, truth = forms[i % len(forms)]
        a, b = i // len(forms) + 2, i % 97 + 2
        values = dict(b=b, aab=a * a * b, aa=2 * a, sab=a * a + b, ab=a + b)
        items.append(
            Item(
                rf"So it is \boxed{{{given.format(a=a + i % 2, **values)}}}.",
                truth.format(a=a, **values),
            )
        )
    return items


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--data", type=pathlib.Path)
    options = parser.parse_args()
    hanging = Item(r"\boxed{9^{9^{9^{9}}}}", r"\sqrt{2}")
    print("| answers | number | seconds | answers/s | right | errors |\n|---|---|---|---|---|---|")
    with Verifier(options.workers, TIMEOUT) as verifier:
        verifier.check(latex(4 * options.workers))  # the processes have started
        for name, items in (
            ("ordinary", ordinary(options.data, 5000)),
            ("LaTeX", latex(1000)),
            ("95 % ordinary, 5 % LaTeX", ordinary(options.data, 1900) + latex(100)),
            ("the same, 2 of them hang", ordinary(options.data, 1898) + latex(100) + 2 * [hanging]),
        ):
            start = time.perf_counter()
            outcomes = verifier.check(items)
            seconds = time.perf_counter() - start
            print(
                f"| {name} | {len(items)} | {seconds:.2f} | {len(items) / seconds:,.0f} | "
                f"{outcomes.count(Outcome.RIGHT)} | {outcomes.count(Outcome.ERROR)} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
