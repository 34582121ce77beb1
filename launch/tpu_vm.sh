#!/usr/bin/env bash
# Trains on one TPU VM of Compute Engine: makes it, installs, trains.
#
#   PROJECT=... ZONE=... NAME=run1 launch/tpu_vm.sh CONFIG WORKDIR [--config.KEY=VALUE ...]
#
# MACHINE_TYPE  ct6e-standard-8t (default, eight v6e chips), ct5p-hightpu-4t, tpu7x-standard-4t ...
# IMAGE_FAMILY  of ubuntu-os-accelerator-images, default ubuntu-accel-2204-amd64-tpu-v5e-v5p-v6e;
#               for tpu7x it is ubuntu-accel-2404-amd64-tpu-tpu7x
# REPOSITORY    a URL from which the VM clones this repository, default: the remote `origin`
# REVISION      what it installs, default: the commit that is checked out here, which must be pushed
# CREATE=0      the VM is there already: to train on after a stop, or to see the log of what trains
# DRY_RUN=1     prints the commands and runs none
# WORKDIR is gs://BUCKET/RUN, which outlives the VM, or a folder on it.
#
# The run goes on when the connection ends. To stop it with all saved:
#   gcloud compute ssh NAME --command="pkill -TERM -f '[b]in/vitjax train'"
# To remove the VM: gcloud compute instances delete NAME --zone=ZONE

# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "$0")/common.sh"

need PROJECT ZONE NAME
place=(--project="$PROJECT" --zone="$ZONE")
line=$(line_there "$@")
if [[ ${CREATE:-1} == 1 ]]; then
  run gcloud compute instances create "$NAME" "${place[@]}" \
    --machine-type="${MACHINE_TYPE:-ct6e-standard-8t}" \
    --image-project=ubuntu-os-accelerator-images \
    --image-family="${IMAGE_FAMILY:-ubuntu-accel-2204-amd64-tpu-v5e-v5p-v6e}" \
    --boot-disk-size=200GB --boot-disk-type=hyperdisk-balanced \
    --maintenance-policy=TERMINATE --scopes=cloud-platform
fi
reach "$NAME" "${place[@]}"
train_on "$NAME" "$line" "${place[@]}"
