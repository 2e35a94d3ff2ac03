"""`python -m support.victim MODULE:FUNCTION CALLS ARGUMENTS`: sar_jax.train, which kills itself
(SIGKILL) right after the call of a function of the package that has this number."""

import functools
import importlib
import os
import runpy
import signal
import sys

place, calls, *sys.argv[1:] = sys.argv[1:]
module, _, path = place.partition(":")
owner = importlib.import_module(module)
*parents, name = path.split(".")
for parent in parents:
    owner = getattr(owner, parent)
function, left = getattr(owner, name), int(calls)


@functools.wraps(function)
def deadly(*arguments, **options):
    global left
    result, left = function(*arguments, **options), left - 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
    return result


setattr(owner, name, deadly)
runpy.run_module("sar_jax.train", run_name="__main__", alter_sys=True)
