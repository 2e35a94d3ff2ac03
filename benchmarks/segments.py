"""What packed rows ask of attention: blocks that are skipped, and questions that could be shared.

    python benchmarks/segments.py [--config=configs/qwen3_4b.py] [--prompt_tokens=150] [--steps=8]

    python benchmarks/segments.py --rows=16,64,256    how full score's rows are, if those with the
                                                      question and without shared them

One line of JSON a figure, for answers of log-normal lengths whose mean is --answer_tokens. Nothing
is run; arithmetic on segment ids as a run packs them.
"""

import argparse
import json
import runpy

import numpy as np

from sar_jax.model import flops
from sar_jax.model.attention import splash
from sar_jax.planning import estimate, roofline
from sar_jax.rl import packing


def blocks(packed: packing.Packed, config, cfg) -> dict[str, float]:
    """The kernel's pairs of a query and a key with the segments, by those of a row without."""
    ids = packed.segment_ids[(packed.segment_ids > 0).any(axis=1)]
    visited, causal = splash.pairs(ids), splash.pairs(np.ones_like(ids))
    forward = [flops.forward_flops(cfg, 1, pairs / ids.size) for pairs in (visited, causal)]
    return {"pairs": visited / causal, "forward_flops": forward[0] / forward[1]}


def shared(lengths: np.ndarray, prompt: int, width: int) -> int:
    """Rows, if the answers of a question that are in one row shared it. lengths: [Q, M]"""
    sizes = []
    for question in lengths:
        row, *_ = packing._first_fit(question, width - prompt)
        sizes += [prompt + question[row == r].sum() for r in range(row.max() + 1)]
    return rows(np.array(sizes), width)


def filled(lengths: np.ndarray, contexts: tuple[int, ...], config, count: int) -> tuple[int, int]:
    """Tokens and positions of answers after each of these contexts, packed together."""
    answers = [np.zeros(n, np.int32) for _ in contexts for n in lengths.ravel()]
    prompts = [np.zeros(n, np.int32) for n in contexts for _ in range(lengths.size)]
    options = config.packing
    packed, _ = packing.pack(prompts, answers, options.row_tokens, count, options.narrowest)
    parts = packing.microbatches(packed, count, options.narrowest)
    tokens = len(contexts) * int(lengths.sum()) + sum(contexts) * lengths.size
    return tokens, sum(part.tokens.size for part in parts)


def rows(sizes: np.ndarray, width: int) -> int:
    return int(packing._first_fit(sizes, width)[0].max()) + 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="configs/qwen3_4b.py")
    parser.add_argument("--prompt_tokens", type=int, default=150)
    parser.add_argument("--answer_tokens", type=int, default=900)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--rows", default="", help="of a micro-batch, separated by commas")
    options = parser.parse_args()
    config = runpy.run_path(options.config)["get_config"]()
    cfg, rollout, prompt = estimate.read_model(config), config.rollout, options.prompt_tokens
    mu = roofline._log_mean(options.answer_tokens, rollout.max_answer_tokens)
    totals = {}
    rng, found, alone, together = np.random.default_rng(0), [], 0, 0
    for _ in range(options.steps):
        drawn = rng.lognormal(mu, roofline._SIGMA, (rollout.questions, rollout.samples))
        lengths = np.clip(drawn, 1, rollout.max_answer_tokens).round().astype(int)
        for count in map(int, filter(None, options.rows.split(","))):
            both = (prompt, roofline._STANDALONE)
            for how, parts in (("together", [both]), ("apart", [(n,) for n in both])):
                made = np.sum([filled(lengths, part, config, count) for part in parts], axis=0)
                totals[how, count] = totals.get((how, count), 0) + made
        if options.rows:
            continue
        alone += rows(prompt + lengths.ravel(), config.packing.row_tokens)
        together += shared(lengths, prompt, config.packing.row_tokens)
        answers = [np.zeros(n, np.int32) for n in lengths.ravel()]
        context = [np.zeros(prompt, np.int32)] * len(answers)
        packed, _ = packing.pack(context, answers, config.packing.row_tokens, 1)
        found.append(blocks(packed, config, cfg))
    for (how, count), (tokens, positions) in totals.items():
        what = f"filled, {how}, {count} rows a micro-batch"
        print(json.dumps({"what": what, "value": float(tokens / positions)}))
    if options.rows:
        return
    for name in found[0]:
        value = float(np.mean([step[name] for step in found]))
        print(json.dumps({"what": f"{name}, of those without skipping", "value": value}))
    print(json.dumps({"what": "rows, if answers shared a question", "value": together / alone}))


if __name__ == "__main__":
    main()
