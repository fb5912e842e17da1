/** The Linux guest of the PCI tests: Debian's modules without virtio_mmio, and what shows the bus and its interrupts. */
import type { DebianKernel } from '../../scripts/debian-kernel.ts';
import { ensurePackages } from '../../scripts/host-packages.ts';
import { buildDeviceInitrd } from './device-initrd.ts';

const MODULES = ['virtio_pci', 'virtio_blk', 'virtio_net', 'virtio_rng', 'virtio_balloon', 'virtio_console'];

const SCRIPT = `
  grep -H . /proc/cmdline
  lspci -nn 2>/dev/null | sed 's/^/VOLT-GUEST lspci /'
  lspci -vv 2>/dev/null | sed 's/^/VOLT-GUEST vv /'
  ls /sys/module | grep -c virtio_mmio | sed 's/^/VOLT-GUEST mmio-modules /'
  for disk in /sys/block/vd*; do
    name=\${disk##*/}
    echo "VOLT-GUEST $name serial=$(cat $disk/serial) queues=$(ls $disk/mq | wc -l)"
    fio --name=$name --filename=/dev/$name --ioengine=libaio --direct=1 --iodepth=16 --rw=randrw --bsrange=512-16k \\
      --blockalign=512 --size=256k --verify=crc32c --verify_fatal=1 --fsync=50 --eta=never --output=/tmp/fio-$name </dev/null &
  done
  wait
  for disk in /sys/block/vd*; do
    name=\${disk##*/}
    grep -q 'err= 0' /tmp/fio-$name && echo "VOLT-GUEST $name verified" || cat /tmp/fio-$name
  done
  i=0
  for net in /sys/class/net/eth*; do
    [ -e "$net" ] || continue
    name=\${net##*/}
    ip link set $name up; ip address add 10.77.$i.2/24 dev $name
    ping -c 3 -i 0.2 -W 5 10.77.$i.1 > /tmp/ping && echo "VOLT-GUEST $name answered"
    i=$((i + 1))
  done
  [ -c /dev/hwrng ] && dd if=/dev/hwrng bs=64 count=1 2>/dev/null | wc -c | sed 's/^/VOLT-GUEST random /'
  grep -E 'CPU|virtio|IO-APIC' /proc/interrupts | sed 's/^/VOLT-GUEST irq /'
  for irq in /proc/irq/[0-9]*; do
    [ -d $irq ] || continue
    for action in $irq/*/; do
      [ -d $action ] && echo "VOLT-GUEST affinity $(basename $action) $(cat $irq/effective_affinity_list)"
    done
  done
  dmesg | grep -iE 'pci|acpiphp|mmconfig|ECAM' | sed 's/^/VOLT-GUEST dmesg /'
`;

/** Waits for a disk and a network, uses both, and waits until they are gone again. */
const PLUG_SCRIPT = `
  dmesg -n 1
  echo "VOLT-GUEST waiting for devices"
  until [ -b /dev/vdb ] && [ -e /sys/class/net/eth0 ]; do sleep 0.2; done
  lspci -vv 2>/dev/null | grep -E '^00|Region' | sed 's/^/VOLT-GUEST vv /'
  echo "VOLT-GUEST vdb serial=$(cat /sys/block/vdb/serial)"
  dd if=/dev/urandom of=/tmp/data bs=64k count=4 2>/dev/null
  dd if=/tmp/data of=/dev/vdb bs=64k conv=fsync 2>/dev/null
  echo 3 > /proc/sys/vm/drop_caches
  cmp -n 262144 /tmp/data /dev/vdb && echo "VOLT-GUEST vdb holds its data"
  ip link set eth0 up; ip address add 10.78.0.2/24 dev eth0
  ping -c 3 -i 0.2 -W 5 10.78.0.1 > /tmp/ping && echo "VOLT-GUEST eth0 answered"
  grep virtio /proc/interrupts | sed 's/^/VOLT-GUEST irq /'
  echo "VOLT-GUEST used them"
  until ! [ -b /dev/vda ] && ! [ -b /dev/vdb ] && ! [ -e /sys/class/net/eth0 ]; do sleep 0.2; done
  echo "VOLT-GUEST they are gone"
  lspci -n 2>/dev/null | sed 's/^/VOLT-GUEST left /'
`;

/** Uses its disks and its network, round after round, while it is saved and restored. */
const ROUNDS_SCRIPT = `
  dmesg -n 1
  ip link set eth0 up; ip address add 10.79.0.2/24 dev eth0
  for round in 1 2 3 4 5 6; do
    for disk in /dev/vd?; do
      dd if=/dev/urandom of=/tmp/data bs=64k count=2 2>/dev/null
      dd if=/tmp/data of=$disk bs=64k conv=fsync 2>/dev/null
      echo 3 > /proc/sys/vm/drop_caches
      cmp -n 131072 /tmp/data $disk || echo "VOLT-GUEST $disk differs"
    done
    ping -c 1 -W 10 10.79.0.1 > /tmp/ping || echo "VOLT-GUEST no answer"
    echo "VOLT-GUEST round $round with $(ls /dev/vd? | wc -l) disks"
    [ $round != 2 ] || until [ -b /dev/vdb ]; do sleep 0.2; done
    sleep 1
  done
  grep virtio /proc/interrupts | sed 's/^/VOLT-GUEST irq /'
`;

export async function buildRoundsInitrd(kernel: DebianKernel): Promise<Uint8Array> {
  return buildDeviceInitrd(kernel, { modules: MODULES, script: ROUNDS_SCRIPT });
}

export async function buildPlugInitrd(kernel: DebianKernel): Promise<Uint8Array> {
  await ensurePackages(['lspci']);
  return buildDeviceInitrd(kernel, { modules: MODULES, programs: ['lspci'], script: PLUG_SCRIPT });
}

export async function buildPciInitrd(
  kernel: DebianKernel,
  modules: readonly string[] = MODULES,
): Promise<Uint8Array> {
  await ensurePackages(['fio', 'lspci']);
  return buildDeviceInitrd(kernel, { modules, programs: ['fio', 'lspci'], script: SCRIPT });
}
