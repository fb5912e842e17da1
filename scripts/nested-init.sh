#!/bin/sh
# Init of the nested host (nested-host.ts): mounts the outer machine's file system read-only below /root, which is what
# jobs see, then serves them.

export PATH=/bin
/bin/busybox mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev

while read -r module; do
  insmod "/modules/$module.ko" || echo "nested host: cannot load $module"
done </modules/order

p9_options=trans=virtio,version=9p2000.L,msize=512000
# Cached: the outer machine's programs must not change while the nested host runs.
mount -t 9p -o "$p9_options,cache=loose,ro" host /root || echo 'nested host: cannot mount the root share'
mount -o bind /dev /root/dev
mount -t proc proc /root/proc
mount -t sysfs sysfs /root/sys
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /root/dev/pts
mount -t tmpfs tmpfs /root/dev/shm
ln -s /proc/self/fd /dev/fd
ln -s /proc/self/fd/0 /dev/stdin
ln -s /proc/self/fd/1 /dev/stdout
ln -s /proc/self/fd/2 /dev/stderr

# A checkout below /tmp or /run would vanish behind the tmpfs: keep it at hand and bind it back.
mkdir /outer
mount -o bind /root /outer
mount -t tmpfs tmpfs /root/tmp
mount -t tmpfs tmpfs /root/run
while read -r path; do
  mkdir -p "/root$path"
  mount -o bind "/outer$path" "/root$path"
done </visible-paths

exchange=/root/run/nested/exchange
mkdir -p /root/run/nested/home "$exchange"
# Uncached: both sides see each other's writes at once.
mount -t 9p -o "$p9_options,cache=none" exchange "$exchange" || echo 'nested host: cannot mount the exchange share'
ip link set lo up
AGENT_ROOT=/root /agent/agent
