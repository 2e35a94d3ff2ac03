#!/usr/bin/env bash
# Trains on a Cloud TPU slice: creates it, installs this clone on all its workers, starts a run there and looks after it.
#
#     launch/tpu_vm.sh create                        ask for the slice and wait until it is there
#     launch/tpu_vm.sh install                       this clone as a wheel, the pinned versions and configs/, on all workers
#     launch/tpu_vm.sh run [--auto-resume [--attach]] --config=configs/qwen3_4b.py [--config.any.field=value ...]
#                                                    start sar_jax.train on all workers; it goes on without you
#     launch/tpu_vm.sh logs [--worker=N]             follow the log of a worker (0)
#     launch/tpu_vm.sh status                        the slice's state, and what runs on each worker
#     launch/tpu_vm.sh stop [--kill]                 save and stop the run; --kill: at once, unsaved
#     launch/tpu_vm.sh delete [--yes]                give the slice back; asks first
#
# Every command takes --dry-run: it prints the gcloud commands and calls none. (The wheel is still built, here.)
#
# --auto-resume stays and watches: when the slice was preempted it is created again, the same wheel is installed, and the
# run goes on from its last checkpoint in WORKDIR. --attach: watch a run that was started before.
#
# Variables, from the environment:
#     PROJECT, ZONE, NAME     Google Cloud project and zone, and a name for the slice
#     ACCELERATOR             v6e-8, v5litepod-16, v5p-16, v4-16, ...                      (create, run --auto-resume)
#     WORKDIR                 gs://BUCKET/PATH, or a path that all workers see             (run)
#     CAPACITY                on-demand (default), spot or reserved
#     RESERVATION_PROJECT     the project that owns the reservation, if it is another one
#     RUNTIME                 the VMs' image; follows from ACCELERATOR
#     NETWORK, SUBNETWORK, SERVICE_ACCOUNT    as gcloud has them
#     ENV_FILE                a file of NAME=value lines that `install` copies and every run reads (HF_TOKEN, ...)
#     FILES                   files that a run needs on its workers, with blanks between them: what functions of your own
#                             read. The functions' files (docs/plugins.md) and what they import beside them come along
#     PACKAGES                packages that `install` adds to the workers' environment, as pip has them: "name==1.2 other"
#     WAIT                    seconds that `create` waits (3600)
#     POLL                    seconds between two looks (60)
#     RESUMES                 how often --auto-resume tries to bring a lost slice back (20)
#     PYTHON                  the Python that builds the wheel (python3)
#     BUILD                   where wheels are kept (dist/launch in the clone)
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
FOLDER=sar_jax_run   # on the workers, in the home directory
DRY_RUN='' YES='' WATCH='' ATTACH='' SIGNAL=TERM WORKER=0

# shellcheck source=launch/slice.sh
source "$ROOT/launch/slice.sh"

# ---- checks -----------------------------------------------------------------------------------------------------------

need() {
    local name missing=''
    for name in "$@"; do if [[ -z ${!name:-} ]]; then missing+=" $name"; fi; done
    [[ -z $missing ]] || fail "$COMMAND needs variables that are not set:$missing (see --help)"
    [[ $NAME =~ ^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$ ]] || fail "NAME is '$NAME': letters in lower case, digits and -"
    for name in WAIT POLL RESUMES WORKER; do [[ ${!name} =~ ^[0-9]+$ ]] || fail "$name is '${!name}': not a number"; done
    if [[ $ENV_FILE ]]; then
        [[ -f $ENV_FILE ]] || fail "ENV_FILE is '$ENV_FILE': there is no such file"
        bash "$ROOT/launch/worker.sh" variables /dev/stdin <"$ENV_FILE" || exit
    fi
}

check_slice() {
    [[ $CAPACITY =~ ^(on-demand|spot|reserved)$ ]] || fail "CAPACITY is '$CAPACITY': on-demand, spot or reserved"
    [[ $ACCELERATOR =~ ^(v4|v5litepod|v5p|v6e)-[1-9][0-9]*$ ]] ||
        fail "ACCELERATOR is '$ACCELERATOR': v4-N, v5litepod-N, v5p-N or v6e-N (newer ones need GKE: launch/gke.yaml)"
    case $ACCELERATOR in
        v6e-*) RUNTIME=${RUNTIME:-v2-alpha-tpuv6e} ;;
        v5p-*) RUNTIME=${RUNTIME:-v2-alpha-tpuv5} ;;
        v5litepod-*) RUNTIME=${RUNTIME:-v2-alpha-tpuv5-lite} ;;
        *) RUNTIME=${RUNTIME:-tpu-ubuntu2204-base} ;;
    esac
}

check_gcloud() {
    [[ $DRY_RUN ]] || command -v gcloud >/dev/null || fail "gcloud is missing: install the Google Cloud CLI"
    local account
    account=$(ask somebody gcloud_call auth list --filter=status:ACTIVE '--format=value(account)' 2>/dev/null) || account=''
    [[ $account ]] || fail "gcloud is not logged in: run 'gcloud auth login'"
}

check_run() {
    local argument config=''
    for argument in "$@"; do
        case $argument in
            --config=*) config=${argument#--config=} ;;
            --workdir=*) fail "the workdir is the variable WORKDIR, not an argument" ;;
            --*=*) ;;
            *) fail "unexpected argument '$argument': options look like --config.field=value (see --help)" ;;
        esac
    done
    [[ $config == configs/* && -f $ROOT/${config%%:*} ]] || fail "--config=configs/FILE.py has to name a file of the clone"
    [[ ! $WATCH || $WORKDIR == gs://?* ]] ||
        fail "WORKDIR is '$WORKDIR': --auto-resume needs gs://BUCKET/PATH, because a preempted slice takes its disks along"
    [[ $WATCH || ! $ATTACH ]] || fail "--attach goes with --auto-resume"
}

# Keeps what `install` copies in STAGE, so that a slice that replaces this one gets the same code.
build() {
    STAGE=$(PYTHON=$PYTHON "$ROOT/launch/wheel.sh" "$BUILD/$NAME") || exit
    WHEEL=$(basename "$STAGE"/*.whl)
    rm -f "$STAGE/env" "$STAGE/packages"
    # shellcheck disable=SC2086
    if [[ $PACKAGES ]]; then printf '%s\n' $PACKAGES >"$STAGE/packages"; fi
    if [[ $ENV_FILE ]]; then (umask 077 && cat "$ENV_FILE" >"$STAGE/env"); fi
}

# ---- commands ---------------------------------------------------------------------------------------------------------

do_create() {
    need PROJECT ZONE NAME ACCELERATOR
    check_slice
    check_gcloud
    build
    if [[ $(state ABSENT) == ABSENT ]]; then request; else note "$NAME exists already"; fi
    await_active "$WAIT"
}

do_install() { need PROJECT ZONE NAME; check_gcloud; build; ship; }

do_run() {
    need PROJECT ZONE NAME WORKDIR ${WATCH:+ACCELERATOR}
    check_run "$@"
    if [[ $WATCH ]]; then check_slice; fi
    check_gcloud
    build
    stage_own "$@"
    if [[ ! $ATTACH ]]; then
        check_idle "host: no run yet; installed $WHEEL"
        every "$LOOKED" "installed $WHEEL" || fail "not all workers have $WHEEL; '$0 install' brings it"$'\n'"$LOOKED"
        ship_own
        start "$@"
    fi
    if [[ $WATCH ]]; then watch "$@"; fi
}

do_logs() { need PROJECT ZONE NAME; check_gcloud; on_workers "$WORKER" "tail -n 200 -F $FOLDER/train.log"; }

do_status() {
    need PROJECT ZONE NAME
    check_gcloud
    local now looked
    now=$(state ACTIVE)
    note "$NAME: $now"
    if [[ $now == ACTIVE* ]]; then
        looked=$(look 'host: running;') || fail "the workers cannot be reached"
        note "$looked"
    fi
}

do_stop() { need PROJECT ZONE NAME; check_gcloud; on_workers all "bash $FOLDER/worker.sh stop $SIGNAL"; }

do_delete() {
    need PROJECT ZONE NAME
    check_gcloud
    if [[ ! $YES && ! $DRY_RUN ]]; then
        [[ -t 0 ]] || fail "delete asks first, and nobody can answer here: add --yes"
        local answer
        read -r -p "Delete $NAME in $ZONE, its machines and their disks? [y/N] " answer
        [[ $answer == [yY] ]] || fail "nothing deleted"
    fi
    give_back
}

main() {
    PROJECT=${PROJECT:-} ZONE=${ZONE:-} NAME=${NAME:-} ACCELERATOR=${ACCELERATOR:-} WORKDIR=${WORKDIR:-}
    CAPACITY=${CAPACITY:-on-demand} RESERVATION_PROJECT=${RESERVATION_PROJECT:-} RUNTIME=${RUNTIME:-} NETWORK=${NETWORK:-}
    SUBNETWORK=${SUBNETWORK:-} SERVICE_ACCOUNT=${SERVICE_ACCOUNT:-} ENV_FILE=${ENV_FILE:-}
    FILES=${FILES:-} PACKAGES=${PACKAGES:-} OWN='' WAIT=${WAIT:-3600}
    POLL=${POLL:-60} RESUMES=${RESUMES:-20} PYTHON=${PYTHON:-python3} BUILD=${BUILD:-$ROOT/dist/launch}
    COMMAND=${1:-nothing}
    local arguments=() argument
    for argument in "${@:2}"; do
        case $COMMAND:$argument in
            *:--dry-run) DRY_RUN=yes ;;
            *:--help) COMMAND=--help ;;
            delete:--yes) YES=yes ;;
            run:--auto-resume) WATCH=yes ;;
            run:--attach) ATTACH=yes ;;
            stop:--kill) SIGNAL=KILL ;;
            logs:--worker=*) WORKER=${argument#--worker=} ;;
            run:*) arguments+=("$argument") ;;
            *) fail "$COMMAND does not take '$argument' (see --help)" ;;
        esac
    done
    case $COMMAND in
        create | install | run | logs | status | stop | delete) "do_$COMMAND" ${arguments[@]+"${arguments[@]}"} ;;
        --help) sed -n '2,/^set /{/^set /!s/^# \{0,1\}//p;}' "${BASH_SOURCE[0]}" ;;
        *) fail "one of create, install, run, logs, status, stop, delete is needed, not '$COMMAND' (see --help)" ;;
    esac
}

exec 3>&1
main "$@"
