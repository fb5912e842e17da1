#!/bin/sh
# Runs one job of the nested host (see nested-agent.sh): $1 is its ID, $2 says where stdin comes from,
# descriptor 3 is the line to the outside.
#
# The command gets pipes rather than 9p files, as under any test runner. They are the shell's own pipes: opening a
# named one may block, and in busybox a child that ends meanwhile (SIGCHLD) makes that open fail.

id=$1
files=$AGENT_ROOT/run/nested/exchange/jobs/$id
state=$AGENT_STATE/$id

run_command() {
  chroot "$AGENT_ROOT/" /bin/sh "/run/nested/exchange/jobs/$id/command" 3>&- 4>&- 5>&-
  echo $? >"$state.code"
}

# Copies stdin.0, stdin.1, ... as the agent announces them, until "end" comes from it or from the command's end.
feed_pieces() {
  echo "open $id" >&3
  while read -r piece <&4 && [ "$piece" != end ]; do
    cat "$files/stdin.$piece"
  done
}

run_with_stdin() {
  case "$1" in
    none) run_command </dev/null ;;
    file) cat "$files/stdin" | run_command ;;
    pieces)
      mkfifo "$state.pieces"
      # Both directions: opening does not block, and "end" is not lost when the command is done first.
      exec 4<>"$state.pieces"
      feed_pieces 2>/dev/null 5>&- | { run_command; echo end >&4; }
      ;;
  esac
}

# Descriptor 5 is the outer pipe, for stdout; stderr goes through the inner one.
{ run_with_stdin "$2" 2>&1 >&5 | cat >"$files/stderr"; } 5>&1 | cat >"$files/stdout"

code=1
read -r code <"$state.code"
rm -f "$state".*
echo "done $id $code" >&3
