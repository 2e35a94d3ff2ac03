#!/usr/bin/env bash
# What the launch scripts share: messages, dry runs, the names of slices, and what a run needs on its workers. Sourced.
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

# call PROGRAM ARGUMENT...: the only place that runs what reaches the cloud; a dry run prints it instead.
call() {
    if [[ ! $DRY_RUN ]]; then "$@" </dev/null; return; fi
    local line=$1 word
    for word in "${@:2}"; do line+=" $(quote "$word")"; done
    printf '%s\n' "$line" >&3
}

# It never prompts: what has to be asked, these scripts ask.
gcloud_call() { call gcloud "$@" --quiet; }

# ask ANSWER COMMAND...: the output of a command; in a dry run ANSWER, so that what follows can be shown too.
ask() {
    local answer=$1
    "${@:2}" || return
    if [[ $DRY_RUN ]]; then printf '%s\n' "$answer"; fi
}

# ---- checks -----------------------------------------------------------------------------------------------------------

need() {
    local name missing=''
    for name in "$@"; do if [[ -z ${!name:-} ]]; then missing+=" $name"; fi; done
    [[ -z $missing ]] || fail "$COMMAND needs variables that are not set:$missing (see --help)"
    [[ $NAME =~ ^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$ ]] || fail "NAME is '$NAME': letters in lower case, digits and -"
    for name in WAIT POLL RESUMES WORKER SLICES; do
        [[ ${!name} =~ ^[0-9]+$ ]] || fail "$name is '${!name}': not a number"
    done
    ((SLICES > 0)) || fail "SLICES is '$SLICES': at least 1"
    [[ -z $LABELS || $LABELS =~ ^[a-z][-_a-z0-9]*=[-_a-z0-9]*(,[a-z][-_a-z0-9]*=[-_a-z0-9]*)*$ ]] ||
        fail "LABELS is '$LABELS': NAME=VALUE,NAME=VALUE in lower case"
    [[ -z $TAGS || $TAGS =~ ^[a-z][-a-z0-9]*(,[a-z][-a-z0-9]*)*$ ]] || fail "TAGS is '$TAGS': NAME,NAME in lower case"
    if [[ $ENV_FILE ]]; then
        [[ -f $ENV_FILE ]] || fail "ENV_FILE is '$ENV_FILE': there is no such file"
        bash "$ROOT/launch/worker.sh" variables /dev/stdin <"$ENV_FILE" || exit
    fi
}

check_gcloud() {
    [[ $DRY_RUN ]] || command -v gcloud >/dev/null || fail "gcloud is missing: install the Google Cloud CLI"
    local account
    account=$(ask somebody gcloud_call auth list --filter=status:ACTIVE '--format=value(account)' 2>/dev/null) || account=''
    [[ $account ]] || fail "gcloud is not logged in: run 'gcloud auth login'"
}

# name_slice SERVICE: what the table of slices knows of ACCELERATOR, which may be written as any of Google's tools has it.
name_slice() {
    local line services
    "$PYTHON" -I -c '' 2>/dev/null || fail "PYTHON is '$PYTHON': no Python that can be run"
    line=$("$PYTHON" -I "$ROOT/sar_jax/parallel/slices.py" "$ACCELERATOR" 2>&1) ||
        fail "ACCELERATOR is '$ACCELERATOR': $line"
    read -r VERSION TOPOLOGY CHIPS HOSTS CHIPS_A_HOST TYPE MACHINE LABEL services <<<"$line"
    [[ ,$services, == *,$1,* ]] ||
        fail "ACCELERATOR is '$ACCELERATOR': this script cannot get $VERSION; see launch/${services//,/.sh, launch\/}.sh"
}

# duration NAME [MOST]: the variable NAME is a duration, of at most this many seconds. Sets DURATION, its seconds.
duration() {
    [[ ${!1} =~ ^([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?$ && ${!1} ]] ||
        fail "$1 is '${!1}': write a duration as 90m, 12h or 1d12h"
    local part seconds=0
    for part in "${BASH_REMATCH[@]:1}"; do
        case $part in
            *d) seconds=$((seconds + 86400 * ${part%d})) ;;
            *h) seconds=$((seconds + 3600 * ${part%h})) ;;
            *m) seconds=$((seconds + 60 * ${part%m})) ;;
            *s) seconds=$((seconds + ${part%s})) ;;
        esac
    done
    DURATION=$seconds
    ((seconds > 0 && seconds <= ${2:-seconds})) || fail "$1 is '${!1}': more than 0${2:+, and at most $(($2 / 3600)) hours}"
}

# check_capacity KIND...: CAPACITY is one of these, and has what belongs to it.
check_capacity() {
    [[ " $* " == *" $CAPACITY "* ]] || fail "CAPACITY is '$CAPACITY': one of $*"
    if [[ $CAPACITY == flex-start ]]; then
        [[ $MAX_RUN ]] || fail "CAPACITY=flex-start needs MAX_RUN, for how long the machines stay: 12h, at most 7d"
        duration MAX_RUN $((7 * 86400))
        MAX_RUN_SECONDS=$DURATION
    elif [[ $MAX_RUN ]]; then
        duration MAX_RUN
    fi
    if [[ $VALID_UNTIL ]]; then duration VALID_UNTIL; fi
    [[ $ADDRESSES =~ ^(external|internal|iap)$ ]] || fail "ADDRESSES is '$ADDRESSES': external, internal or iap"
}

# without REASON NAME...: these variables are set by mistake, since they would do nothing.
without() {
    local name
    for name in "${@:2}"; do [[ ! ${!name} ]] || fail "$name is set, but $1"; done
}

# check_run COMMAND ARGUMENT...: a command of sar_jax, and arguments that it may take. Sets CONFIG, the file, where named.
check_run() {
    local argument config=''
    CONFIG=''
    for argument in "${@:2}"; do
        case $argument in
            --config=*) config=${argument#--config=} ;;
            --workdir=*) [[ $1 == export ]] || fail "the workdir is the variable WORKDIR, not an argument" ;;
            --*) ;;
            *)
                [[ $1 == report ]] ||
                    fail "unexpected argument '$argument': options look like --config.field=value (see --help)" ;;
        esac
    done
    if [[ $config ]]; then
        CONFIG=${config%%:*}
        if [[ $config == configs/* && -f $ROOT/$CONFIG ]]; then CONFIG=$ROOT/$CONFIG; fi
        [[ -f $CONFIG ]] || fail "--config=$config: neither a file of the clone (configs/FILE.py) nor one here"
    fi
    [[ $config || ! $1 =~ ^(train|pretrain)$ ]] || fail "--config=configs/FILE.py has to name a file of the clone"
}

# Y, or nothing is done.
confirm() {
    if [[ $YES || $DRY_RUN ]]; then return; fi
    [[ -t 0 ]] || fail "delete asks first, and nobody can answer here: add --yes"
    local answer
    read -r -p "$1 [y/N] " answer
    [[ $answer == [yY] ]] || fail "nothing deleted"
}

# ---- what a run needs -------------------------------------------------------------------------------------------------

# Keeps what `install` copies in STAGE, so that a slice that replaces this one gets the same code.
build() {
    STAGE=$(PYTHON=$PYTHON "$ROOT/launch/wheel.sh" "$BUILD/$NAME") || exit
    WHEEL=$(basename "$STAGE"/*.whl)
    rm -f "$STAGE/env" "$STAGE/packages"
    # shellcheck disable=SC2086
    if [[ $PACKAGES ]]; then printf '%s\n' $PACKAGES >"$STAGE/packages"; fi
    if [[ $ENV_FILE ]]; then (umask 077 && cat "$ENV_FILE" >"$STAGE/env"); fi
}

# named_files ARGUMENT...: the user's own files and folders that a run names, one a line: functions (docs/plugins.md), data
# (docs/data.md), models, and a config that is none of the clone's.
named_files() {
    local argument value part values=()
    { printf '%s\n' "$@"; [[ ! $CONFIG ]] || sed 's/#.*//' "$CONFIG"; } |
        grep -oE '[A-Za-z0-9_./~+-]+\.py:[A-Za-z_]' | sed 's/:.$//' || true
    if [[ $CONFIG && $CONFIG != "$ROOT"/* ]]; then printf '%s\n' "$CONFIG"; fi
    for argument in "$@"; do
        case $argument in
            --config.data.*=* | --config.model.path=* | --model=* | --input=* | --reference=*) values+=("${argument#*=}") ;;
            --*) ;;
            *) values+=("$argument") ;;
        esac
    done
    if [[ $CONFIG ]]; then
        while IFS= read -r value; do values+=("$value"); done < <(
            sed -nE "s/^[^#]*(data\.(train|eval)|model\.path) *= *[\"']([^\"']+)[\"'].*/\3/p" "$CONFIG")
    fi
    for value in ${values[@]+"${values[@]}"}; do
        if [[ -e $value ]]; then printf '%s\n' "$value"; continue; fi
        while IFS= read -r part; do
            part=${part%%[:@=]*}
            if [[ $part != *.py ]] && [[ -e $part || $part =~ \.(jsonl|json|csv|tsv|parquet)(\.(gz|bz2|xz))?$ ]]; then
                printf '%s\n' "$part"
            fi
        done < <([[ $value == *://* ]] || tr '+' '\n' <<<"$value")
    done
}

# own_files ARGUMENT...: these, with those of FILES and what Python files import from beside them. Each is a path from
# here, and will be on the workers.
own_files() {
    local file beside waiting=() found=$'\n'
    while IFS= read -r file; do waiting+=("$file"); done < <(named_files "$@")
    # shellcheck disable=SC2206,SC2153
    waiting+=($FILES)
    while ((${#waiting[@]})); do
        file=${waiting[0]%/} waiting=("${waiting[@]:1}")
        [[ $found != *$'\n'"$file"$'\n'* ]] || continue
        [[ -e $file ]] || fail "$file: no such file here, but the run needs it on its workers"
        [[ $file != /* && $file != ~* && /$file/ != */../* ]] ||
            fail "$file: give a path below the folder that you are in, since the workers will have the same"
        found+=$file$'\n'
        if [[ $file != *.py ]]; then continue; fi
        while IFS= read -r beside; do
            beside=$(dirname "$file")/$beside.py
            if [[ -f $beside ]]; then waiting+=("${beside#./}"); fi
        done < <(sed -nE 's/^[[:blank:]]*(from|import)[[:blank:]]+([A-Za-z0-9_]+).*/\2/p' "$file")
    done
    printf '%s' "${found:1}"
}

# stage_own ARGUMENT...: copies of these files in OWN, for the workers.
stage_own() {
    local files file
    files=$(own_files "$@") || exit
    OWN=''
    [[ $files ]] || return 0
    OWN=$BUILD/$NAME/own/$FOLDER
    rm -rf "$OWN"
    while IFS= read -r file; do
        mkdir -p "$OWN/$(dirname "$file")" && cp -R "$file" "$OWN/$file"
    done <<<"$files"
    note "files of yours for the workers: ${files//$'\n'/ }"
}

# The comment at a script's head.
show_help() { sed -n '2,/^set /{/^set /!s/^# \{0,1\}//p;}' "$1"; }

# Every variable of the scripts that a user may set, with its default.
read_variables() {
    PROJECT=${PROJECT:-} ZONE=${ZONE:-} NAME=${NAME:-} ACCELERATOR=${ACCELERATOR:-} WORKDIR=${WORKDIR:-}
    CAPACITY=${CAPACITY:-on-demand} MAX_RUN=${MAX_RUN:-} VALID_UNTIL=${VALID_UNTIL:-} SLICES=${SLICES:-1}
    RESERVATION=${RESERVATION:-} ADDRESSES=${ADDRESSES:-external} LABELS=${LABELS:-} TAGS=${TAGS:-}
    NETWORK=${NETWORK:-} SUBNETWORK=${SUBNETWORK:-} SERVICE_ACCOUNT=${SERVICE_ACCOUNT:-}
    ENV_FILE=${ENV_FILE:-} FILES=${FILES:-} PACKAGES=${PACKAGES:-} WAIT=${WAIT:-3600} POLL=${POLL:-60}
    RESUMES=${RESUMES:-20} PYTHON=${PYTHON:-python3} BUILD=${BUILD:-$ROOT/dist/launch}
    FOLDER=sar_jax_run   # on the workers, in the home directory
    DRY_RUN='' YES='' WATCH='' ATTACH='' SIGNAL=TERM WORKER=0 OWN=''
}
