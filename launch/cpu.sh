#!/usr/bin/env bash
# Runs a command of the project on virtual CPU devices: what a slice of DEVICES chips would do, on one machine, slowly.
#
#     launch/cpu.sh --config=configs/tiny.py [--config.any.field=value]     python -m sar_jax.train, on 8 devices
#     launch/cpu.sh pretrain --config=configs/tiny_pretrain.py ...          another command: python -m sar_jax.pretrain
#     DEVICES=4 launch/cpu.sh --config=configs/tiny.py --config.mesh.tensor=2
#
# PYTHON is the interpreter (default: python). Row counts of the config have to be multiples of mesh.data * mesh.fsdp.
set -euo pipefail

DEVICES=${DEVICES:-8}
if ! [[ $DEVICES =~ ^[1-9][0-9]*$ ]]; then
    echo "error: DEVICES is '$DEVICES': it must be a positive number" >&2
    exit 2
fi
command=train
if [[ ${1:-} =~ ^[a-z_]+$ ]]; then
    command=$1
    shift
fi

# Eight devices share few cores, so one may be late at a collective for longer than the 40 s after which XLA gives up.
export JAX_PLATFORMS=cpu
export XLA_FLAGS="${XLA_FLAGS:-} --xla_force_host_platform_device_count=$DEVICES \
--xla_cpu_collective_call_warn_stuck_timeout_seconds=300 --xla_cpu_collective_call_terminate_timeout_seconds=3600"
exec "${PYTHON:-python}" -m "sar_jax.$command" "$@"
