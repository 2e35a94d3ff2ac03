#!/usr/bin/env bash
# Trains on TPUs of Compute Engine, as launch/tpu_vm.sh does on TPU VMs: TPU7x, v6e and v5p. A slice of one machine is an
# instance; a larger one is a managed instance group whose workload policy connects the chips.
#
#     launch/gce.sh create | install | run | logs | fetch | status | stop | delete
#
# The commands are those of launch/tpu_vm.sh, which its --help describes, with --dry-run, --auto-resume and the rest.
#
# Variables, from the environment:
#     PROJECT, ZONE, NAME     Google Cloud project and zone, and a name for the slice
#     ACCELERATOR             tpu7x-8, tpu7x:2x2x2, v6e-8, v5p-16, or a machine type; every command needs it
#     WORKDIR                 gs://BUCKET/PATH, or a path that all workers see             (run)
#     CAPACITY                on-demand (default), spot, flex-start or reservation
#     RESERVATION             its name, or projects/PROJECT/reservations/NAME of another project
#     MAX_RUN                 how long the machines stay: 12h; flex-start needs it, at most 7d
#     VALID_UNTIL             how long one machine's flex-start request waits (2h, which is the most). A group's waits on
#     IMAGE_FAMILY            the machines' image; follows from ACCELERATOR
#     DISK                    size of a machine's disk in GB (200)
#     ADDRESSES               external (default); internal: none, reached from the same network; iap: none, through a tunnel
#     LABELS, TAGS            NAME=VALUE,... for bills; NAME,... for the network's firewall
#     NETWORK, SUBNETWORK, SERVICE_ACCOUNT    as gcloud has them
#     ENV_FILE, FILES, PACKAGES, WAIT, POLL, RESUMES, PYTHON, BUILD, SLICES (1)    as with launch/tpu_vm.sh
# Not run on a TPU yet.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=launch/common.sh
source "$ROOT/launch/common.sh"
# shellcheck source=launch/workers.sh
source "$ROOT/launch/workers.sh"
MORE=(ACCELERATOR)   # variables that every command needs

compute() { gcloud_call compute "$@" --project="$PROJECT"; }
zonal() { compute "$@" --zone="$ZONE"; }

check_slice() {
    name_slice gce
    check_capacity on-demand spot flex-start reservation
    ((SLICES == 1)) || fail "SLICES is '$SLICES': several slices are for launch/tpu_vm.sh and launch/gke.sh"
    [[ $CAPACITY != reservation || $RESERVATION ]] || fail "CAPACITY=reservation needs RESERVATION, the name of one"
    [[ $CAPACITY == reservation ]] || without "CAPACITY is '$CAPACITY'" RESERVATION
    [[ $DISK =~ ^[1-9][0-9]*$ ]] || fail "DISK is '$DISK': gigabytes"
    if [[ $CAPACITY == flex-start && $HOSTS == 1 ]]; then
        VALID_UNTIL=${VALID_UNTIL:-2h}
        duration VALID_UNTIL 7200
    elif [[ $VALID_UNTIL ]]; then
        fail "VALID_UNTIL is for a flex-start slice of one machine; another request has no end"
    fi
    PEERS=$HOSTS
    case $VERSION in
        tpu7x) IMAGE_FAMILY=${IMAGE_FAMILY:-ubuntu-accel-2404-amd64-tpu-tpu7x} ;;
        *) IMAGE_FAMILY=${IMAGE_FAMILY:-ubuntu-accel-2204-amd64-tpu-v5e-v5p-v6e} ;;
    esac
}

# Flags of an instance and of a template alike. A machine that was taken away stays as a stopped one, which can be told
# from one that somebody deleted; the groups of flex-start and of reservations may not keep it.
machine_flags() {
    local end=STOP
    if ((HOSTS > 1)) && [[ $CAPACITY == flex-start || $CAPACITY == reservation ]]; then end=DELETE; fi
    printf '%s\n' --machine-type="$MACHINE" --image-project=ubuntu-os-accelerator-images --image-family="$IMAGE_FAMILY" \
        --boot-disk-size="${DISK}GB" --maintenance-policy=TERMINATE --scopes=cloud-platform
    case $CAPACITY in
        spot) printf '%s\n' --provisioning-model=SPOT ;;
        flex-start) printf '%s\n' --provisioning-model=FLEX_START --reservation-affinity=none ;;
        reservation)
            printf '%s\n' --provisioning-model=RESERVATION_BOUND --reservation-affinity=specific \
                --reservation="$RESERVATION" ;;
    esac
    if [[ $MAX_RUN ]]; then printf '%s\n' --max-run-duration="$MAX_RUN"; fi
    if [[ $MAX_RUN || $CAPACITY != on-demand ]]; then printf '%s\n' --instance-termination-action="$end"; fi
    if [[ $NETWORK ]]; then printf '%s\n' --network="$NETWORK"; fi
    if [[ $SUBNETWORK ]]; then printf '%s\n' --subnet="$SUBNETWORK"; fi
    if [[ $SERVICE_ACCOUNT ]]; then printf '%s\n' --service-account="$SERVICE_ACCOUNT"; fi
    if [[ $ADDRESSES != external ]]; then printf '%s\n' --no-address; fi
    if [[ $LABELS ]]; then printf '%s\n' --labels="$LABELS"; fi
    if [[ $TAGS ]]; then printf '%s\n' --tags="$TAGS"; fi
}

request() {
    local flags=() region=${ZONE%-*} group
    mapfile -t flags < <(machine_flags)
    if ((HOSTS == 1)); then
        if [[ $CAPACITY == flex-start ]]; then flags+=(--request-valid-for-duration="$VALID_UNTIL"); fi
        zonal instances create "$NAME" "${flags[@]}" --async
        return
    fi
    compute resource-policies create workload-policy "$NAME" --type=HIGH_THROUGHPUT --accelerator-topology="$TOPOLOGY" \
        --region="$region" || return
    compute instance-templates create "$NAME" "${flags[@]}" || return
    group=(--template="$NAME" --size="$HOSTS" --default-action-on-vm-failure=do-nothing
        --workload-policy="projects/$PROJECT/regions/$region/resourcePolicies/$NAME")
    # all machines at once, or none
    if [[ $CAPACITY =~ ^(flex-start|reservation)$ ]]; then group+=(--target-size-policy-mode=bulk); fi
    zonal instance-groups managed create "$NAME" "${group[@]}"
}

give_back() {
    local status=0
    if ((HOSTS == 1)); then zonal instances delete "$NAME"; return; fi
    zonal instance-groups managed delete "$NAME" || status=$?
    compute instance-templates delete "$NAME" || true
    compute resource-policies delete "$NAME" --region="${ZONE%-*}" || true
    return "$status"
}

# What gcloud says of each machine, one a line.
described() {
    if ((HOSTS == 1)); then zonal instances describe "$NAME" '--format=value(status)'; return; fi
    zonal instance-groups managed list-instances "$NAME" '--format=value(name,instanceStatus)'
}

state() {
    local found error shown=$1
    if [[ $1 == ACTIVE ]]; then shown=$(for ((i = 0; i < HOSTS; i++)); do echo RUNNING; done); fi
    error=$(mktemp)
    if ! found=$(ask "$shown" described 2>"$error"); then
        if grep -qiE 'not.found' "$error"; then echo ABSENT; else echo "UNKNOWN: $(cat "$error")"; fi
    elif [[ $found == ABSENT ]]; then
        echo ABSENT
    elif [[ $found =~ (STOPPING|STOPPED|TERMINATED|SUSPENDING|SUSPENDED) ]]; then
        echo "SUSPENDED, its machines are ${found//$'\n'/ }"
    elif [[ ! $found ]]; then
        if ((HOSTS > 1)); then echo "SUSPENDED, it has no machines"; else echo UNKNOWN; fi
    elif (($(grep -c RUNNING <<<"$found") == HOSTS)); then
        echo ACTIVE
    else
        echo "WAITING, its machines are ${found//$'\n'/ }"
    fi
    rm -f "$error"
}

refine() { printf '%s\n' "$1"; }   # Compute Engine knows its machines

machines() {
    local shown i
    if ((HOSTS == 1)); then echo "$NAME"; return; fi
    shown=$(for ((i = 0; i < HOSTS; i++)); do echo "$NAME-$i"; done)
    ask "$shown" zonal instance-groups managed list-instances "$NAME" '--format=value(instance.basename())'
}

reached() {
    case $ADDRESSES in
        internal) echo --internal-ip ;;
        iap) echo --tunnel-through-iap ;;
    esac
}

# shellcheck disable=SC2046
on_machine() { zonal ssh "$2" --command="$1" $(reached); }

# shellcheck disable=SC2046
to_machine() { zonal scp --recurse "$1" "$2:" $(reached); }

# each COMMAND WORD: with the name of every machine after it, at once; status 1 if one of them fails.
each() {
    local machine found running=() status=0 process
    found=$(machines) || return
    for machine in $found; do
        if [[ $DRY_RUN ]]; then "$@" "$machine"; else "$@" "$machine" & running+=($!); fi
    done
    for process in ${running[@]+"${running[@]}"}; do wait "$process" || status=1; done
    return "$status"
}

# on_workers WHICH COMMAND: a group does not say which machine is which worker. So each is asked, and one goes on.
on_workers() {
    local number=$1
    if [[ $1 == first ]]; then number=0; fi
    if [[ $1 == all || $HOSTS == 1 ]]; then each on_machine "$2"; return; fi
    each on_machine "[ \$(bash $FOLDER/worker.sh metadata worker-id) != $number ] || $2"
}

to_workers() { each to_machine "$1"; }

from_worker() {
    local machine=$NAME
    if ((HOSTS > 1)); then machine=$(ask "$NAME-0" on_workers first hostname) || return; fi
    # shellcheck disable=SC2046
    zonal scp --recurse "$machine:$FOLDER/$1" . $(reached)
}

DISK=${DISK:-200} IMAGE_FAMILY=${IMAGE_FAMILY:-}
exec 3>&1
main "${BASH_SOURCE[0]}" "$@"
