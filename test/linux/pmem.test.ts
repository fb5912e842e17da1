/** Debian's virtio_pmem: a file system that the guest maps past its page cache (DAX), found again by the host. */
import { afterAll, expect } from 'bun:test';
import { mkdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fetchDebianKernel, type DebianKernel } from '../../scripts/debian-kernel.ts';
import { ensurePackages } from '../../scripts/host-packages.ts';
import { buildDeviceInitrd } from './device-initrd.ts';
import { beforeAll, LINUX_TEST, runOnLinuxHost, stopLinuxHost, thorough, VOLT } from './linux-host.ts';

const SECONDS = 300;
const cache = resolve(import.meta.dir, '../../.cache/test');
const initrd = join(cache, 'pmem-initrd');
let kernel: DebianKernel;

/** The first life ends by a reset right after the flush, with everything mounted. */
const GUEST = `
echo "VOLT-GUEST pmem0 sectors=$(cat /sys/block/pmem0/size) dax=$(cat /sys/block/pmem0/queue/dax)"
mkdir /mnt /ro
if mount -t ext4 -o dax /dev/pmem0 /mnt 2>/dev/null; then
  echo "VOLT-GUEST again $(cat /mnt/hello)"
  (cd /mnt && md5sum -c sums) >/dev/null && echo "VOLT-GUEST same"
  mount -t ext4 -o ro,dax,noload /dev/pmem1 /ro && echo "VOLT-GUEST read-only $(cat /ro/known)"
  dd if=/dev/zero of=/dev/pmem1 bs=64k count=1 conv=fsync 2>/dev/null && echo "VOLT-GUEST wrote over it"
  umount /mnt
  poweroff -f
fi
mkfs.ext4 -q -b 4096 /dev/pmem0 && echo "VOLT-GUEST made a file system"
mount -t ext4 -o dax /dev/pmem0 /mnt && grep pmem0 /proc/mounts | sed 's/^/VOLT-GUEST /'
echo hello > /mnt/hello
for i in 1 2 3 4; do dd if=/dev/urandom of=/mnt/$i bs=1M count=2 2>/dev/null; done
(cd /mnt && md5sum 1 2 3 4) > /tmp/sums && cp /tmp/sums /mnt/sums
dd if=/dev/vda of=/mnt/fromdisk bs=1M count=1 iflag=fullblock 2>/dev/null && md5sum < /mnt/fromdisk | sed 's/^/VOLT-GUEST disk /'
sync
reboot -f
`;

beforeAll(async () => {
  mkdirSync(cache, { recursive: true });
  await ensurePackages(['mkfs.ext4', 'e2fsck']);
  kernel = await fetchDebianKernel('amd64');
  const modules = ['virtio_mmio', 'virtio_blk', 'virtio_pmem', 'nd_pmem', 'ext4', 'crc32c_generic'];
  await Bun.write(
    initrd,
    await buildDeviceInitrd(kernel, { modules, programs: ['mkfs.ext4'], script: GUEST }),
  );
}, LINUX_TEST.timeout);

afterAll(stopLinuxHost);

thorough(
  'a Debian guest maps a file system in a file, and what it made safe is there after its reset and for the host',
  async () => {
    const script = `
      dir=$(mktemp -d); cd $dir
      trap 'rm -r $dir' EXIT
      truncate -s 48M image; truncate -s 16M known.img
      dd if=/dev/urandom of=disk bs=1M count=1 2>/dev/null; md5sum < disk | sed 's/^/disk /'
      mkdir files; echo known > files/known; mkfs.ext4 -q -F -b 4096 -d files known.img; md5sum known.img > sum
      ${VOLT} --cpus 1 --memory 512M --kernel ${kernel.vmlinux} --initrd ${initrd} --disk path=disk,readonly \\
        --pmem path=image --pmem path=known.img,readonly \\
        --cmdline "console=ttyS0 reboot=k panic=-1 quiet volt.run=check" </dev/null
      code=$?
      e2fsck -fn image >/dev/null 2>&1 && echo clean
      echo "found $(debugfs -R 'cat /hello' image 2>/dev/null)"
      md5sum -c sum
      exit $code`;

    const { stdout, stderr, exitCode } = await runOnLinuxHost(['sh', '-c', script], SECONDS);

    expect(stderr).toBe('');
    expect(stdout).toContain('VOLT-GUEST pmem0 sectors=98304 dax=1');
    expect(stdout).toContain('VOLT-GUEST made a file system');
    expect(stdout).toMatch(/VOLT-GUEST \/dev\/pmem0 \/mnt ext4 .*\bdax\b/);
    expect(/^disk (\w+)/m.exec(stdout)![1]!).toBe(/VOLT-GUEST disk (\w+)/.exec(stdout)![1]!);
    expect(stdout).toContain('VOLT-GUEST again hello');
    expect(stdout).toContain('VOLT-GUEST same');
    expect(stdout).toContain('VOLT-GUEST read-only known');
    expect(stdout).toContain('VOLT-GUEST wrote over it');
    expect(stdout).toContain('clean\nfound hello\nknown.img: OK\n');
    expect(exitCode).toBe(0);
  },
  LINUX_TEST,
);
