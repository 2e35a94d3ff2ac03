#!/usr/bin/env bash
# Puts what a worker needs into a folder, and prints the folder: this clone as a wheel, the pinned versions, the configs.
#
#     launch/wheel.sh FOLDER        -> FOLDER/VERSION/sar_jax_run
#
# VERSION is that of sar_jax with the commit, and where the clone differs from the commit a hash of the difference. So one
# name is always the same code, and a wheel that is there is not built again. PYTHON builds it (default: python3).
set -euo pipefail

fail() { echo "error: $*" >&2; exit 2; }

[[ $# == 1 ]] || fail "usage: launch/wheel.sh FOLDER"
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
PARTS=(setup.py pyproject.toml README.md LICENSE sar_jax configs launch/constraints.txt launch/worker.sh)
mkdir -p "$1"
out=$(cd "$1" && pwd)
cd "$ROOT"

commit=$(git rev-parse -q --verify --short=12 HEAD 2>/dev/null) || fail "$ROOT is not a clone of the git repository"
nothing=$(git hash-object --stdin </dev/null)
changes=$({
    git diff HEAD -- "${PARTS[@]}"
    git ls-files -o --exclude-standard -z -- "${PARTS[@]}" |
        while IFS= read -r -d '' file; do echo "$file"; cat "$file"; done
} | git hash-object --stdin)
version=$(sed -n 's/^__version__ = "\(.*\)"/\1/p' sar_jax/__init__.py)+g$commit
if [[ $changes != "$nothing" ]]; then version+=.d${changes:0:8}; fi

folder=$out/$version/sar_jax_run
wheel=sar_jax-$version-py3-none-any.whl
if [[ ! -f $folder/$wheel ]]; then
    copy=$out/$version/source
    rm -rf "$copy" "$folder"
    mkdir -p "$copy" "$folder"
    cp -R "${PARTS[@]}" "$copy"
    sed "s/^__version__ = .*/__version__ = \"$version\"/" sar_jax/__init__.py >"$copy/sar_jax/__init__.py"
    mv "$copy/configs" "$copy/constraints.txt" "$copy/worker.sh" "$folder"
    "${PYTHON:-python3}" -m pip wheel -q --no-deps --wheel-dir "$copy" "$copy" >"$out/$version/build.log" 2>&1 ||
        fail "the wheel cannot be built, see $out/$version/build.log"
    mv "$copy/$wheel" "$folder" || fail "the wheel is not called $wheel, see $copy"
    rm -rf "$copy"
fi
echo "$folder"
