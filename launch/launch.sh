#!/usr/bin/env bash
# One front for the three launch scripts: the same commands, on what the variables ask for.
#
#     launch/launch.sh create | install | run | logs | fetch | status | stop | delete ...
#
# With CLUSTER it is launch/gke.sh; else, for an ACCELERATOR that TPU VMs do not have, launch/gce.sh; else launch/tpu_vm.sh.
# Each describes its commands and variables with --help.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
script=tpu_vm
if [[ ${CLUSTER:-} ]]; then
    script=gke
elif [[ ${ACCELERATOR:-} ]]; then
    # a name that is none is an error of the script's
    found=$("${PYTHON:-python3}" -I "$ROOT/sar_jax/parallel/slices.py" "$ACCELERATOR" 2>/dev/null) || found=tpu_vm
    if [[ ${found##* } != *tpu_vm* ]]; then script=gce; fi
fi
exec "$ROOT/launch/$script.sh" "$@"
