#!/usr/bin/env bash
# What the launch scripts do on each worker of a slice. It is copied there, to ~/sar_jax_run, together with the wheel.
#
#     worker.sh look                  one line: running, or how the last run ended, and what is installed
#     worker.sh install               a virtual environment with the wheel and the pinned versions
#     worker.sh start COMMAND ...     starts sar_jax.COMMAND apart from this session: run.log, exit status in `status`.
#                                     PEERS=N: one of N processes, which find each other by the machine's metadata.
#                                     ALONE=yes: one process, on the chips of this machine of a larger slice
#     worker.sh stop TERM|KILL        TERM: sar_jax saves and exits
#     worker.sh variables FILE        checks a file of NAME=value lines, as `start` does with ./env
#
# A run holds a lock on the file `lock` as long as one of its processes lives. So neither a reboot nor a process id that
# is used again can be taken for a run. Looking takes the lock shared: looks do not disturb each other.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

say() { echo "$(hostname): $*"; }
running() { touch lock && ! flock -n -s lock true; }

# variables FILE [export]: the lines are data, and no shell reads them: quotes, blanks, $ and ` are part of a value. Empty
# lines and those that begin with # say nothing. A value is never printed.
variables() {
    local line name value number=0
    while IFS= read -r line || [[ $line ]]; do
        number=$((number + 1))
        line=${line%$'\r'}
        if [[ $line =~ ^[[:blank:]]*(#|$) ]]; then continue; fi
        name=${line%%=*} value=${line#*=}
        if [[ $line != *=* || ! $name =~ ^[A-Za-z_][A-Za-z0-9_]*$ ]]; then
            echo "error: ENV_FILE, line $number: not NAME=value (NAME: letters, digits and _; no blank, no 'export')" >&2
            return 2
        fi
        if [[ $value == \"*\" || $value == \'*\' ]]; then
            echo "note: ENV_FILE, line $number: the quotes are part of the value of $name" >&2
        fi
        # some names are bash's own
        if ! (export "$name=$value") 2>/dev/null; then
            echo "error: ENV_FILE, line $number: $name cannot be set" >&2
            return 2
        fi
        if [[ ${2:-} ]]; then export "$name=$value"; fi
    done <"$1"
}

look() {
    local run="no run yet"
    if running; then
        run=running
    elif [[ -f status ]]; then
        run="ended with status $(cat status)"
    elif [[ -f pid ]]; then
        run="ended without a status (killed, or the machine restarted)"
    fi
    say "$run; installed $(cat installed 2>/dev/null || echo nothing)"
}

install() {
    if running; then say "a run is under way"; exit 75; fi
    local wheel python
    rm -f installed
    wheel=$(ls ./*.whl)
    for python in python3.12 python3.13 python3.11; do
        if [[ ! -x venv/bin/python ]] && command -v "$python" >/dev/null; then "$python" -m venv venv || rm -rf venv; fi
    done
    # The images come with an older Python. uv fetches a newer one without touching the system's.
    if [[ ! -x venv/bin/python ]]; then
        python3 -m pip install -q --user uv
        python3 -m uv venv -q --seed --python 3.12 venv
    fi
    if ! venv/bin/python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))'; then
        say "Python 3.11, 3.12 or 3.13 is needed, not $(venv/bin/python -V)" >&2
        exit 1
    fi
    venv/bin/python -m pip install -q -c constraints.txt "${wheel}[tpu]"
    if [[ -s packages ]]; then venv/bin/python -m pip install -q -c constraints.txt -r packages; fi
    basename "$wheel" >installed
    say "installed $(cat installed), $(venv/bin/python -V)"
}

start() {
    [[ $# -gt 0 ]] || { say "start needs a command"; exit 2; }
    exec 9>lock   # everything started below inherits it
    if ! flock -w 10 9; then say "a run is under way"; exit 75; fi
    if [[ -f env ]]; then variables env; fi
    rm -f status pid
    setsid nohup bash worker.sh attend "$@" >>run.log 2>&1 </dev/null &
    say "started"
}

# What Compute Engine tells a machine of a slice. A TPU VM's tells JAX itself.
metadata() {
    curl -sf --retry 10 --retry-all-errors -H Metadata-Flavor:Google \
        "http://metadata.google.internal/computeMetadata/v1/instance/attributes/$1"
}

# The options by which this process finds the others: the first of the slice's addresses is worker 0's.
peers() {
    local worker first
    worker=$(metadata worker-id) || return
    first=$(metadata worker-network-endpoints) || return
    first=${first%%,*}
    printf '%s\n' --coordinator="${first##*:}:8476" --processes="$1" --process="$worker"
}

# In the background: runs the command and writes down how it ended.
attend() {
    local status=0 found=()
    echo "--- $(date), $(cat installed): $*"
    (
        if [[ ${PEERS:-} ]]; then
            mapfile -t found < <(peers "$PEERS")
            if ((${#found[@]} != 3)); then say "the metadata server does not say which worker this is"; exit 1; fi
        fi
        if [[ ${ALONE:-} ]]; then export TPU_PROCESS_BOUNDS=1,1,1 TPU_CHIPS_PER_PROCESS_BOUNDS=2,2,1; fi
        case $1 in export | report) export JAX_PLATFORMS=cpu ;; esac   # they need no TPU
        if [[ -f env ]]; then variables env export; fi
        exec venv/bin/python -u -m "sar_jax.$1" "${@:2}" ${found[@]+"${found[@]}"}
    ) &
    echo $! >pid
    wait $! || status=$?
    echo "$status" >status.new
    mv status.new status
}

stop() {
    if ! running; then say "no run"; return; fi
    local pid
    pid=$(cat pid)
    if [[ $1 == KILL ]]; then pid=-$(ps -o pgid= -p "$pid" | tr -d ' '); fi   # with all its processes
    kill "-$1" -- "$pid"
    say "sent SIG$1"
}

"$@"
