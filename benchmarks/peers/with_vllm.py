"""Rollout with vLLM, where it is installed: it needs a GPU.

python -m peers.with_vllm WORK_AS_JSON
"""

import json
import os
import pathlib
import sys

from peers import meter
from peers import work as work_lib
from peers.work import Work

# Its engine runs in this process, whose memory is counted.
os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")


class Program:
    """A model and the work's prompts."""

    def __init__(self, work: Work):
        from vllm import LLM, SamplingParams

        vocabulary = json.loads((pathlib.Path(work.model) / "config.json").read_text())
        found = work_lib.sequences(work, vocabulary["vocab_size"])
        self.prompts = [{"prompt_token_ids": prompt.tolist()} for prompt in found.prompts]
        P, A = work.widths
        self.model = LLM(
            work.model,
            dtype=work.dtype,
            skip_tokenizer_init=True,
            max_model_len=P + A,
            gpu_memory_utilization=0.5,  # other programs wait on the same GPU
        )
        self.sampling = SamplingParams(
            n=work.samples, temperature=1.0, max_tokens=A, ignore_eos=True, detokenize=False
        )

    def __call__(self) -> float:
        """Answers to every prompt; returns their tokens."""
        found = self.model.generate(self.prompts, self.sampling, use_tqdm=False)
        return float(sum(len(o.token_ids) for request in found for o in request.outputs))


def main() -> None:
    output, work = meter.channel(), Work.from_json(sys.argv[1])
    import torch

    used = meter.Accelerator(torch.cuda.reset_peak_memory_stats, torch.cuda.max_memory_allocated)
    device = torch.cuda.get_device_name()
    meter.serve(output, Program(work), work.warm_ups, device, used)


if __name__ == "__main__":
    main()
