#!/usr/bin/env bash
# Trains on TPUs of a GKE cluster, as a JobSet: one slice or several, of every version that GKE has.
#
#     launch/gke.sh create            node pools for the slices in CLUSTER (an Autopilot cluster makes its own: leave it out)
#     launch/gke.sh queue             Kueue's objects for these slices, and the local queue QUEUE
#     launch/gke.sh run [COMMAND] --config=configs/qwen3_4b.py [--config.any.field=value ...]
#                                     start sar_jax.train, or evaluate, explain, export, report, pretrain
#     launch/gke.sh logs              follow the log of the first worker
#     launch/gke.sh fetch PATH ...    copy what another command than train wrote to here
#     launch/gke.sh status            the JobSet and its pods
#     launch/gke.sh stop              delete the JobSet: its pods save and end
#     launch/gke.sh delete [--yes]    the JobSet, its secret and the node pools; asks first
#
# Every command takes --dry-run: it prints the gcloud and kubectl commands, with the manifests, and calls none. kubectl uses
# its current context: `gcloud container clusters get-credentials CLUSTER --location=LOCATION` sets it.
#
# A lost machine restarts the JobSet's pods, and the run goes on from its last checkpoint in WORKDIR; an error in the
# settings (exit status 2) ends it. A finished JobSet is deleted after KEEP seconds.
#
# Variables, from the environment:
#     PROJECT, ZONE, NAME     Google Cloud project, the zone of the TPUs, and a name for the JobSet and its pools
#     CLUSTER, LOCATION       the cluster, and its region or zone (ZONE)                       (create, delete)
#     ACCELERATOR             v6e-16, tpu7x:2x2x2, tpu-v5p-slice:2x2x2, ct6e-standard-4t:2x4, ...
#     SLICES                  how many of these work together (1)
#     IMAGE                   made from the clone's Dockerfile with --build-arg EXTRA=tpu                (run)
#     WORKDIR                 gs://BUCKET/PATH. Your own files are copied to a folder next to it         (run)
#     CAPACITY                on-demand (default), spot, flex-start or reservation
#     MAX_RUN                 how long machines of flex-start stay: 12h, at most 7d
#     RESERVATION             the name of the reservation
#     QUEUE                   a local queue of Kueue that the JobSet waits in; flex-start of several machines needs one
#     SERVICE_ACCOUNT         a Kubernetes service account that may read and write the bucket (default)
#     ENV_FILE                a file of NAME=value lines that becomes a secret, and the containers' variables
#     FILES                   further files that a run needs (docs/plugins.md)
#     KEEP                    seconds that a finished JobSet is kept (86400)
#     RESUMES                 how often lost pods are started again (20)
#     LABELS, PYTHON, BUILD   as with launch/tpu_vm.sh
# Not tried on a cluster yet.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=launch/common.sh
source "$ROOT/launch/common.sh"
# shellcheck source=launch/gke/manifests.sh
source "$ROOT/launch/gke/manifests.sh"

kubectl_call() { call kubectl "$@"; }

# apply: what it reads, YAML.
apply() {
    if [[ $DRY_RUN ]]; then
        { echo "kubectl apply -f - <<'YAML'"; cat; echo YAML; } >&3
    else
        kubectl apply -f -
    fi
}

pools() {
    gcloud_call container node-pools "$1" "$2" --cluster="$CLUSTER" --location="$LOCATION" --project="$PROJECT" "${@:3}"
}

check_tools() {
    [[ $DRY_RUN ]] || command -v kubectl >/dev/null || fail "kubectl is missing: 'gcloud components install kubectl'"
    check_gcloud
}

check_slice() {
    name_slice gke
    check_capacity on-demand spot flex-start reservation
    [[ $CAPACITY != reservation || $RESERVATION ]] || fail "CAPACITY=reservation needs RESERVATION, the name of one"
    [[ $CAPACITY == reservation ]] || without "CAPACITY is '$CAPACITY'" RESERVATION
    [[ $CAPACITY == flex-start ]] || without "only flex-start has an end (CAPACITY is '$CAPACITY')" MAX_RUN
    without "the image has what a run needs" PACKAGES
    without "on GKE that is the cluster's" VALID_UNTIL NETWORK SUBNETWORK TAGS
    [[ $KEEP =~ ^[0-9]+$ ]] || fail "KEEP is '$KEEP': a number of seconds"
    if ((SLICES > 1 && HOSTS == 1)); then
        ((CHIPS > 4)) || fail "ACCELERATOR is '$ACCELERATOR': GKE joins slices of several machines only"
        MACHINE=${MACHINE/-8t/-4t} CHIPS_A_HOST=4 HOSTS=$((CHIPS / 4))
    fi
    [[ $CAPACITY != flex-start || $QUEUE || $HOSTS == 1 ]] ||
        fail "CAPACITY=flex-start of several machines needs QUEUE, and Kueue in the cluster (see 'queue')"
}

# A finished JobSet of this name goes; one that runs is left alone.
make_room() {
    local found
    found=$(ask '' kubectl_call get jobset "$NAME" --ignore-not-found \
        '-o=jsonpath={.metadata.name} {.status.conditions[?(@.status=="True")].type}') ||
        fail "kubectl cannot reach the cluster"
    case " $found " in
        *' Completed '* | *' Failed '*) kubectl_call delete jobset "$NAME" --wait ;;
        *[!\ ]*) fail "a run is under way as $NAME; '$0 stop' ends it" ;;
    esac
}

# One pool is one slice.
pool_names() { local i; for ((i = 0; i < SLICES; i++)); do echo "$NAME-$i"; done; }

do_create() {
    need PROJECT ZONE NAME ACCELERATOR CLUSTER
    check_slice
    check_tools
    local pool flags=(--node-locations="$ZONE" --machine-type="$MACHINE")
    if ((HOSTS > 1)); then flags+=(--tpu-topology="$TOPOLOGY"); fi
    case $CAPACITY in
        spot) flags+=(--spot) ;;
        reservation) flags+=(--reservation-affinity=specific --reservation="$RESERVATION") ;;
        flex-start) flags+=(--flex-start --max-run-duration="$MAX_RUN" --reservation-affinity=none --no-enable-autorepair) ;;
    esac
    if [[ $CAPACITY == flex-start ]]; then
        flags+=(--num-nodes=0 --enable-autoscaling --max-nodes="$HOSTS" --location-policy=ANY)
        if [[ $QUEUE ]]; then flags+=(--enable-queued-provisioning); fi
    else
        flags+=(--num-nodes="$HOSTS")
    fi
    if [[ $LABELS ]]; then flags+=(--labels="$LABELS"); fi
    if [[ $VERSION == tpu7x && $HOSTS -gt 1 ]]; then   # of the others GKE makes the policy itself
        gcloud_call compute resource-policies create workload-policy "$NAME" --type=HIGH_THROUGHPUT \
            --accelerator-topology="$TOPOLOGY" --region="${ZONE%-*}" --project="$PROJECT"
        flags+=(--placement-policy="$NAME")
    fi
    for pool in $(pool_names); do pools create "$pool" "${flags[@]}"; done
}

do_queue() {
    need PROJECT ZONE NAME ACCELERATOR QUEUE
    check_slice
    check_tools
    queue_manifest | apply
}

do_run() {
    local command=train
    if [[ ${1:-} =~ ^(train|pretrain|evaluate|explain|export|report)$ ]]; then command=$1; shift; fi
    need PROJECT ZONE NAME ACCELERATOR IMAGE WORKDIR
    [[ $WORKDIR == gs://?*/?* ]] || fail "WORKDIR is '$WORKDIR': pods keep nothing, so it must be gs://BUCKET/PATH"
    check_run "$command" "$@"
    check_slice
    [[ $command == train || $((HOSTS * SLICES)) == 1 ]] || fail "$command is one process: give it a slice of one machine"
    check_tools
    make_room
    stage_own "$@"
    local arguments=("$@")
    if [[ $command == train ]]; then arguments+=(--workdir="$WORKDIR"); fi
    if [[ $OWN ]]; then gcloud_call storage cp --recursive "$OWN/*" "${WORKDIR%/}.files/"; fi
    if [[ $ENV_FILE ]]; then
        kubectl_call delete secret "$NAME" --ignore-not-found
        grep -vE '^[[:blank:]]*(#|$)' "$ENV_FILE" >"$BUILD/$NAME.env"
        kubectl_call create secret generic "$NAME" --from-env-file="$BUILD/$NAME.env"
        rm "$BUILD/$NAME.env"
    fi
    jobset_manifest "$command" "${arguments[@]}" | apply
}

# The first worker of the first slice, which prints how the run goes.
do_logs() { need NAME; check_tools; kubectl_call logs --follow --tail=200 "job/$NAME-slice-0"; }

do_fetch() {
    need PROJECT NAME WORKDIR
    (($#)) || fail "fetch needs the names of files or folders that a command wrote, such as results"
    check_tools
    local path
    for path in "$@"; do gcloud_call storage cp --recursive "${WORKDIR%/}.files/$path" .; done
}

do_status() {
    need NAME
    check_tools
    kubectl_call get jobset "$NAME"
    kubectl_call get pods --selector="jobset.sigs.k8s.io/jobset-name=$NAME" -o wide
}

do_stop() { need NAME; check_tools; kubectl_call delete jobset "$NAME" --wait; }

do_delete() {
    need PROJECT ZONE NAME ACCELERATOR CLUSTER
    check_slice
    check_tools
    confirm "Delete the JobSet $NAME, and the node pools $(pool_names | tr '\n' ' ')of $CLUSTER?"
    kubectl_call delete jobset "$NAME" --ignore-not-found --wait
    kubectl_call delete secret "$NAME" --ignore-not-found
    local pool status=0
    for pool in $(pool_names); do pools delete "$pool" || status=$?; done
    if [[ $VERSION == tpu7x && $HOSTS -gt 1 ]]; then
        gcloud_call compute resource-policies delete "$NAME" --region="${ZONE%-*}" --project="$PROJECT" || status=$?
    fi
    return "$status"
}

main() {
    read_variables
    IMAGE=${IMAGE:-} CLUSTER=${CLUSTER:-} LOCATION=${LOCATION:-$ZONE} QUEUE=${QUEUE:-} KEEP=${KEEP:-86400}
    SERVICE_ACCOUNT=${SERVICE_ACCOUNT:-default}
    COMMAND=${1:-nothing}
    local arguments=() argument
    for argument in "${@:2}"; do
        case $COMMAND:$argument in
            *:--dry-run) DRY_RUN=yes ;;
            *:--help) COMMAND=--help ;;
            delete:--yes) YES=yes ;;
            run:* | fetch:[!-]*) arguments+=("$argument") ;;
            *) fail "$COMMAND does not take '$argument' (see --help)" ;;
        esac
    done
    case $COMMAND in
        create | queue | run | logs | fetch | status | stop | delete) "do_$COMMAND" ${arguments[@]+"${arguments[@]}"} ;;
        --help) show_help "${BASH_SOURCE[0]}" ;;
        *) fail "one of create, queue, run, logs, fetch, status, stop, delete is needed, not '$COMMAND' (see --help)" ;;
    esac
}

exec 3>&1
main "$@"
