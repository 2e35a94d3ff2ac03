"""Shared by all tests: the CPU as eight devices, and tiny random Hugging Face models as the oracle."""

import os

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import pathlib  # noqa: E402
import subprocess  # noqa: E402
import sys  # noqa: E402

import jax  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402

from sar_jax import hf, model, sharding  # noqa: E402
from sar_jax.config import Prompt  # noqa: E402
from sar_jax.prompts import Prompter, load_tokenizer  # noqa: E402
from sar_jax.tasks import arithmetic  # noqa: E402
from sar_jax.tokenizer import train_tokenizer  # noqa: E402

ROOT = pathlib.Path(__file__).parent.parent


def make_hf_folder(folder: pathlib.Path, seed: int = 0, **overrides) -> pathlib.Path:
    """A random Qwen3 model by `transformers` itself, with a tokenizer; odd sizes and odd values on purpose."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    source = arithmetic.Arithmetic("train")
    texts = [text for i in range(300) for text in (source[i].question, source[i].solution, "system user assistant")]
    tokenizer = train_tokenizer(texts, 320, 512)
    settings = dict(vocab_size=len(tokenizer), hidden_size=48, num_hidden_layers=3, num_attention_heads=6,
                    num_key_value_heads=2, head_dim=10, intermediate_size=56, rope_parameters={
                        "rope_type": "default", "rope_theta": 777.0}, rms_norm_eps=3e-5, tie_word_embeddings=True,
                    max_position_embeddings=512, eos_token_id=tokenizer.eos_token_id)
    torch.manual_seed(seed)
    network = Qwen3ForCausalLM(Qwen3Config(**settings | overrides))
    for name, p in network.named_parameters():   # gains other than one, weights large enough to matter
        p.data = 1 + 0.3 * torch.randn_like(p) if "norm" in name else 0.15 * torch.randn_like(p)
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def hf_folder(tmp_path_factory) -> pathlib.Path:
    return make_hf_folder(tmp_path_factory.mktemp("hf") / "model")


@pytest.fixture(scope="session")
def torch_model(hf_folder):
    from transformers import AutoModelForCausalLM
    return AutoModelForCausalLM.from_pretrained(hf_folder).eval()


@pytest.fixture(scope="session")
def mesh():
    """One device."""
    return sharding.make_mesh(1, 1, 1, jax.devices()[:1])


class Loaded:
    """The random model as ours: cfg, params on one device, graphdef in float32, prompter, stop ids."""

    def __init__(self, folder: pathlib.Path, mesh):
        self.folder, self.mesh = folder, mesh
        self.cfg = hf.load_config(folder)
        self.params = hf.load_params(folder, self.cfg, sharding.param_shardings(model.param_specs(self.cfg), mesh))
        self.graphdef = model.build(self.cfg, "float32", remat=True)
        self.tokenizer = load_tokenizer(str(folder))
        self.prompter = Prompter(self.tokenizer, Prompt())
        self.stop = (self.tokenizer.eos_token_id,)


@pytest.fixture(scope="session")
def loaded(hf_folder, mesh) -> Loaded:
    return Loaded(hf_folder, mesh)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def run_command(*arguments: str, timeout: float = 300, **environment: str) -> subprocess.CompletedProcess:
    """`python -m sar_jax.<...>` as a user runs it, on one CPU device."""
    env = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"} | {"COLUMNS": "200"} | environment
    return subprocess.run([sys.executable, "-m", *arguments], cwd=ROOT, env=env, capture_output=True, text=True,
                          timeout=timeout)
