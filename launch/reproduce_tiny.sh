#!/usr/bin/env bash
# The paper's comparisons in miniature: every method on the tiny model, several seeds, on this machine's CPU.
#
#     launch/reproduce_tiny.sh [OUTPUT] [-- --config.any.field=value ...]
#
# Writes table.md, pareto.png and curves.png into OUTPUT (runs/reproduce_tiny). Started again with
# the same OUTPUT it goes on.
# Variables: SEEDS (3), VARIANTS (all but alpha 1; names in benchmarks/reproduce.py), PARALLEL (runs
# at a time, 2), PYTHON (python).
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
output=runs/reproduce_tiny
if [[ $# -gt 0 && $1 != -- ]]; then
    output=$1
    shift
fi
[[ ${1:-} == -- ]] && shift
export JAX_PLATFORMS=cpu
# Huge pages make a step 8 to 27 % faster where the C library can (docs/performance.md).
export GLIBC_TUNABLES=${GLIBC_TUNABLES:-glibc.malloc.hugetlb=1}
# The runs compute the same functions: each is compiled once.
mkdir -p "$output"
export JAX_COMPILATION_CACHE_DIR=${JAX_COMPILATION_CACHE_DIR:-$(cd "$output" && pwd)/compiled}
export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0
# Half the steps of configs/tiny.py at a slightly higher rate: all of it takes 80 minutes on two cores.
exec "${PYTHON:-python}" "$ROOT/benchmarks/reproduce.py" --output="$output" --seeds="${SEEDS:-3}" \
    --parallel="${PARALLEL:-2}" ${VARIANTS:+--variants="$VARIANTS"} -- --config.steps=24 --config.optimizer.lr=3.2e-4 \
    --config.optimizer.warmup_updates=10 --config.critic.lr=6.4e-4 --config.evaluation.every_steps=12 \
    --config.checkpoint.every_steps=12 "$@"
