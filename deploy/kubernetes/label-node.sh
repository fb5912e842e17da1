#!/bin/sh
# Labels a node by what `volt doctor` finds on it: volt/kvm, volt/landlock, volt/hugepages = yes or no.
# Run it where kubectl and the node's /dev/kvm are: label-node.sh NODE [VOLT]
set -eu
node=$1
facts=$("${2:-volt}" doctor --json || true)
state() {
  # The check's name and its state are in the same object.
  if printf '%s' "$facts" | tr -d ' \n' | grep -q "\"name\":\"$(printf '%s' "$1" | tr -d ' ')\",\"state\":\"ok\""; then echo yes; else echo no; fi
}
kubectl label --overwrite node "$node" \
  "volt/kvm=$(state 'virtual machine')" "volt/landlock=$(state Landlock)" "volt/hugepages=$(state 'huge pages')"
