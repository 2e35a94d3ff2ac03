"""Questions as a stream of batches (grain): tokenised, filtered, shuffled, sharded, resumable.

    source --drop what the evaluation set holds--> --drop prompts that are too long--> rows
    rows --shuffle every epoch--> shard --batch--> iterator

No JAX arrays. The iterator's state is a small dict; the checkpoint holds it, so a resumed run sees
exactly the questions that it would have seen. Order depends on the seed alone; process i of n takes
rows i, i + n, ... of the shuffled order.
"""

import hashlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import grain

from sar_jax.config import Data, Verification
from sar_jax.errors import UserError
from sar_jax.text import tasks
from sar_jax.text.answers import chosen, truths
from sar_jax.text.prompts import Prompter, Question, Unasked
from sar_jax.text.tasks import mix
from sar_jax.text.tasks.example import Columns, Example, Source

_AT_ONCE = 4096  # rows whose prompts are made together


class Prepared(NamedTuple):
    """Rows whose prompts fit, and how many were left out because theirs are too long."""

    rows: list[Question]
    left_out: int


def prepare(
    source: Source,
    prompter: Prompter,
    max_prompt_tokens: int,
    name: str,
    limit: int | None = None,
    later: bool = False,
) -> Prepared:
    """The first `limit` rows whose prompts fit.

    name    of the source, for messages
    later   not all of them will be asked: a prompt whose text is so short that it fits whatever its
            tokens are is encoded when its question is first asked

    Raises `UserError` if none fits, and for a row of which no prompt can be made.
    """
    rows: list[Question] = []
    dropped = start = 0
    short = max_prompt_tokens if later else 0
    while start < len(source) and len(rows) != limit:
        count = _AT_ONCE if limit is None else min(limit - len(rows), _AT_ONCE)
        examples = [source[i] for i in range(start, min(start + count, len(source)))]
        start += len(examples)
        asked, columns = [e.question for e in examples], [e.row() for e in examples]
        for example, prompt in zip(examples, prompter.prompts(asked, columns, short)):
            if prompt is None:
                rows.append(Unasked(example, prompter.prompt))
            elif len(prompt) > max_prompt_tokens:
                dropped += 1
            else:
                rows.append(Question(example, prompt))
    if not rows:
        raise UserError(
            f"{name}: all {dropped} prompts are longer than config.data.max_prompt_tokens = "
            f"{max_prompt_tokens} tokens; raise it (and config.packing.row_tokens)"
        )
    return Prepared(rows, dropped)


class Stated(NamedTuple):
    """Examples whose truth states an answer, and how many were left out because theirs does not."""

    examples: list[Example]
    left_out: int


def stated(
    source: Source, name: str, share: float, verification: Verification | None = None
) -> Stated:
    """The examples whose truth states something that an answer can equal.

    name           of the source, for messages
    share          of a user's own rows that may be left out; of published sets, any
    verification   says how answers are compared; a function may compare with anything

    Raises `UserError` with file and line of the first one where there are more.
    """
    verification = verification or Verification()
    every = [source[index] for index in range(len(source))]
    _check_truths(every, verification)
    states = lambda e: truths.states(e.answer, chosen.compares(verification, e.kind))
    kept = [e for e in every if states(e)]
    own = [e for e in every if e.place and not states(e)]
    if len(own) > share * len(every):
        raise UserError(
            f"{own[0].place}: no answer can be equal to the answer {own[0].answer[:60]!r} "
            f"({len(own)} of {len(every)} rows of {name} are like that): correct these rows or "
            "take them out, or have a share of them left out (config.data.unstated_share)"
        )
    if not kept:
        raise UserError(f"{name}: no row states an answer")
    return Stated(kept, len(every) - len(kept))


def _check_truths(examples: Sequence[Example], verification: Verification) -> None:
    """That the truths can be compared as `verification.verifier` wants it for all rows."""
    for example in examples:
        try:
            chosen.check_truth(verification, example)
        except ValueError as error:
            raise UserError(
                f"{example.place or example.id}: the answer {example.answer!r:.60} {error}, and "
                f"config.verification.verifier is {verification.verifier}"
            ) from None


def columns(config: Data) -> Columns:
    """Which fields of a user's own rows are read."""
    return Columns(config.question_field, config.answer_field, config.kind_field)


def load(
    config: Data, prompter: Prompter, verification: Verification | None = None
) -> tuple[list[Question], list[Question]]:
    """A run's training and evaluation rows; prints how many, and what was left out.

    Training rows whose question is in the evaluation set are taken out: in all of it, not only in
    the `eval_questions` that the run asks, since the rest of it is asked later. Raises `UserError`.
    """
    share = config.unstated_share
    source = tasks.load(config.train, "train", columns(config))
    train = stated(source, config.train, share, verification)
    test = Stated([], 0)
    if config.eval:
        source = tasks.load(config.eval, "test", columns(config))
        test = stated(source, config.eval, share, verification)
    kept, shared = mix.decontaminate(train.examples, [test.examples])
    if not kept:
        raise UserError(
            f"{config.train}: every question is also in the evaluation set {config.eval}, so none "
            "is left to train on; give other questions as config.data.eval, or none "
            "(--config.data.eval=)"
        )
    longest = config.max_prompt_tokens
    too_long = f"their prompts are longer than {longest} tokens"
    found = prepare(kept, prompter, longest, config.train, later=True)
    shared_too = (shared, f"they are in {config.eval}")
    unstated = "their answer states nothing that another can equal"
    reasons = [(train.left_out, unstated), shared_too, (found.left_out, too_long)]
    _tell("train", config.train, found.rows, reasons)
    if not test.examples:
        return found.rows, []
    evaluated = prepare(test.examples, prompter, longest, config.eval, config.eval_questions)
    reasons = [(test.left_out, unstated), (evaluated.left_out, too_long)]
    _tell("test", config.eval, evaluated.rows, reasons)
    return found.rows, evaluated.rows


def repeated(rows: int, questions: int) -> str:
    """What is to be said where a step asks more questions than there are rows; else empty."""
    if rows >= questions:
        return ""
    return (
        f"warning: config.rollout.questions is {questions}, and there are {rows}: each step asks "
        "some of them more than once, as groups of their own"
    )


def _tell(
    split: str, name: str, rows: Sequence[Question], left_out: Sequence[tuple[int, str]]
) -> None:
    reasons = "".join(f"; {count} left out because {why}" for count, why in left_out if count)
    print(f"{split}: {len(rows)} questions from {name}{reasons}", flush=True)


def fingerprint(rows: Sequence[Question]) -> str:
    """A hash of all questions and answers in order."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(f"{row.example.question}\0{row.example.answer}\0".encode())
    return digest.hexdigest()


def batches(
    rows: Sequence, batch: int, seed: int, shard: int = 0, shards: int = 1
) -> Iterator[list]:
    """An endless grain iterator over lists of `batch` rows, with get_state() and set_state()."""
    if len(rows) < shards:
        raise UserError(f"{len(rows)} rows cannot be divided among {shards} processes")
    # Repeated before it is divided, so that the shards' batches together are the batches of one
    # process, in every epoch.
    dataset = grain.MapDataset.source(rows).seed(seed).shuffle().repeat()[shard::shards]
    # An endless data set has sys.maxsize rows, which .batch(1) would overflow.
    dataset = dataset.map(lambda row: [row]) if batch == 1 else dataset.batch(batch, batch_fn=list)
    return iter(dataset.to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=2)))
