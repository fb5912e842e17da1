#!/bin/sh
# Init of the nested host (nested-host.ts): mounts the outer machine's file system read-only, then serves jobs.
#
# Everything below /root is what jobs see. Protocol on ttyS1, one line each:
#   in:   run ID none|file|pieces | input ID N | input ID end | kill ID
#   out:  ready KVM(yes|no) | open ID | done ID EXITCODE
# A job is a folder jobs/ID in the exchange share: `command` (a shell script) and `stdin` (or, when it is written
# while the job runs, `stdin.N`, to be announced by `input` once the job is `open`) come from outside; `stdout` and
# `stderr` are written here as the job runs, so that the outside may follow them.

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

exchange=/root/run/volt/exchange
mkdir -p /root/run/volt/home "$exchange" /jobs
# Uncached: both sides see each other's writes at once.
mount -t 9p -o "$p9_options,cache=none" exchange "$exchange" || echo 'nested host: cannot mount the exchange share'
ip link set lo up

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
      run) (setsid /run-job "$id" "$argument" & echo $! >"/jobs/$id.pid") ;;
      # Opened for both directions, a pipe never blocks here.
      input) [ ! -p "/jobs/$id.pieces" ] || echo "$argument" 1<>"/jobs/$id.pieces" ;;
      kill)
        [ -f "/jobs/$id.pid" ] || continue
        read -r pid <"/jobs/$id.pid"
        kill -KILL "-$pid"
        echo "done $id 137" >&3
        ;;
    esac
  done <&3
}
(serve)
