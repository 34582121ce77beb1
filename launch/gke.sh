#!/usr/bin/env bash
# Trains on TPUs of a GKE cluster, as a JobSet that xpk makes, on any number of slices.
#
#   PROJECT=... ZONE=... CLUSTER=... NAME=run1 IMAGE=... TPU_TYPE=v6e-16 \
#     launch/gke.sh CONFIG WORKDIR [--config.KEY=VALUE ...]
#
# IMAGE      a Docker image with vitjax[tpu,gcs] and the recipe
# TPU_TYPE   v5litepod-16, v5p-8, v6e-16, tpu7x-8 ...
# SLICES     default 1; config.mesh.data must be a multiple
# RESTARTS   how often a preempted run is started again, default 50
# GRACE      seconds from SIGTERM to SIGKILL, for the last checkpoint, default 120
# DRY_RUN=1  prints the command and runs none
# WORKDIR is gs://BUCKET/RUN, or a folder that all containers share (xpk storage attach).
# The cluster is made once: xpk cluster create --cluster=CLUSTER --tpu-type=TPU_TYPE --num-slices=SLICES

# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "$0")/common.sh"

need PROJECT ZONE CLUSTER NAME IMAGE TPU_TYPE
run xpk workload create --project="$PROJECT" --zone="$ZONE" --cluster="$CLUSTER" \
  --workload="$NAME" --docker-image="$IMAGE" --tpu-type="$TPU_TYPE" --num-slices="${SLICES:-1}" \
  --max-restarts="${RESTARTS:-50}" --termination-grace-period-seconds="${GRACE:-120}" \
  --command="$(train_line "$@" --distributed)"
