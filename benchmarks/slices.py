"""Every shipped config on TPU slices, by the TPU compiler: the tables of docs/slices.md.

    python benchmarks/slices.py --output=slices.json [--only=qwen3_4b] [--topologies=v6e:2x4]

Needs `pip install libtpu` and, for all of it, 20 minutes of two cores. Prints Markdown.
"""

import argparse
import json
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parent.parent
# and config.mesh.data: so many groups of chips hold all parameters each; on a large slice less is
# sent then
SLICES = {
    "qwen3_4b": {"v6e:2x4": 1, "v5e:4x4": 1, "v5p:4x4x4": 4, "v5e:16x16": 4},
    "qwen3_1p7b": {"v5e:2x4": 1, "v5p:2x2x2": 1, "v6e:8x8": 4},
    "phi35_mini": {"v6e:2x4": 1, "v5p:2x2x2": 1, "v5e:8x8": 2},
    "gemma3_1b": {"v5e:2x4": 1, "v5p:2x2x2": 1, "v6e:8x8": 4},
}


def plan(config: str, topology: str, data: int) -> dict:
    """The figures of one slice, made in a process of its own."""
    file = pathlib.Path(f".{config}.{topology.replace(':', '-')}.json").absolute()
    command = [
        sys.executable,
        "-m",
        "sar_jax.plan",
        f"--config={ROOT}/configs/{config}.py",
        f"--topology={topology}",
        f"--config.mesh.data={data}",
        f"--json={file}",
    ]
    try:
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        found = json.loads(file.read_text())
    finally:
        file.unlink(missing_ok=True)
    return {
        "config": config,
        "data": data,
        "jax": found["jax"],
        "libtpu": found["libtpu"],
        **found["slices"][0],
    }


def markdown(found: list[dict]) -> str:
    """One table; GiB a chip; sent: by a chip in a micro-batch of the update, in bfloat16 copies of
    the model."""
    gib = lambda size: "too much" if size is None else f"{size / 2**30:.1f}"
    lines = [
        "| config | slice | chips | decode | score | update | usable | fits | sent | s a step "
        "| tokens/s | chip-hours |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for f in found:
        p = f["programs"]
        totals = {name: p[name]["total"] for name in p}
        decoder = [totals[n] for n in ("prefill", "insert", "decode", "shrink") if n in p]
        decode = None if None in decoder else max(decoder)
        updates = (totals["gradient"], totals["apply"])
        update = None if None in updates else max(updates)
        fits = None not in totals.values() and max(totals.values()) <= f["hbm"]
        large = f", data={f['data']}" if f["data"] > 1 else ""
        # not known where the program is too large, or jax cannot print it
        bytes_sent = p["gradient"]["sent"]
        sent = "?" if bytes_sent is None else f"{bytes_sent / f['parameters'] / 2:.1f}"
        lines.append(
            f"| {f['config']} | {f['topology']}{large} | {f['chips']} | {gib(decode)} | "
            f"{gib(totals['score'])} | {gib(update)} | {gib(f['hbm'])} | "
            f"{'yes' if fits else 'no'} | {sent} | {f['step_seconds']:.0f} | "
            f"{f['tokens_per_second']:.0f} | {f['chip_hours']:.0f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--output",
        type=pathlib.Path,
        required=True,
        help="JSON file; what it holds is not made again",
    )
    parser.add_argument("--only", help="one config")
    parser.add_argument("--topologies", help="instead of the config's own; separated by commas")
    options = parser.parse_args()
    found = json.loads(options.output.read_text()) if options.output.is_file() else []
    for config, topologies in SLICES.items():
        if options.only not in (None, config):
            continue
        for topology in options.topologies.split(",") if options.topologies else topologies:
            data = topologies.get(topology, 1)
            if not any((f["config"], f["topology"]) == (config, topology) for f in found):
                found.append(plan(config, topology, data))
                options.output.write_text(json.dumps(found, indent=1) + "\n")
    print(markdown(found))


if __name__ == "__main__":
    main()
