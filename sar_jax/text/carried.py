"""How a model was asked while it learnt: sar_jax.json, a file that its folder carries.

Its answers are as probable as they are only after the prompts that it was trained with: `explain`,
`evaluate` and `train` ask a model that has such a file as the file says. No JAX.
"""

import dataclasses
import datetime
import json
import pathlib

from etils import epath

from sar_jax.config import Prompt, from_dict
from sar_jax.errors import UserError

NAME = "sar_jax.json"
_EXAMPLES = "sar_jax_examples.jsonl"  # of prompt.examples, beside it


@dataclasses.dataclass(frozen=True)
class Carried:
    """prompt: its settings; the limits are in tokens.

    stops   ids that end an answer
    day     that templates which ask for the date were given; None where it is each time today's
    """

    prompt: Prompt
    max_prompt_tokens: int
    max_answer_tokens: int
    stops: list[int]
    day: datetime.date | None

    def asked(self, prompt: Prompt) -> Prompt:
        """What is asked for where a config wants `prompt`: its own settings, and these in place of
        its defaults.

        Raises `UserError` where a function made the prompts: a folder may come from anywhere, and
        does not choose what runs here.
        """
        default, own = Prompt(), vars(prompt)
        if self.prompt.function and not prompt.function:
            raise UserError(
                f"the model's prompts were made by a function, {self.prompt.function}, which its "
                f"folder ({NAME}) does not hold: give yours in a config as prompt.function"
            )
        wanted = {name: value for name, value in own.items() if value != getattr(default, name)}
        return dataclasses.replace(self.prompt, **wanted)


def write(folder: pathlib.Path, carried: Carried) -> None:
    """Writes the file into a model's folder, and the worked examples beside it."""
    fields = dataclasses.asdict(carried)
    if carried.prompt.examples:
        examples = epath.Path(carried.prompt.examples).expanduser().read_bytes()
        (folder / _EXAMPLES).write_bytes(examples)
        fields["prompt"]["examples"] = _EXAMPLES
    fields["day"] = carried.day.isoformat() if carried.day else None
    (folder / NAME).write_text(json.dumps(fields, indent=2, ensure_ascii=False) + "\n")


def read(folder: str | pathlib.Path) -> Carried | None:
    """What a model's folder carries; None for nothing. Raises `UserError` where it is damaged."""
    path = pathlib.Path(folder) / NAME
    if not path.is_file():
        return None
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        day = fields["day"]
        limits = [fields[name] for name in ("max_prompt_tokens", "max_answer_tokens")]
        numbers = [*limits, *fields["stops"]]
        if not all(type(x) is int and x >= 0 for x in numbers) or 0 in limits:
            raise ValueError("limits and stops are whole numbers")
        prompt = from_dict(Prompt, fields["prompt"])
        if prompt.examples:
            prompt = dataclasses.replace(prompt, examples=str(path.parent / _EXAMPLES))
        return Carried(
            prompt, *limits, fields["stops"], datetime.date.fromisoformat(day) if day else None
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, UserError) as error:
        raise UserError(
            f"{path}: it must say how the model was asked, as sar_jax.export writes it "
            f"({type(error).__name__}: {error}); put it back, or delete it and give --config"
        ) from None


def stops(folder: str | pathlib.Path) -> list[int]:
    """The ids that end an answer, as a model's folder carries them; maybe none."""
    found = read(folder)
    return found.stops if found else []
