#!/usr/bin/env bash
# Trains on a slice of several TPU hosts, made as a managed instance group of Compute Engine.
#
#   PROJECT=... ZONE=... NAME=run1 TOPOLOGY=4x4 launch/tpu_slice.sh CONFIG WORKDIR [--config.KEY=VALUE ...]
#
# TOPOLOGY      of the chips, four on each host, such as 4x4 of v6e, or 2x2x2 of v5p and tpu7x
# MACHINE_TYPE  ct6e-standard-4t (default), ct5p-hightpu-4t, tpu7x-standard-4t
# IMAGE_FAMILY, REPOSITORY, REVISION, CREATE, DRY_RUN  as in tpu_vm.sh
# WORKDIR is gs://BUCKET/RUN, or a folder that all hosts share, such as a mounted Filestore.
#
# The run goes on when the connection ends. To stop it with all saved, on any of the hosts:
#   gcloud compute ssh HOST --command="pkill -TERM -f '[b]in/vitjax train'"
# To remove all: delete the instance group, the instance template and the resource policy NAME.

# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "$0")/common.sh"

need PROJECT ZONE NAME TOPOLOGY
[[ $TOPOLOGY =~ ^[1-9][0-9]*x[1-9][0-9]*(x[1-9][0-9]*)?$ ]] || die "TOPOLOGY is like 4x4 or 2x2x2, not $TOPOLOGY"
hosts=$((${TOPOLOGY//x/*} / 4))
((hosts > 1)) || die "TOPOLOGY $TOPOLOGY is that of one host; launch/tpu_vm.sh is for these"
place=(--project="$PROJECT" --zone="$ZONE")
region=${ZONE%-*}
# All hosts run the same line at the same time; the slice tells JAX which is which.
line=$(line_there "$@" --distributed)
if [[ ${CREATE:-1} == 1 ]]; then
  # The policy joins the machines by the TPU's own links; one that fails is not replaced alone.
  run gcloud compute resource-policies create workload-policy "$NAME" \
    --project="$PROJECT" --region="$region" \
    --type=HIGH_THROUGHPUT --accelerator-topology="$TOPOLOGY"
  run gcloud compute instance-templates create "$NAME" --project="$PROJECT" \
    --machine-type="${MACHINE_TYPE:-ct6e-standard-4t}" \
    --image-project=ubuntu-os-accelerator-images \
    --image-family="${IMAGE_FAMILY:-ubuntu-accel-2204-amd64-tpu-v5e-v5p-v6e}" \
    --boot-disk-size=200GB --boot-disk-type=hyperdisk-balanced \
    --maintenance-policy=TERMINATE --scopes=cloud-platform
  run gcloud compute instance-groups managed create "$NAME" "${place[@]}" \
    --template="$NAME" --size="$hosts" --default-action-on-vm-failure=do-nothing \
    --workload-policy="projects/$PROJECT/regions/$region/resourcePolicies/$NAME"
  run gcloud compute instance-groups managed wait-until "$NAME" "${place[@]}" --stable
fi

if [[ ${DRY_RUN:-0} == 1 ]]; then
  listed=$(seq -f "$NAME-%g" "$hosts")
else
  listed=$(gcloud compute instance-groups managed list-instances "$NAME" "${place[@]}" \
    --format='value(name)')
fi
mapfile -t machines <<<"$listed"
((${#machines[@]} == hosts)) || die "$NAME has ${#machines[@]} machines, TOPOLOGY $TOPOLOGY takes $hosts"
for machine in "${machines[@]}"; do
  reach "$machine" "${place[@]}" # one after the other, for the first makes the key of all
done
pids=()
for machine in "${machines[@]}"; do
  train_on "$machine" "$line" "${place[@]}" &
  pids+=($!)
done
status=0
for pid in "${pids[@]}"; do
  wait "$pid" || status=$?
done
exit "$status"
