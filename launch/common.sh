# What the launchers share; sourced by them with their arguments, not run.
# shellcheck shell=bash

set -euo pipefail

# Without CONFIG and WORKDIR: the head of the script says how it is used.
if (($# < 2)); then
  sed -n '2,/^$/s/^# \{0,1\}//p' "$0" >&2
  exit 2
fi

# Runs a command, or with DRY_RUN=1 only prints it as it could be typed.
run() {
  if [[ ${DRY_RUN:-0} == 1 ]]; then
    printf '%s\n' "$(printf '%q ' "$@")" # a line at once, for hosts are started side by side
  else
    "$@"
  fi
}

# The line that every host runs, quoted for a shell: train_line CONFIG WORKDIR [FLAG ...]
train_line() {
  printf '%q ' vitjax train --config "$1" --workdir "$2" --distributed "${@:3}"
}

# What a fresh TPU machine runs first: this repository, a Python that is new enough, and vitjax.
install_line() {
  local repository=${REPOSITORY:-$(git -C "$(dirname "$0")" remote get-url origin)}
  printf '%s' \
    "{ test -d vitjax || git clone -q --depth 1 $(printf '%q' "$repository") vitjax; } && cd vitjax" \
    ' && curl -LsSf https://astral.sh/uv/install.sh | sh && . ~/.local/bin/env' \
    " && uv venv -q --allow-existing --python 3.12 ~/venv && . ~/venv/bin/activate" \
    " && uv pip install -q '.[tpu,gcs]'"
}
