"""Makes train.parquet and test.parquet, as a table of one's own might be.

python examples/own_data/make_rows.py FOLDER
"""

import pathlib
import random
import sys

import pyarrow as pa
import pyarrow.parquet as pq


def rows(count: int, seed: int) -> list[dict]:
    """Sums of two numbers; the columns have names of their own."""
    draw = random.Random(seed)
    found = []
    for _ in range(count):
        a, b = draw.randint(10, 49), draw.randint(10, 49)
        problem = f"Mia has {a} coins. Mia buys {b} more and then gives away 1. How many coins?"
        found.append({"problem": problem, "result": {"value": a + b - 1}, "level": a % 3})
    return found


if __name__ == "__main__":
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, count, seed in (("train", 400, 0), ("test", 100, 1)):
        pq.write_table(pa.Table.from_pylist(rows(count, seed)), folder / f"{name}.parquet")
        print(f"wrote {folder / name}.parquet")
