"""What has to be set before JAX is imported: the CPU as eight devices, quick compilation, one
folder of compiled programs."""

import atexit
import os
import shutil
import tempfile
from importlib import metadata

# What one test or command compiled the next one reads; the processes of pytest-xdist inherit the
# first one's folder.
if "SAR_JAX_TEST_CACHE" not in os.environ:
    os.environ["SAR_JAX_TEST_CACHE"] = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, os.environ["SAR_JAX_TEST_CACHE"], ignore_errors=True)
CACHE = {
    "JAX_COMPILATION_CACHE_DIR": os.environ["SAR_JAX_TEST_CACHE"],
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
}
os.environ |= CACHE | {"JAX_PLATFORMS": "cpu"}
# Compiling takes most of the time of these tests, and half of it is LLVM's, which knows nothing of
# what they test. Some commands are given this too; the others optimize as users' do.
XLA_QUICK = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
XLA_QUICK += " --xla_cpu_parallel_codegen_split_count=1"  # parts cost more than they are quick
# compiles fusions three times as fast; later ones have one way only
if metadata.version("jaxlib").startswith("0.10."):
    XLA_QUICK += " --xla_cpu_use_fusion_emitters=false"
os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count=8 {XLA_QUICK}"
# the threads of torch wait for each other by counting, on the cores that other workers need
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = os.path.join(
    os.environ["SAR_JAX_TEST_CACHE"], "hypothesis"
)
