#!/bin/sh
# The agent of a nested host (nested-host.ts): serves jobs on ttyS1 until the machine ends.
#
# AGENT_ROOT is the root of what jobs see; the exchange share is at /run/nested/exchange below it. Protocol, one line
# each:
#   in:   run ID none|file|pieces | input ID N | input ID end | kill ID
#   out:  ready KVM(yes|no) | open ID | done ID EXITCODE
# A job is a folder jobs/ID in the exchange share: `command` (a shell script) and `stdin` (or, when it is written
# while the job runs, `stdin.N`, to be announced by `input` once the job is `open`) come from outside; `stdout` and
# `stderr` are written here as the job runs, so that the outside may follow them.

run_job=${0%/*}/run-job
export AGENT_STATE=$AGENT_ROOT/run/nested/jobs
mkdir -p "$AGENT_STATE"

stty -F /dev/ttyS1 raw -echo
exec 3<>/dev/ttyS1
kvm=no
[ ! -c /dev/kvm ] || kvm=yes
echo "ready $kvm" >&3
# Busybox's `read` forgets the part of a line it has when a child ends meanwhile (SIGCHLD). So the reader has no
# lasting children: it is not process 1, and jobs are orphaned to process 1 at once.
serve() {
  while read -r verb id argument; do
    case "$verb" in
      # A session of its own, so that `kill` reaches all of the job.
      run) (setsid "$run_job" "$id" "$argument" & echo $! >"$AGENT_STATE/$id.pid") ;;
      # Opened for both directions, a pipe never blocks here.
      input) [ ! -p "$AGENT_STATE/$id.pieces" ] || echo "$argument" 1<>"$AGENT_STATE/$id.pieces" ;;
      kill)
        [ -f "$AGENT_STATE/$id.pid" ] || continue
        read -r pid <"$AGENT_STATE/$id.pid"
        kill -KILL "-$pid"
        echo "done $id 137" >&3
        ;;
    esac
  done <&3
}
(serve)
