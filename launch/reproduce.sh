#!/usr/bin/env bash
# The paper's comparisons on a real model: trains every method, evaluates each on the seven benchmarks, compares them all.
#
#     launch/reproduce.sh MODEL OUTPUT [-- --config.any.field=value ...]
#
# MODEL: qwen3_1p7b, qwen3_4b, phi35_mini or gemma3_1b (configs/MODEL.py; PPO and SA-PPO where configs/MODEL_ppo.py exists).
# OUTPUT: a folder for workdirs, results, table.md and comparison/. Runs on one TPU host (v5e-8, v6e-8), one method after the
# other; `python -m sar_jax.plan` says how long each takes. Started again with the same OUTPUT it goes on.
# Variables: SEEDS (1), VARIANTS (names in benchmarks/reproduce.py), TASKS (the seven), PYTHON (python).
# Not run on a TPU yet.
set -euo pipefail

if [[ $# -lt 2 || $1 == --help ]]; then
    sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0" >&2
    exit 2
fi
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
model=$1 output=$2
shift 2
[[ ${1:-} == -- ]] && shift
if ! [[ -f $ROOT/configs/$model.py ]]; then
    echo "error: configs/$model.py does not exist; there are: $(cd "$ROOT/configs" && echo *.py)" >&2
    exit 2
fi
variants=${VARIANTS:-GRPO,GRPO-O1,GRPO-ER,SA-GRPO,R_SA alone,R_EM alone,R_VR + R_EM}
if [[ -z ${VARIANTS:-} && -f $ROOT/configs/${model}_ppo.py ]]; then
    variants="PPO,SA-PPO,$variants"
fi
exec "${PYTHON:-python}" "$ROOT/benchmarks/reproduce.py" --model="$model" --output="$output" --seeds="${SEEDS:-1}" \
    --variants="$variants" --tasks="${TASKS:-gsm8k,math,numina,gsm_symbolic,aime,logicbench,prontoqa}" -- "$@"
