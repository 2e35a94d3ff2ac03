#!/usr/bin/env bash
# What launch/tpu_vm.sh and launch/gce.sh do alike with a slice's machines: install, run, and look after a run. Sourced,
# after launch/common.sh, by a script that has these functions of its own:
#
#     check_slice            checks the variables that `request` reads; sets HOSTS, and PEERS where processes must be told
#     state ANSWER           prints ACTIVE, ABSENT, FAILED, SUSPENDED, DELETING, UNKNOWN or another word, and remarks
#     refine STATE           the same state, or SUSPENDED where the machines are gone already
#     request, give_back     asks for the slice; deletes it, with its machines
#     on_workers WHICH WORDS runs a shell command on the workers: all, first or a number
#     to_workers FOLDER      copies a folder into the home directory of every worker
#     from_worker PATH       copies a path below FOLDER from the first worker to here
# shellcheck disable=SC2034,SC2154

# Waits until the slice is there, at most the given seconds (0: no limit). Status 1: it will not come. 3: it was deleted.
await_active() {
    local now before='' begin=$SECONDS
    while true; do
        now=$(state ACTIVE)
        [[ $now == "$before" ]] || note "$NAME: $now"
        before=$now
        case $now in
            ACTIVE*) return 0 ;;
            DELETING* | ABSENT*) return 3 ;;   # its request may have expired, too (VALID_UNTIL)
            FAILED* | SUSPENDED*)
                note "This request is over. Look at the message (quota? capacity? zone?), then '$0 delete' and '$0 create'."
                return 1 ;;
        esac
        if (($1 > 0 && SECONDS - begin >= $1)); then
            note "Not there after $1 s. It keeps its place in the queue; '$0 create' waits on, '$0 delete' gives it up."
            return 1
        fi
        pause "$POLL"
    done
}

# One line from each worker: what runs there and what is installed.
look() {
    local script=$FOLDER/worker.sh
    ask "$1" on_workers all "if [ -f $script ]; then bash $script look; else echo \$(hostname): nothing installed; fi"
}

# every LOOKED TEXT: do the lines of all workers hold a text?
every() {
    local lines
    lines=$(grep -E ': (running|ended|no run|nothing)' <<<"$1") && ! grep -qvF -- "$2" <<<"$lines"
}

# Sets LOOKED. In a dry run the workers are taken to answer $1.
check_idle() {
    LOOKED=$(look "$1") || fail "the workers of $NAME cannot be reached; see '$0 status'"
    [[ $LOOKED != *': running'* ]] || fail "a run is under way on $NAME; '$0 stop' ends it"$'\n'"$LOOKED"
}

ship() {
    check_idle 'host: no run yet;'
    on_workers all "rm -rf $FOLDER/configs $FOLDER/*.whl $FOLDER/env $FOLDER/packages $FOLDER/installed" || return
    to_workers "$STAGE" || return
    on_workers all "bash $FOLDER/worker.sh install"
}

ship_own() { [[ ! $OWN ]] || to_workers "$OWN"; }

# start COMMAND ARGUMENT...: `train` runs on all workers together; the other commands are one process, on the first worker.
# Each prepared so: PEERS, how many processes are told of each other; ALONE, a machine that works without the others of its
# slice. The arguments are quoted for the shell on the workers, which is bash.
start() {
    local which=first before='' arguments=("$@")
    if [[ $1 == train ]]; then
        which=all
        arguments+=(--workdir="$WORKDIR")
        if ((PEERS > 1)); then before="PEERS=$PEERS "; fi
    elif ((HOSTS > 1)); then
        before='ALONE=yes '
    fi
    on_workers "$which" "${before}bash $FOLDER/worker.sh start$(printf ' %q' "${arguments[@]}")"
}

# bring_back STATE ARGUMENT...: what is missing between STATE and a run under way.
bring_back() {
    case $1 in
        FAILED* | SUSPENDED*) give_back && request || return 1 ;;
        ABSENT*) request || return 1 ;;
        ACTIVE*) on_workers all "bash $FOLDER/worker.sh stop KILL" || true ;;   # started on some of the workers only
    esac
    await_active 0 || return   # without a limit: what waits in the queue costs nothing
    ship && ship_own && start "${@:2}"
}

# A preempted slice cannot be started again, only replaced. The attempts of the whole watch are counted.
replace() {
    local now=$1 status
    while true; do
        if ((++ATTEMPTS > RESUMES)); then
            fail "giving up on $NAME after $RESUMES attempts (RESUMES); '$0 delete' gives back what is left of it"
        fi
        note "bringing $NAME back, attempt $ATTEMPTS of $RESUMES"
        status=0
        (bring_back "$now" "${@:2}") || status=$?
        if ((status == 0)); then return; fi
        ((status != 3)) || fail "$NAME was deleted meanwhile: not creating it again"
        pause "$POLL"
        now=$(refine "$(state ACTIVE)")
    done
}

# Looks after a run until it ends by itself; status 0 if it completed.
watch() {
    local now looked ended=0
    ATTEMPTS=0
    note "watching $NAME every $POLL s; Ctrl-C ends the watching, not the run"
    while true; do
        pause "$POLL"
        now=$(state ACTIVE)
        if [[ $now == ACTIVE* ]]; then
            if looked=$(look 'host: ended with status 0;'); then
                if every "$looked" 'ended with status 0;'; then note "the run is complete"; return 0; fi
                # Preemption stops the run before the state says so. So an end is believed when it is seen a second time.
                if every "$looked" ': nothing installed'; then
                    note "$NAME has new machines"
                    ended=0
                    replace ACTIVE "$@"
                    continue
                fi
                if [[ $looked == *': running'* ]]; then ended=0; else ended=$((ended + 1)); fi
                if ((ended == 2)); then note "the run ended:"$'\n'"$looked"; return 1; fi
                continue
            fi
            now=$(refine "$now")
        fi
        case $now in
            DELETING* | ABSENT* | SUSPEND*USER*) fail "$NAME was deleted by somebody: not creating it again" ;;
            FAILED* | SUSPENDED*) note "$NAME: $now"; ended=0; replace "$now" "$@" ;;
        esac
    done
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

do_install() {
    need PROJECT ZONE NAME ${MORE[@]+"${MORE[@]}"}
    check_slice
    check_gcloud
    build
    ship
}

# do_run [COMMAND] ARGUMENT...
do_run() {
    local command=train
    if [[ ${1:-} =~ ^(train|pretrain|evaluate|explain|export|report)$ ]]; then command=$1; shift; fi
    set -- "$command" "$@"
    if [[ $command == train ]]; then
        need PROJECT ZONE NAME WORKDIR ${WATCH:+ACCELERATOR} ${MORE[@]+"${MORE[@]}"}
    else
        need PROJECT ZONE NAME ACCELERATOR
        [[ ! $WATCH ]] || fail "--auto-resume is for training; start '$command' again yourself"
        ((SLICES == 1)) || [[ $command =~ ^(export|report)$ ]] || fail "$command works on one slice: SLICES is '$SLICES'"
    fi
    check_run "$@"
    [[ ! $WATCH || $WORKDIR == gs://?* ]] ||
        fail "WORKDIR is '$WORKDIR': --auto-resume needs gs://BUCKET/PATH, because a preempted slice takes its disks along"
    [[ $WATCH || ! $ATTACH ]] || fail "--attach goes with --auto-resume"
    check_slice
    check_gcloud
    build
    stage_own "${@:2}"
    if [[ ! $ATTACH ]]; then
        check_idle "host: no run yet; installed $WHEEL"
        every "$LOOKED" "installed $WHEEL" || fail "not all workers have $WHEEL; '$0 install' brings it"$'\n'"$LOOKED"
        ship_own
        start "$@"
    fi
    if [[ $WATCH ]]; then watch "$@"; fi
}

do_logs() {
    need PROJECT ZONE NAME ${MORE[@]+"${MORE[@]}"}
    check_slice
    check_gcloud
    on_workers "$WORKER" "tail -n 200 -F $FOLDER/run.log"
}

do_fetch() {
    need PROJECT ZONE NAME ${MORE[@]+"${MORE[@]}"}
    (($#)) || fail "fetch needs the names of files or folders below $FOLDER, such as results"
    local path
    for path in "$@"; do
        [[ $path != /* && /$path/ != */../* ]] || fail "$path: fetch takes a path below $FOLDER"
    done
    check_slice
    check_gcloud
    for path in "$@"; do from_worker "$path"; done
}

do_status() {
    need PROJECT ZONE NAME ${MORE[@]+"${MORE[@]}"}
    check_slice
    check_gcloud
    local now looked
    now=$(state ACTIVE)
    note "$NAME: $now"
    if [[ $now == ACTIVE* ]]; then
        looked=$(look 'host: running;') || fail "the workers cannot be reached"
        note "$looked"
    fi
}

do_stop() {
    need PROJECT ZONE NAME ${MORE[@]+"${MORE[@]}"}
    check_slice
    check_gcloud
    on_workers all "bash $FOLDER/worker.sh stop $SIGNAL"
}

do_delete() {
    need PROJECT ZONE NAME ${MORE[@]+"${MORE[@]}"}
    check_slice
    check_gcloud
    confirm "Delete $NAME in $ZONE, its machines and their disks?"
    give_back
}

# main SCRIPT COMMAND ARGUMENT...
main() {
    read_variables
    COMMAND=${2:-nothing}
    local arguments=() argument
    for argument in "${@:3}"; do
        case $COMMAND:$argument in
            *:--dry-run) DRY_RUN=yes ;;
            *:--help) COMMAND=--help ;;
            delete:--yes) YES=yes ;;
            run:--auto-resume) WATCH=yes ;;
            run:--attach) ATTACH=yes ;;
            stop:--kill) SIGNAL=KILL ;;
            logs:--worker=*) WORKER=${argument#--worker=} ;;
            run:* | fetch:[!-]*) arguments+=("$argument") ;;
            *) fail "$COMMAND does not take '$argument' (see --help)" ;;
        esac
    done
    case $COMMAND in
        create | install | run | logs | fetch | status | stop | delete) "do_$COMMAND" ${arguments[@]+"${arguments[@]}"} ;;
        --help) show_help "$1" ;;
        *) fail "one of create, install, run, logs, fetch, status, stop, delete is needed, not '$COMMAND' (see --help)" ;;
    esac
}
