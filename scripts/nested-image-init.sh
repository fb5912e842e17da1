#!/bin/sh
# Init of a nested host whose root is a disk image with systemd (nested-host.ts): mounts it, puts the agent beside it as
# a service that is there for this boot only, and hands over.

export PATH=/bin
/bin/busybox mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev

while read -r module; do
  insmod "/modules/$module.ko" || echo "nested host: cannot load $module"
done </modules/order

mount -t ext4 /dev/vda /root || echo 'nested host: cannot mount the image'
# systemd leaves a /run alone that is there when it starts.
mount -t tmpfs -o mode=755,nosuid,nodev tmpfs /root/run
units=/root/run/systemd/system
mkdir -p /root/run/nested/home /root/run/nested/exchange "$units/multi-user.target.wants"
cp -r /agent /root/run/nested/
mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,cache=none exchange /root/run/nested/exchange ||
  echo 'nested host: cannot mount the exchange share'
cat >"$units/nested-agent.service" <<'UNIT'
[Unit]
Description=Agent of the nested host
After=multi-user.target
[Service]
Environment=AGENT_ROOT=
ExecStart=/run/nested/agent/agent
# Jobs may stop whatever they like but the agent.
RefuseManualStop=yes
UNIT
ln -s ../nested-agent.service "$units/multi-user.target.wants/"

umount /proc /sys
mount -o move /dev /root/dev
exec switch_root /root /sbin/init
