/** The Linux guest of the snapshot tests: disks under fio with verification, TCP, vsock, and a shell on vsock. */
import type { DebianKernel } from '../../scripts/debian-kernel.ts';
import { ensurePackages } from '../../scripts/host-packages.ts';
import { buildDeviceInitrd } from './device-initrd.ts';

const MODULES = [
  'virtio_mmio',
  'virtio_blk',
  'virtio_net',
  'vmw_vsock_virtio_transport',
  'ext4',
  'crc32c_generic',
];
const PROGRAMS = ['fio', 'iperf3', 'socat', 'e2fsck'];

/** Ports of vsock in the guest: cat, and a shell. */
export const PORTS = { echo: 80, shell: 81 } as const;
export const ADDRESS = { host: '10.0.7.1', guest: '10.0.7.2' } as const;

/**
 * Counts in files of /tmp, which a shell on vsock reads, so that the console stays short. /dev/vda has the file
 * system, /dev/vdb is fio's alone.
 */
const GUEST = `
export LD_LIBRARY_PATH=/lib/x86_64-linux-gnu
mkdir -p /mnt /run /var
echo "VOLT-GUEST modules loaded"
mount -t ext4 /dev/vda /mnt || exit 1
ip addr add ${ADDRESS.guest}/24 dev eth0
ip link set lo up
ip link set eth0 up
echo "VOLT-GUEST mounted, network up"
socat VSOCK-LISTEN:${PORTS.echo},fork EXEC:cat &
socat VSOCK-LISTEN:${PORTS.shell},fork EXEC:/bin/sh &
(while :; do
  for cpu in /sys/devices/system/cpu/cpu[1-9]*/online; do
    [ "$(cat $cpu)" = 1 ] || echo 1 >$cpu
  done
  sleep 1
done) &
(rounds=0
while [ ! -e /tmp/stop ]; do
  fio --name=raw --filename=/dev/vdb --ioengine=libaio --direct=1 --iodepth=8 --rw=randrw --bsrange=4k-32k \\
    --size=1M --verify=crc32c --verify_fatal=1 --eta=never --output=/tmp/fio.out </dev/null
  code=$?
  [ $code = 0 ] || { cp /tmp/fio.out /tmp/fio.failed; echo "VOLT-GUEST fio failed $code"; break; }
  rounds=$((rounds + 1)); echo $rounds >/tmp/fio
done) &
(rounds=0
while [ ! -e /tmp/stop ]; do
  dd if=/dev/urandom of=/mnt/file bs=64k count=4 2>/dev/null
  sum=$(md5sum </mnt/file); sync; echo 1 >/proc/sys/vm/drop_caches
  [ "$sum" = "$(md5sum </mnt/file)" ] || { echo "VOLT-GUEST file differs"; break; }
  rounds=$((rounds + 1)); echo $rounds >/tmp/files
done) &
(rounds=0
while [ ! -e /tmp/stop ]; do
  iperf3 -c ${ADDRESS.host} -n 128K >/tmp/iperf.out 2>&1 && { rounds=$((rounds + 1)); echo $rounds >/tmp/net; }
  sleep 0.2
done) &
echo "VOLT-GUEST started all"
for what in fio files net; do until [ -e /tmp/$what ]; do sleep 0.2; done; echo "VOLT-GUEST first $what"; done
echo "VOLT-GUEST busy"
while :; do sleep 3600; done
`;

export async function buildSnapshotInitrd(kernel: DebianKernel): Promise<Uint8Array> {
  await ensurePackages(['fio', 'iperf3', 'socat', 'e2fsck', 'mkfs.ext4', 'ip']);
  return buildDeviceInitrd(kernel, { modules: MODULES, programs: PROGRAMS, script: GUEST });
}
