#!/usr/bin/env bash
# Trains on a Cloud TPU slice: creates it, installs this clone on all its workers, starts a run there and looks after it.
#
#     launch/tpu_vm.sh create                        ask for the slice and wait until it is there
#     launch/tpu_vm.sh install                       this clone as a wheel, the pinned versions and configs/, on all workers
#     launch/tpu_vm.sh run [--auto-resume [--attach]] --config=configs/qwen3_4b.py [--config.any.field=value ...]
#                                                    start sar_jax.train on all workers; it goes on without you
#     launch/tpu_vm.sh run evaluate|explain|export|report|pretrain ...
#                                                    another command of sar_jax, on the first worker alone
#     launch/tpu_vm.sh logs [--worker=N]             follow the log of a worker (0)
#     launch/tpu_vm.sh fetch PATH ...                copy what a command wrote on the first worker to here
#     launch/tpu_vm.sh status                        the slice's state, and what runs on each worker
#     launch/tpu_vm.sh stop [--kill]                 save and stop the run; --kill: at once, unsaved
#     launch/tpu_vm.sh delete [--yes]                give the slice back; asks first
#
# Every command takes --dry-run: it prints the gcloud commands and calls none. (The wheel is still built, here.)
#
# --auto-resume stays and watches: when the slice was preempted, or its time (MAX_RUN) is over, it is created again, the same
# wheel is installed, and the run goes on from its last checkpoint in WORKDIR. --attach: watch a run started before.
#
# Variables, from the environment:
#     PROJECT, ZONE, NAME     Google Cloud project and zone, and a name for the slice
#     ACCELERATOR             v6e-8, v5litepod-16, v5p-16, v6e:4x4, ...     (create, run --auto-resume, run evaluate ...)
#     SLICES                  how many of these work together (1)
#     WORKDIR                 gs://BUCKET/PATH, or a path that all workers see             (run)
#     CAPACITY                on-demand (default), spot, flex-start or reserved
#     MAX_RUN                 how long machines of flex-start stay: 12h, at most 7d
#     VALID_UNTIL             how long a request waits in the queue before it is given up: 6h
#     RESERVATION_PROJECT     the project that owns the reservation, if it is another one
#     RUNTIME                 the VMs' image; follows from ACCELERATOR
#     ADDRESSES               external (default); internal: none, reached from the same network; iap: none, through a tunnel
#     LABELS, TAGS            NAME=VALUE,... for bills; NAME,... for the network's firewall
#     NETWORK, SUBNETWORK, SERVICE_ACCOUNT    as gcloud has them
#     ENV_FILE                a file of NAME=value lines that `install` copies and every run reads (HF_TOKEN, ...)
#     FILES                   further files that a run needs on its workers, with blanks between them. The files of your own
#                             functions (docs/plugins.md), what they import beside them, and your data come along
#     PACKAGES                packages that `install` adds to the workers' environment, as pip has them: "name==1.2 other"
#     WAIT                    seconds that `create` waits (3600)
#     POLL                    seconds between two looks (60)
#     RESUMES                 how often --auto-resume tries to bring a lost slice back (20)
#     PYTHON                  the Python that builds the wheel (python3)
#     BUILD                   where wheels are kept (dist/launch in the clone)
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=launch/common.sh
source "$ROOT/launch/common.sh"
# shellcheck source=launch/workers.sh
source "$ROOT/launch/workers.sh"
MORE=()   # variables that every command needs

# Flex-start, and a way in through a tunnel, are in gcloud's alpha commands only.
tpus() {
    local track=()
    if [[ $* == *--provisioning-model=* || $* == *--tunnel-through-iap* ]]; then track=(alpha); fi
    gcloud_call ${track[@]+"${track[@]}"} compute tpus "$@" --project="$PROJECT" --zone="$ZONE"
}

queued() { tpus queued-resources "$1" "$NAME" "${@:2}"; }

check_slice() {
    PEERS=0 HOSTS=1   # the machines know of each other
    if [[ ! $ACCELERATOR ]]; then return; fi
    name_slice tpu_vm
    check_capacity on-demand spot flex-start reserved
    without "a name is for launch/gce.sh and launch/gke.sh (here CAPACITY=reserved)" RESERVATION
    [[ $CAPACITY == flex-start ]] || without "only flex-start has an end (CAPACITY is '$CAPACITY')" MAX_RUN
    case $VERSION in
        v6e) RUNTIME=${RUNTIME:-v2-alpha-tpuv6e} ;;
        v5p) RUNTIME=${RUNTIME:-v2-alpha-tpuv5} ;;
        v5e) RUNTIME=${RUNTIME:-v2-alpha-tpuv5-lite} ;;
        *) RUNTIME=${RUNTIME:-tpu-ubuntu2204-base} ;;
    esac
}

# The queued resource's state, who brought it about, and an error if there is one; or ABSENT, or UNKNOWN if gcloud fails.
state() {
    local found error
    error=$(mktemp)
    if found=$(ask "$1" queued describe \
        '--format=value[separator=" "](state.state,state.stateInitiator,state.failedData.error.message)' 2>"$error"); then
        printf '%s\n' "${found:-UNKNOWN}"
    elif grep -qiE 'not_found|not found' "$error"; then
        echo ABSENT
    else
        echo "UNKNOWN: $(cat "$error")"
    fi
    rm -f "$error"
}

# A queued resource does not know at once that its machines are gone.
refine() {
    local node now
    if [[ $1 == ACTIVE* ]]; then
        for node in $(nodes); do
            now=$(tpus tpu-vm describe "$node" '--format=value(state)' 2>/dev/null) || true
            if [[ $now == PREEMPTED || $now == TERMINATED ]]; then echo "SUSPENDED, its machines are $now"; return; fi
        done
    fi
    printf '%s\n' "$1"
}

request() {
    local flags=(--accelerator-type="$TYPE" --runtime-version="$RUNTIME")
    if ((SLICES > 1)); then flags+=(--node-count="$SLICES" --node-prefix="$NAME"); else flags+=(--node-id="$NAME"); fi
    case $CAPACITY in
        spot) flags+=(--spot) ;;
        reserved) flags+=(--reserved) ;;
        flex-start) flags+=(--provisioning-model=flex-start --max-run-duration="$MAX_RUN") ;;
    esac
    if [[ $VALID_UNTIL ]]; then flags+=(--valid-until-duration="$VALID_UNTIL"); fi
    if [[ ${RESERVATION_PROJECT:-} ]]; then flags+=(--reservation-host-project="$RESERVATION_PROJECT"); fi
    if [[ $NETWORK ]]; then flags+=(--network="$NETWORK"); fi
    if [[ $SUBNETWORK ]]; then flags+=(--subnetwork="$SUBNETWORK"); fi
    if [[ $SERVICE_ACCOUNT ]]; then flags+=(--service-account="$SERVICE_ACCOUNT"); fi
    if [[ $ADDRESSES != external ]]; then flags+=(--internal-ips); fi
    if [[ $LABELS ]]; then flags+=(--labels="$LABELS"); fi
    if [[ $TAGS ]]; then flags+=(--tags="$TAGS"); fi
    queued create "${flags[@]}"
}

give_back() { queued delete --force; }   # with its machines

# A slice is a node. Several are named by Google.
nodes() {
    local number
    if ((SLICES == 1)); then echo "$NAME"; return; fi
    for ((number = 0; number < SLICES; number++)); do echo "$NAME-$number"; done
}

reached() {
    case $ADDRESSES in
        internal) echo --internal-ip ;;
        iap) echo --tunnel-through-iap ;;
    esac
}

# on_workers WHICH COMMAND: all, first or a number; the number is within the first slice.
on_workers() {
    local node worker=$1
    if [[ $1 == first ]]; then worker=0; fi
    for node in $(nodes); do
        # shellcheck disable=SC2046
        tpus tpu-vm ssh "$node" --worker="$worker" --command="$2" $(reached) || return
        if [[ $worker != all ]]; then return; fi
    done
}

to_workers() {
    local node
    for node in $(nodes); do
        # shellcheck disable=SC2046
        tpus tpu-vm scp --recurse "$1" "$node:" --worker=all $(reached) || return
    done
}

# shellcheck disable=SC2046
from_worker() { tpus tpu-vm scp --recurse "$(nodes | head -1):$FOLDER/$1" . --worker=0 $(reached); }

RUNTIME=${RUNTIME:-}
exec 3>&1
main "${BASH_SOURCE[0]}" "$@"
