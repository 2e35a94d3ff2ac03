#!/usr/bin/env bash
# What launch/tpu_vm.sh does with a slice: every call of gcloud, and looking after a run. Sourced; it sets nothing itself.
# shellcheck disable=SC2034,SC2154

say() { printf '%s\n' "$*" >&2; }
fail() { say "error: $*"; exit 2; }
# The output of a dry run is a script, so remarks are comments there. File descriptor 3 is the output of the whole script.
note() { printf '%s\n' "$*" | if [[ $DRY_RUN ]]; then sed 's/^/# /'; else cat; fi >&3; }
pause() { [[ $DRY_RUN ]] || sleep "$1"; }

# One word as a shell reads it back.
quote() {
    local escaped="'\\''"
    if [[ $1 =~ ^[A-Za-z0-9_./:=@%+,-]+$ ]]; then printf '%s' "$1"; else printf '%s' "'${1//\'/$escaped}'"; fi
}

# The only function that calls gcloud, which never prompts: what has to be asked, this script asks.
gcloud_call() {
    if [[ ! $DRY_RUN ]]; then gcloud "$@" --quiet </dev/null; return; fi
    local line=gcloud word
    for word in "$@" --quiet; do line+=" $(quote "$word")"; done
    printf '%s\n' "$line" >&3
}

# ask ANSWER COMMAND...: the output of a command; in a dry run ANSWER, so that what follows can be shown too.
ask() {
    local answer=$1
    "${@:2}" || return
    if [[ $DRY_RUN ]]; then printf '%s\n' "$answer"; fi
}

queued() { gcloud_call compute tpus queued-resources "$1" "$NAME" --project="$PROJECT" --zone="$ZONE" "${@:2}"; }
tpu_vm() { gcloud_call compute tpus tpu-vm "$@" --project="$PROJECT" --zone="$ZONE"; }
on_workers() { tpu_vm ssh "$NAME" --worker="$1" --command="$2"; }

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

# refine STATE: the same, or SUSPENDED if the machines are gone and the queued resource does not know it yet.
refine() {
    local node
    if [[ $1 == ACTIVE* ]]; then
        node=$(tpu_vm describe "$NAME" '--format=value(state)' 2>/dev/null) || true
        if [[ $node == PREEMPTED || $node == TERMINATED ]]; then echo "SUSPENDED, its machines are $node"; return; fi
    fi
    printf '%s\n' "$1"
}

request() {
    local flags=(--node-id="$NAME" --accelerator-type="$ACCELERATOR" --runtime-version="$RUNTIME")
    if [[ $CAPACITY == spot ]]; then flags+=(--spot); fi
    if [[ $CAPACITY == reserved ]]; then flags+=(--reserved); fi
    if [[ $RESERVATION_PROJECT ]]; then flags+=(--reservation-host-project="$RESERVATION_PROJECT"); fi
    if [[ $NETWORK ]]; then flags+=(--network="$NETWORK"); fi
    if [[ $SUBNETWORK ]]; then flags+=(--subnetwork="$SUBNETWORK"); fi
    if [[ $SERVICE_ACCOUNT ]]; then flags+=(--service-account="$SERVICE_ACCOUNT"); fi
    queued create "${flags[@]}"
}

give_back() { queued delete --force; }   # with its machines

# Waits until the slice is there, at most the given seconds (0: no limit). Status 1: it will not come. 3: it was deleted.
await_active() {
    local now before='' begin=$SECONDS
    while true; do
        now=$(state ACTIVE)
        [[ $now == "$before" ]] || note "$NAME: $now"
        before=$now
        case $now in
            ACTIVE*) return 0 ;;
            DELETING* | ABSENT*) return 3 ;;
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
    tpu_vm scp --recurse "$STAGE" "$NAME:" --worker=all || return
    on_workers all "bash $FOLDER/worker.sh install"
}

# own_files ARGUMENT...: the files of functions of one's own (docs/plugins.md) that a run names in its arguments or its
# config, and what they import from beside them; with those of FILES. Each is a path from here, and will be on the workers.
own_files() {
    local argument config='' file beside waiting=() found=' '
    for argument in "$@"; do if [[ $argument == --config=* ]]; then config=$ROOT/${argument#--config=}; fi; done
    while IFS= read -r file; do waiting+=("$file"); done < <(
        { printf '%s\n' "$@"; [[ ! -f ${config%%:*} ]] || sed 's/#.*//' "${config%%:*}"; } |
            grep -oE '[A-Za-z0-9_./~+-]+\.py:[A-Za-z_]' | sed 's/:.$//')
    # shellcheck disable=SC2206,SC2153
    waiting+=($FILES)
    while ((${#waiting[@]})); do
        file=${waiting[0]} waiting=("${waiting[@]:1}")
        [[ $found != *" $file "* ]] || continue
        [[ -f $file ]] || fail "$file: no such file here, but the run needs it on its workers"
        [[ $file != /* && $file != ~* && /$file/ != */../* ]] ||
            fail "$file: give a path below the folder that you are in, since the workers will have the same"
        found+="$file "
        if [[ $file != *.py ]]; then continue; fi
        while IFS= read -r beside; do
            beside=$(dirname "$file")/$beside.py
            if [[ -f $beside ]]; then waiting+=("${beside#./}"); fi
        done < <(sed -nE 's/^[[:blank:]]*(from|import)[[:blank:]]+([A-Za-z0-9_]+).*/\2/p' "$file")
    done
    # shellcheck disable=SC2086
    printf '%s\n' $found
}

# stage_own ARGUMENT...: copies of these files in OWN, which `ship_own` sends.
stage_own() {
    local files file
    files=$(own_files "$@") || exit
    OWN=''
    [[ $files ]] || return 0
    OWN=$BUILD/$NAME/own/$FOLDER
    rm -rf "$OWN"
    for file in $files; do mkdir -p "$OWN/$(dirname "$file")" && cp "$file" "$OWN/$file"; done
    note "files of yours for the workers: ${files//$'\n'/ }"
}

ship_own() { [[ ! $OWN ]] || tpu_vm scp --recurse "$OWN" "$NAME:" --worker=all; }

# The arguments are quoted for the shell on the workers, which is bash.
start() { on_workers all "bash $FOLDER/worker.sh start$(printf ' %q' "$@" --workdir="$WORKDIR")"; }

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
