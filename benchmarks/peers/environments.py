"""Virtual environments that other projects' packages are installed in, apart from sar_jax's."""

import pathlib
import re
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
}


def python(name: str, folder: pathlib.Path, base: str = "") -> str:
    """The Python of an environment, which is made where it is missing.

    name     of `PACKAGES`; the environment is the folder of this name in `folder`
    base     the Python to make it of; empty: the one that runs this

    Raises CalledProcessError where pip fails.
    """
    found = folder / name / "bin/python"
    if found.exists() and versions(str(found), _names(name)):
        return str(found)
    told = lambda words: subprocess.run(words, check=True, stdout=sys.stderr)
    told([base or sys.executable, "-m", "venv", str(folder / name)])
    told([str(found), "-m", "pip", "install", *PACKAGES[name]])
    return str(found)


def _names(name: str) -> list[str]:
    return [package.partition("==")[0] for package in PACKAGES[name]]


def versions(python: str, packages: list[str]) -> str:
    """The versions of packages that a Python has, in words; "" where one is missing."""
    asks = f"from importlib.metadata import version as v; print([(n, v(n)) for n in {packages}])"
    done = subprocess.run([python, "-c", asks], capture_output=True, text=True)
    return " ".join(re.findall(r"[\w.+-]+", done.stdout)) if done.returncode == 0 else ""


def described(name: str, python: str) -> str:
    """The versions of what a peer's environment was asked to have."""
    return versions(python, _names(name))
