#!/usr/bin/env bash
# What a TPU machine runs, sent to it by tpu_vm.sh and tpu_slice.sh: installs, trains whether or not the
# connection lasts, and shows the log to its end. Where it trains already, it only shows the log; the log
# of a training that has ended is kept as vitjax.log.old.
#
#   ssh MACHINE bash -s REPOSITORY REVISION vitjax train ... < launch/on_machine.sh

set -euo pipefail

install_and_train() {
  cd
  test -d vitjax || git clone -q "$1" vitjax
  cd vitjax
  git fetch -q "$1" "$2"
  git checkout -q FETCH_HEAD
  curl -LsSf https://astral.sh/uv/install.sh | sh
  # shellcheck source=/dev/null
  source ~/.local/bin/env
  uv venv -q --allow-existing --python 3.12 ~/venv
  # shellcheck source=/dev/null
  source ~/venv/bin/activate
  uv pip install -q '.[tpu,gcs]'
  exec "${@:3}"
}

keep_status() {
  trap '' HUP
  set +e
  (set -e && install_and_train "$@")
  echo $? >~/vitjax.status
}

main() {
  exec 9>~/vitjax.lock
  if flock --nonblock 9; then # which what is started here holds until it ends
    rm -f ~/vitjax.status
    test ! -e ~/vitjax.log || mv ~/vitjax.log ~/vitjax.log.old
    : >~/vitjax.log # before it is shown
    keep_status "$@" >>~/vitjax.log 2>&1 </dev/null &
    echo $! >~/vitjax.pid
  fi
  exec 9>&-
  tail -n +1 -f --pid="$(cat ~/vitjax.pid)" ~/vitjax.log
  exit "$(cat ~/vitjax.status)"
}

main "$@"
