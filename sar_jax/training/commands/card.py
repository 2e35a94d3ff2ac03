"""README.md of an exported model, by `huggingface_hub.ModelCard`: where the model comes from, what
it was trained on, results, and how it is asked."""

import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from sar_jax import config as config_lib
from sar_jax.text import tasks
from sar_jax.text.tasks.published import Published
from sar_jax.training.own import rewards as own_rewards
from sar_jax.training.settings import derived

_TEMPLATE = """\
---
{{ card_data }}
---

# {{ name }}, trained with sar_jax

Step {{ step }} of reinforcement learning from `{{ base }}` with the rewards {{ rewards }} on \
`{{ data }}`.
{% if rows %}
Greedy answers to questions of `{{ evaluated }}`:

| step | accuracy, % | mean answer tokens |
|---|---|---|
{% for row in rows -%}
| {{ row.step }} | {{ "%.1f" | format(row.accuracy) }} | {{ "%.1f" | format(row.length) }} |
{% endfor %}
{%- endif %}
The questions were put in this form:

{% if function -%}
- by `{{ function }}`, a function that is not part of this folder
{%- else -%}
- system: {{ system }}
- user: the question, then {{ instruction }}
{%- endif %}

`sar_jax.json` says the same to `sar_jax.explain`, `sar_jax.evaluate` and `sar_jax.train`, with the
limits of prompt and answer and the ids that end an answer.

```python
{{ snippet }}
```

All settings:

```json
{{ settings }}```
"""
_WHOLE = """\
from transformers import pipeline

ask = pipeline("text-generation", model={name!r})
messages = {messages}
print(ask(messages, max_new_tokens={limit})[0]["generated_text"][-1]["content"])"""
_ADAPTER = """\
from peft import AutoPeftModelForCausalLM
from transformers import AutoTokenizer, pipeline

model, tokenizer = (made.from_pretrained({name!r}) for made in (AutoPeftModelForCausalLM, \
AutoTokenizer))
ask = pipeline("text-generation", model=model, tokenizer=tokenizer)
messages = {messages}
print(ask(messages, max_new_tokens={limit})[0]["generated_text"][-1]["content"])"""


def model_card(
    config: config_lib.TrainConfig,
    step: int,
    metrics: Sequence[Mapping[str, float]],
    name: str,
    adapter: bool = False,
) -> str:
    """The text of README.md.

    step      of the checkpoint
    metrics   the lines of the run's metrics.jsonl
    name      under which the model will be found, as the snippet has it
    adapter   are there adapters alone?
    """
    base, rows = config.model.path, _results(step, metrics)
    every = derived.reward_weights(config) | own_rewards.weights(config.rewards.custom)
    weights = {name: weight for name, weight in every.items() if weight}
    snippet = (_ADAPTER if adapter else _WHOLE).format(
        name=name, messages=_messages(config.prompt), limit=config.rollout.max_answer_tokens
    )
    made = ModelCard.from_template(
        _data(config, rows, adapter),
        template_str=_TEMPLATE,
        name=pathlib.PurePath(base).name,
        step=step,
        base=base,
        rewards=", ".join(f"{name} (weight {weight:g})" for name, weight in weights.items()),
        data=config.data.train,
        evaluated=config.data.eval,
        rows=rows,
        function=config.prompt.function,
        system=repr(config.prompt.system),
        instruction=repr(config.prompt.instruction),
        snippet=snippet,
        settings=config_lib.to_json(config),
    )
    return made.content


def _data(
    config: config_lib.TrainConfig, rows: Sequence[Mapping[str, float]], adapter: bool
) -> ModelCardData:
    """The part that the hub reads."""
    base, results = config.model.path, []
    if rows and (evaluated := _hub_ids(config.data.eval)):
        results = [
            EvalResult(
                task_type="text-generation",
                dataset_type=evaluated[0],
                dataset_name=config.data.eval,
                metric_type="accuracy",
                metric_value=round(rows[-1]["accuracy"], 2),
                metric_name="accuracy of greedy answers, %",
            )
        ]
    return ModelCardData(
        base_model=base if _is_id(base) else None,
        datasets=_hub_ids(config.data.train) or None,
        metrics=["accuracy"] if rows else None,
        library_name="peft" if adapter else "transformers",
        pipeline_tag="text-generation",
        tags=["sar_jax", "reinforcement-learning"],
        model_name=pathlib.PurePath(base).name if results else None,
        eval_results=results or None,
    )


def _is_id(path: str) -> bool:
    return path.count("/") == 1 and not path.startswith((".", "/", "~"))


def _hub_ids(data: str) -> list[str]:
    """Of the published data sets in a mix."""
    names = [re.split("[=@:]", part)[0] for part in data.split("+")]
    found = [tasks.TASKS[name] for name in names if name in tasks.TASKS]
    return list(dict.fromkeys(task.id for task in found if isinstance(task, Published)))


def _results(step: int, metrics: Sequence[Mapping[str, float]]) -> list[dict[str, Any]]:
    """The first evaluation and the last one up to the step; none without any."""
    found = [m for m in metrics if "eval/accuracy" in m and m["step"] <= step]
    return [
        {"step": m["step"], "accuracy": 100 * m["eval/accuracy"], "length": m["eval/length"]}
        for m in found[:1] + found[1:][-1:]
    ]


def _messages(prompt: config_lib.Prompt) -> str:
    """A question as the snippet puts it."""
    user = f"What is 2 + 3? {prompt.instruction}".rstrip()
    system = [{"role": "system", "content": prompt.system}] if prompt.system else []
    return repr([*system, {"role": "user", "content": user}])
