"""The same with PyTorch and `transformers`: a score and an update as one would write them by hand.

python -m peers.with_torch WORK_AS_JSON
"""

import json
import os
import pathlib
import sys
from collections.abc import Callable, Iterator

import numpy as np
import torch
from transformers import AutoModelForCausalLM

from peers import meter
from peers import work as work_lib
from peers.work import Work


class Program:
    """A model, its optimizer and the work's rows."""

    def __init__(self, work: Work):
        self.work, self.device = work, "cuda" if torch.cuda.is_available() else "cpu"
        self.model = AutoModelForCausalLM.from_pretrained(
            work.model, dtype=getattr(torch, work.dtype), attn_implementation="sdpa"
        ).to(self.device)
        vocabulary = json.loads((pathlib.Path(work.model) / "config.json").read_text())
        rows = work_lib.padded(work, vocabulary["vocab_size"])
        tensor = lambda array: torch.as_tensor(array).to(self.device)
        self.tokens = tensor(np.concatenate([rows.prompts, rows.answers], 1).astype(np.int64))
        self.there = tensor(np.concatenate([rows.prompt_mask, rows.answer_mask], 1))
        self.mask = tensor(rows.answer_mask)
        self.advantages = tensor(work_lib.advantages(work))
        self.optimizer = None
        if work.task in ("update", "step"):
            self.optimizer = torch.optim.AdamW(
                self.model.parameters(),
                lr=work_lib.LEARNING_RATE,
                weight_decay=work_lib.WEIGHT_DECAY,
            )
            if work.recomputes:
                self.model.gradient_checkpointing_enable()

    def parts(self, start: int, stop: int) -> Iterator[slice]:
        """Rows that are computed at once."""
        for first in range(start, stop, self.work.rows):
            yield slice(first, min(first + self.work.rows, stop))

    def logps(self, part: slice) -> torch.Tensor:
        """Logprobs of the answers [rows, A], 0 where there is no token."""
        A, tokens, there = self.mask.shape[1], self.tokens[part], self.there[part]
        whole = bool(there.all())
        out = self.model(
            input_ids=tokens,
            attention_mask=None if whole else there,
            logits_to_keep=A + 1,
            use_cache=False,
        )
        found = torch.log_softmax(out.logits[:, :-1].float(), -1)
        return found.gather(-1, tokens[:, -A:, None])[..., 0] * self.mask[part]

    def score(self) -> float:
        """The sum of all logprobs, in nats."""
        self.model.eval()
        with torch.inference_mode():
            parts = self.parts(0, len(self.tokens))
            return float(sum(self.logps(part).sum() for part in parts))

    def update(self) -> float:
        """Every update of the rows; returns the last one's loss."""
        self.model.train()
        step, low, high = (
            self.work.minibatch * self.work.samples,
            1 - work_lib.CLIP,
            1 + work_lib.CLIP,
        )
        for start in range(0, len(self.tokens), step):
            self.optimizer.zero_grad(set_to_none=True)
            total, divisor = 0.0, step * self.mask.shape[1]
            for part in self.parts(start, start + step):
                logps, advantages = self.logps(part), self.advantages[part, None]
                ratio = torch.exp(logps - logps.detach())
                gain = torch.minimum(ratio * advantages, ratio.clamp(low, high) * advantages)
                gap = work_lib.REFERENCE_LOGP - logps
                kl = torch.exp(gap) - gap - 1
                loss = ((work_lib.KL * kl - gain) * self.mask[part]).sum() / divisor
                loss.backward()
                total += float(loss.detach())
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimizer.step()
        return total

    def rollout(self) -> float:
        """Answers to every prompt; returns their tokens."""
        P, A = self.work.widths
        self.model.eval()
        with torch.inference_mode():
            found = self.model.generate(
                input_ids=self.tokens[:, :P],
                attention_mask=self.there[:, :P],
                do_sample=True,
                top_k=0,
                top_p=1.0,
                max_new_tokens=A,
                eos_token_id=None,
            )
        return float(found.shape[0] * (found.shape[1] - P))

    def __call__(self) -> float:
        """The task; returns the sum of logprobs, or the loss or tokens where nothing else is
        done."""
        tasks = {"score": self.score, "update": self.update, "rollout": self.rollout}
        if self.work.task == "step":
            value = self.score()
            self.update()
        else:
            value = tasks[self.work.task]()
        if self.device == "cuda":
            torch.cuda.synchronize()
        return value


def accelerator() -> meter.Accelerator | None:
    if not torch.cuda.is_available():
        return None
    return meter.Accelerator(torch.cuda.reset_peak_memory_stats, torch.cuda.max_memory_allocated)


def main() -> None:
    output, work = meter.channel(), Work.from_json(sys.argv[1])
    if threads := os.environ.get("OMP_NUM_THREADS"):
        torch.set_num_threads(int(threads))
    call: Callable[[], float] = Program(work)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    meter.serve(output, call, work.warm_ups, device, accelerator())


if __name__ == "__main__":
    main()
