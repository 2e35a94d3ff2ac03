#!/usr/bin/env bash
# The manifests that launch/gke.sh applies: the JobSet of a run, and Kueue's objects. Sourced; needs its variables.
# shellcheck disable=SC2154

# One word as YAML reads it back, and Kubernetes, which would replace $(NAME) in it.
yaml() {
    local text=$1
    text=${text//\\/\\\\} text=${text//\"/\\\"} text=${text//$'\n'/\\n} text=${text//$'\t'/\\t}
    text=${text//\$/\$\$}
    printf '"%s"' "$text"
}

# Lines of a pod's specification that depend on the capacity, indented by $1.
selectors() {
    local line lines=()
    case $CAPACITY in
        spot) lines=('cloud.google.com/gke-spot: "true"') ;;
        reservation) lines=("cloud.google.com/reservation-name: $RESERVATION") ;;
        flex-start)
            if [[ $QUEUE ]]; then
                lines=('cloud.google.com/gke-queued: "true"')
            else
                lines=('cloud.google.com/gke-flex-start: "true"')
            fi ;;
    esac
    for line in ${lines[@]+"${lines[@]}"}; do printf '%s%s\n' "$1" "$line"; done
}

# pod_script COMMAND ARGUMENT...: what a container runs, with the arguments as its own. The user's files come from a folder
# next to WORKDIR; there goes what a command writes, since a pod keeps nothing. A run of `train` writes to WORKDIR itself.
pod_script() {
    local argument place written=() copy='import sys, gcsfs; gcsfs.GCSFileSystem()'
    place=$(quote "${WORKDIR%/}.files/")
    if [[ $OWN ]]; then printf "python -c '%s.get(sys.argv[1], \".\", recursive=True)' %s && " "$copy" "$place"; fi
    if [[ $1 == train ]]; then printf 'exec python -u -m sar_jax.train "$@"'; return; fi
    for argument in "${@:2}"; do
        case $argument in --output=* | --html=* | --png=*) written+=("$(quote "${argument#*=}")") ;; esac
    done
    printf 'python -u -m sar_jax.%s "$@"' "$1"
    if ((${#written[@]})); then
        printf " && python -c '%s.put(sys.argv[2:], sys.argv[1], recursive=True)' %s" "$copy" "$place ${written[*]}"
    fi
}

# jobset_manifest COMMAND ARGUMENT...
#
# GKE tells each pod which worker of its slice it is, and of several slices which slice (TPU_WORKER_ID, MEGASCALE_...): JAX
# finds the rest. The JobSet makes the headless service that gives the pods their names.
jobset_manifest() {
    jobset_head
    cat <<YAML
spec:
  ttlSecondsAfterFinished: $KEEP
  network:
    enableDNSHostnames: true
    subdomain: $NAME
  failurePolicy:
    # A lost machine or a failed pod restarts all of them. They have the same --workdir, so the run goes on from its last
    # checkpoint there.
    maxRestarts: $RESUMES
    rules:
    - name: wrongSettings
      action: FailJobSet
      onJobFailureReasons: [PodFailurePolicy]
  replicatedJobs:
  - name: slice
    replicas: $SLICES
    template:
      spec:
        completions: $HOSTS
        parallelism: $HOSTS
        completionMode: Indexed
        backoffLimit: 0   # JobSet restarts, not the Job: a slice works as a whole or not at all
        podFailurePolicy:
          rules:
          - action: FailJob
            onExitCodes:
              containerName: train
              operator: In
              values: [2]   # an error in the settings: it would be the same the next time
        template:
          spec:
$(pod_template "$@")
YAML
}

jobset_head() {
    printf '%s\n' 'apiVersion: jobset.x-k8s.io/v1alpha2' 'kind: JobSet' 'metadata:' "  name: $NAME"
    if [[ $QUEUE ]]; then printf '  labels:\n    kueue.x-k8s.io/queue-name: %s\n' "$QUEUE"; fi
    echo '  annotations:'
    echo '    alpha.jobset.sigs.k8s.io/exclusive-topology: cloud.google.com/gke-nodepool   # each Job on one slice'
    if [[ $QUEUE && $CAPACITY == flex-start ]]; then
        echo "    provreq.kueue.x-k8s.io/maxRunDurationSeconds: \"$MAX_RUN_SECONDS\""
    fi
}

# pod_template COMMAND ARGUMENT...
pod_template() {
    local argument script
    script=$(pod_script "$@")
    cat <<YAML
            restartPolicy: Never
            terminationGracePeriodSeconds: 600   # to finish the step and save; spot machines give less
            serviceAccountName: $SERVICE_ACCOUNT
            nodeSelector:
              cloud.google.com/gke-tpu-accelerator: $LABEL
              cloud.google.com/gke-tpu-topology: $TOPOLOGY
$(selectors '              ')
            tolerations:   # of the taints that GKE gives to such nodes
            - {key: google.com/tpu, operator: Exists}
            - {key: cloud.google.com/gke-queued, operator: Exists}
            containers:
            - name: train
              image: $(yaml "$IMAGE")
              command: [bash, -c, $(yaml "$script"), run]
              args:
$(for argument in "${@:2}"; do printf '              - %s\n' "$(yaml "$argument")"; done)
$(
    if [[ $ENV_FILE ]]; then printf '              envFrom:\n              - secretRef: {name: %s}\n' "$NAME"; fi
)
              resources:
                limits:
                  google.com/tpu: $CHIPS_A_HOST
YAML
}

# A flavour of these slices, a queue that has all their chips, and the user's queue. Flex-start asks for the machines first.
queue_manifest() {
    cat <<YAML
apiVersion: kueue.x-k8s.io/v1beta1
kind: ResourceFlavor
metadata:
  name: $NAME
spec:
  nodeLabels:
    cloud.google.com/gke-tpu-accelerator: $LABEL
    cloud.google.com/gke-tpu-topology: $TOPOLOGY
---
apiVersion: kueue.x-k8s.io/v1beta1
kind: ClusterQueue
metadata:
  name: $NAME
spec:
  namespaceSelector: {}
$(if [[ $CAPACITY == flex-start ]]; then echo "  admissionChecks: [$NAME]"; fi)
  resourceGroups:
  - coveredResources: [google.com/tpu]
    flavors:
    - name: $NAME
      resources:
      - name: google.com/tpu
        nominalQuota: $((CHIPS * SLICES))
---
apiVersion: kueue.x-k8s.io/v1beta1
kind: LocalQueue
metadata:
  name: $QUEUE
spec:
  clusterQueue: $NAME
YAML
    if [[ $CAPACITY != flex-start ]]; then return; fi
    cat <<YAML
---
apiVersion: kueue.x-k8s.io/v1beta1
kind: AdmissionCheck
metadata:
  name: $NAME
spec:
  controllerName: kueue.x-k8s.io/provisioning-request
  parameters:
    apiGroup: kueue.x-k8s.io
    kind: ProvisioningRequestConfig
    name: $NAME
---
apiVersion: kueue.x-k8s.io/v1beta1
kind: ProvisioningRequestConfig
metadata:
  name: $NAME
spec:
  provisioningClassName: queued-provisioning.gke.io
  managedResources: [google.com/tpu]
  podSetUpdates:
    nodeSelector:
    - key: autoscaling.gke.io/provisioning-request
      valueFromProvisioningClassDetail: ResizeRequestName
YAML
}
