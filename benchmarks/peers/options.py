"""Options that several scripts have."""

import argparse


def parser(doc: str) -> argparse.ArgumentParser:
    """doc: the script's, which `--help` shows."""
    made = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument(
        "--set",
        dest="overrides",
        metavar="FIELD=VALUE",
        action="append",
        default=[],
        help="an option of sar_jax's config, such as packing.rows_per_microbatch=16; may be "
        "repeated",
    )
    return made


def add_sizes(made: argparse.ArgumentParser) -> None:
    """The rows of score and update: every sequence has the same length."""
    add = made.add_argument
    add("--questions", type=int, default=16, help="of score and update, 4 answers each")
    add("--prompt", type=int, default=64, help="tokens of a question of score and update")
    add("--answer", type=int, default=256, help="tokens of an answer of score and update")
    add("--dtype", choices=("float32", "bfloat16"), help="bfloat16, on CPUs float32")
