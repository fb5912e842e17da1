#!/bin/sh
# Says what the kernel knows of each NUMA node.
for folder in /sys/devices/system/node/node[0-9]*; do
  node=${folder##*node}
  echo "VOLT-GUEST node $node: cpus=$(cat "$folder/cpulist") distance=$(cat "$folder/distance")"
  echo "VOLT-GUEST node $node memory=$(sed -n 's/.*MemTotal: *\([0-9]*\) kB/\1/p' "$folder/meminfo")"
done
