"""Questions as a stream of batches: tokenised, filtered, shuffled, sharded by process, resumable (grain). No JAX arrays.

    source --tokenise, drop what is too long, count it--> rows --shuffle every epoch--> shard --batch--> iterator

The iterator's state is a small dict; the checkpoint holds it, so a resumed run sees exactly the questions that it would
have seen. Order depends on the seed alone; process i of n takes rows i, i + n, ... of the shuffled order.
"""

import dataclasses
import hashlib
from collections.abc import Iterator, Sequence

import grain

from sar_jax.errors import UserError
from sar_jax.prompts import Prompter
from sar_jax.tasks.example import Example, Source


@dataclasses.dataclass(frozen=True)
class Row:
    """An example with its prompt's token ids."""
    example: Example
    prompt: Sequence[int]


def prepare(source: Source, prompter: Prompter, max_prompt_tokens: int, name: str, limit: int | None = None,
            ) -> tuple[list[Row], int]:
    """The first `limit` rows whose prompts fit, and how many were too long. Raises `UserError` if none fits."""
    rows: list[Row] = []
    dropped = 0
    for index in range(len(source)):
        example = source[index]
        prompt = prompter.prompt(example.question)
        if len(prompt) > max_prompt_tokens:
            dropped += 1
        else:
            rows.append(Row(example, prompt))
            if len(rows) == limit:
                break
    if not rows:
        raise UserError(f"{name}: all {dropped} prompts are longer than config.data.max_prompt_tokens = "
                        f"{max_prompt_tokens} tokens; raise it (and config.packing.row_tokens)")
    return rows, dropped


def fingerprint(rows: Sequence[Row]) -> str:
    """A hash of all questions and answers in order."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(f"{row.example.question}\0{row.example.answer}\0".encode())
    return digest.hexdigest()


def batches(rows: Sequence, batch: int, seed: int, shard: int = 0, shards: int = 1) -> Iterator[list]:
    """An endless grain iterator over lists of `batch` rows, with get_state() and set_state()."""
    if len(rows) < shards:
        raise UserError(f"{len(rows)} rows cannot be spread over {shards} processes")
    dataset = grain.MapDataset.source(rows).seed(seed).shuffle()[shard::shards].repeat()
    # An endless data set has sys.maxsize rows, which .batch(1) would overflow.
    dataset = dataset.map(lambda row: [row]) if batch == 1 else dataset.batch(batch, batch_fn=list)
    return iter(dataset.to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=2)))
