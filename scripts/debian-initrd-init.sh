#!/bin/sh
# Init of the initrd that debian-image.ts makes: loads the disk's drivers, mounts the root, hands over to its init.
# Words of the kernel's command line: root= (default /dev/vda), rootflags=, ro (default rw), init=.

export PATH=/bin
/bin/busybox mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev 2>/dev/null

while read -r module; do
  insmod "/modules/$module.ko" || echo "initrd: cannot load $module"
done </modules/order

root=/dev/vda mode=rw flags='' init=/sbin/init
for word in $(cat /proc/cmdline); do
  case "$word" in
    root=*) root=${word#root=} ;;
    rootflags=*) flags=,${word#rootflags=} ;;
    init=*) init=${word#init=} ;;
    ro | rw) mode=$word ;;
  esac
done

# Drivers find their disks while they are loaded; the wait is for those that take their time.
tries=0
while [ ! -b "$(findfs "$root" 2>/dev/null || echo "$root")" ] && [ "$tries" -lt 50 ]; do
  tries=$((tries + 1))
  usleep 100000
done
root=$(findfs "$root" 2>/dev/null || echo "$root")
if ! mount -t ext4 -o "$mode$flags" "$root" /root; then
  echo "initrd: Cannot mount $root: here are the disks (expected one with ext4; name it with root= on the command line)"
  cat /proc/partitions
  setsid cttyhack sh
  reboot -f
fi

umount /proc /sys
mount -o move /dev /root/dev
exec switch_root /root "$init"
