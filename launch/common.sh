# What the launchers share; sourced by them with their arguments, not run.
# shellcheck shell=bash

set -euo pipefail
here=$(dirname "$0")

# Without CONFIG and WORKDIR: the head of the script says how it is used.
if (($# < 2)); then
  sed -n '2,/^$/s/^# \{0,1\}//p' "$0" >&2
  exit 2
fi

# Ends with one line.
die() {
  echo "$0: $1" >&2
  exit 2
}

# Ends unless all these variables are set.
need() {
  local variable missing=()
  for variable in "$@"; do
    [[ -n ${!variable:-} ]] || missing+=("$variable")
  done
  ((${#missing[@]} == 0)) || die "set ${missing[*]}; without arguments it says what they are"
}

# Words as they could be typed.
quoted() {
  local word words=()
  for word in "$@"; do
    [[ $word =~ ^[[:alnum:]_./:=,@%+-]+$ ]] || word=${word@Q}
    words+=("$word")
  done
  printf '%s' "${words[*]}"
}

# Runs a command, or with DRY_RUN=1 only prints it.
run() {
  if [[ ${DRY_RUN:-0} == 1 ]]; then
    printf '%s\n' "$(quoted "$@")"
  else
    "$@"
  fi
}

# The line that trains, quoted for a shell: train_line CONFIG WORKDIR [FLAG ...]
train_line() {
  quoted vitjax train --config "$1" --workdir "$2" "${@:3}"
}

# What a TPU machine is told, for a shell: it installs the commit that is checked out here, and trains.
line_there() {
  local repository revision
  repository=${REPOSITORY:-$(git -C "$here" remote get-url origin 2>/dev/null || true)}
  revision=${REVISION:-$(git -C "$here" rev-parse HEAD 2>/dev/null || true)}
  [[ $repository == *:* ]] || die 'set REPOSITORY to a URL from which the machine can clone'
  [[ -n $revision ]] || die 'set REVISION to a commit, branch or tag of REPOSITORY'
  printf '%s' "$(quoted bash -s "$repository" "$revision") $(train_line "$@")"
}

# Trains on a machine: train_on NAME LINE [FLAG ...]
train_on() {
  run gcloud compute ssh "$1" "${@:3}" --command="$2" <"$here/on_machine.sh"
}

# Waits until a machine takes connections, which is some time after it was made: reach NAME [FLAG ...]
reach() {
  local try
  for try in {1..30}; do
    if run gcloud compute ssh "$@" --command=true </dev/null; then
      return
    fi
    echo "$0: $1 does not answer yet ($try)" >&2
    sleep "${PAUSE:-10}"
  done
  die "no connection to $1"
}
