/** The Linux guest of the disk tests: Debian's own virtio modules, ext4 and fio in an initrd. */
import { readFileSync } from 'node:fs';
import { dirname } from 'node:path';
import type { DebianKernel } from '../../scripts/debian-kernel.ts';
import { ensurePackages } from '../../scripts/host-packages.ts';
import { buildGuestInitrd, type InitrdEntry } from '../../scripts/initrd.ts';
import { collectModules } from '../../scripts/kernel-modules.ts';

const MODULES = ['virtio_mmio', 'virtio_blk', 'virtio_rng', 'ext4', 'crc32c_generic'];

/** What `volt.run=<name>` runs, after the modules are loaded. */
const CHECKS = {
  /** Every disk by fio with verification; a file system on the first; random numbers. */
  disks: `
    for disk in /sys/block/vd*; do
      name=\${disk##*/}
      echo "VOLT-GUEST $name serial=$(cat $disk/serial) ro=$(cat $disk/ro) queues=$(ls $disk/mq | wc -l)"
      [ "$(cat $disk/ro)" = 0 ] || continue
      fio --name=$name --filename=/dev/$name --ioengine=libaio --direct=1 --iodepth=16 --rw=randrw --bsrange=512-64k \\
        --blockalign=512 --size=8M --verify=crc32c --verify_fatal=1 --fsync=50 --output=/tmp/fio </dev/null
      echo "VOLT-GUEST $name fio=$?"
      grep -E 'verify|err' /tmp/fio | head -3
    done
    blkdiscard /dev/vda && cmp -n 65536 /dev/vda /dev/zero && echo VOLT-GUEST discarded
    dd if=/dev/hwrng of=/tmp/random bs=64k count=16 2>/dev/null
    echo "VOLT-GUEST random=$(gzip -c /tmp/random | wc -c)"
    grep virtio /proc/interrupts`,
  /** Block devices of the host: what is known of them, fio with verification past the page cache, discards. */
  devices: `
    for disk in /sys/block/vd*; do
      name=\${disk##*/}
      echo "VOLT-GUEST $name ro=$(cat $disk/ro) sectors=$(cat $disk/size) block=$(cat $disk/queue/logical_block_size)"
      [ "$(cat $disk/ro)" = 0 ] || continue
      block=$(cat $disk/queue/logical_block_size)
      fio --name=$name --filename=/dev/$name --ioengine=libaio --direct=1 --iodepth=16 --rw=randrw --bsrange=$block-64k \\
        --blockalign=$block --size=8M --verify=crc32c --verify_fatal=1 --fsync=50 --output=/tmp/fio </dev/null
      echo "VOLT-GUEST $name fio=$?"
    done
    blkdiscard /dev/vda && cmp -n 65536 /dev/vda /dev/zero && echo "VOLT-GUEST discarded"
    (echo no > /dev/vdc) 2>&1 | sed 's/.*: /VOLT-GUEST read-only: /'
    md5sum /dev/vdc | sed 's/^/VOLT-GUEST /'`,
  /** A file system made by the host: written, read back past the cache, trimmed. */
  files: `
    mount -t ext4 /dev/vda /root || exit 1
    for i in 1 2 3 4 5 6 7 8; do dd if=/dev/urandom of=/root/$i bs=64k count=8 2>/dev/null; done
    (cd /root && md5sum 1 2 3 4 5 6 7 8) > /tmp/sums
    sync; echo 3 > /proc/sys/vm/drop_caches
    (cd /root && md5sum -c /tmp/sums) && echo VOLT-GUEST same
    rm /root/1; fstrim /root && echo VOLT-GUEST trimmed
    umount /root`,
  /**
   * Load until somebody kills the machine: blocks with growing numbers on the second disk, each flushed before it is
   * told, and files on the first disk's file system meanwhile.
   */
  load: `
    mount -t ext4 /dev/vda /root || exit 1
    (while :; do for i in 1 2 3 4; do dd if=/dev/urandom of=/root/$i bs=16k count=4 2>/dev/null; done; sync; done) &
    i=0
    while :; do
      i=$((i + 1))
      printf '%-4096d' $i | dd of=/dev/vdb bs=4096 seek=$((i % 64)) conv=notrunc,fsync 2>/dev/null
      echo "VOLT-GUEST flushed $i"
    done`,
} as const;

export async function buildDiskInitrd(kernel: DebianKernel): Promise<Uint8Array> {
  await ensurePackages(['fio']);
  const fio = Bun.which('fio')!;
  const modules = collectModules(kernel.modulesDir, MODULES);
  const load = modules.map(({ name }) => `insmod /modules/${name}.ko`).join('\n');
  const checks = Object.entries(CHECKS).map(([name, script]): InitrdEntry => ({
    path: `checks/${name}`,
    mode: 0o755,
    data: `#!/bin/sh\nPATH=/bin:${dirname(fio)}\n${load}\n${script}\n`,
  }));
  return buildGuestInitrd([
    ...modules.map(({ name, data }): InitrdEntry => ({ path: `modules/${name}.ko`, mode: 0o644, data })),
    ...checks,
    ...withLibraries(fio),
  ]);
}

/** A program of this machine with all libraries that it loads, at their paths. */
function withLibraries(program: string): InitrdEntry[] {
  const listed = Bun.spawnSync(['ldd', program]).stdout.toString().match(/\/\S+/g) ?? [];
  return [...new Set([...listed, program])].map((path) => ({
    path: path.slice(1),
    mode: 0o755,
    data: readFileSync(path),
  }));
}
