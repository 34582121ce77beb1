#!/usr/bin/env bash
# Trains on GPUs of a SLURM cluster: submits a job in which one process a GPU runs the same line.
#
#   NODES=2 GPUS=8 launch/slurm.sh CONFIG WORKDIR [--config.KEY=VALUE ...]
#
# NODES, GPUS  machines, and GPUs in each, default 1 and 8
# CPUS         cores a GPU, for reading data, default 8
# TIME         default 24:00:00
# VENV         a virtual environment with vitjax[cuda] that all nodes see, default ~/venv
# SBATCH_PARTITION, SBATCH_ACCOUNT and the like are read by sbatch itself.
# DRY_RUN=1    prints the command and runs none
# WORKDIR is a folder that all nodes share. Two minutes before its time is up the job gets SIGTERM,
# saves, and is queued again; it then goes on where it was.

# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "$0")/common.sh"

# 143 is what vitjax answers to SIGTERM once everything is saved.
# shellcheck disable=SC2016
requeue='status=$?; [ $status -ne 143 ] || scontrol requeue $SLURM_JOB_ID; exit $status'
activate=". $(quoted "${VENV:-$HOME/venv}/bin/activate")"
cpus=${CPUS:-8}
# srun does not take over from sbatch how many cores a task has.
train="srun --cpus-per-task=$cpus $(train_line "$@" --distributed)"
run sbatch --job-name=vitjax --requeue --open-mode=append --signal=TERM@120 \
  --nodes="${NODES:-1}" --ntasks-per-node="${GPUS:-8}" --gpus-per-node="${GPUS:-8}" \
  --cpus-per-task="$cpus" --time="${TIME:-24:00:00}" \
  --wrap="$activate; $train; $requeue"
