/** Debian's virtiofs on folders of the host: files both ways, a reset of the guest, the end of virtiofsd. */
import { afterAll, expect } from 'bun:test';
import { mkdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fetchDebianKernel, type DebianKernel } from '../../scripts/debian-kernel.ts';
import { ensurePackages } from '../../scripts/host-packages.ts';
import { buildDeviceInitrd } from './device-initrd.ts';
import { beforeAll, LINUX_TEST, runOnLinuxHost, stopLinuxHost, thorough, VOLT } from './linux-host.ts';

const SECONDS = 300;
const BIG_BYTES = 24 * 2 ** 20;
const cache = resolve(import.meta.dir, '../../.cache/test');
const initrd = join(cache, 'share-initrd');
let kernel: DebianKernel;

/** The first life ends by a reset with everything mounted, the second by power-off. */
const GUEST = `
mkdir -p /mnt /ro
mount -t virtiofs files /mnt && mount -t virtiofs readable /ro && echo "VOLT-GUEST mounted"
echo life >> /mnt/lives
echo "VOLT-GUEST life $(wc -l < /mnt/lives)"
if [ "$(wc -l < /mnt/lives)" = 1 ]; then
  echo "VOLT-GUEST sum of big $(md5sum < /mnt/big | cut -d' ' -f1)"
  dd if=/dev/urandom of=/mnt/back bs=1M count=24 2>/dev/null
  echo "VOLT-GUEST sum of back $(md5sum < /mnt/back | cut -d' ' -f1)"
  echo some > /mnt/text
  mkdir /mnt/folder
  mv /mnt/text /mnt/folder/renamed
  echo text >> /mnt/folder/renamed
  echo "VOLT-GUEST read-only $(cat /ro/hello)"
  (echo no > /ro/file) 2>&1 | sed 's/.*: /VOLT-GUEST no new file: /'
  rm /ro/hello 2>&1 | sed 's/.*: /VOLT-GUEST no removal: /'
  (echo no > /ro/hello) 2>&1 | sed 's/.*: /VOLT-GUEST no writing: /'
  : > /mnt/wait
  reboot -f
fi
echo "VOLT-GUEST still there $(cat /mnt/folder/renamed | tr '\\n' ' ')"
echo "VOLT-GUEST waits for the end of virtiofsd"
until cat /mnt/lives 2>/tmp/error >/dev/null; [ -s /tmp/error ]; do sleep 0.2; done
echo "VOLT-GUEST lost: $(sed 's/.*: //' /tmp/error)"
ls /mnt/folder 2>&1 | sed 's/.*: /VOLT-GUEST lost for good: /'
echo "VOLT-GUEST the other $(cat /ro/hello)"
umount /mnt && echo "VOLT-GUEST unmounted"
poweroff -f
`;

beforeAll(async () => {
  mkdirSync(cache, { recursive: true });
  await ensurePackages(['virtiofsd']);
  kernel = await fetchDebianKernel('amd64');
  await Bun.write(
    initrd,
    await buildDeviceInitrd(kernel, { modules: ['virtio_mmio', 'virtiofs'], script: GUEST }),
  );
}, LINUX_TEST.timeout);

afterAll(stopLinuxHost);

thorough(
  'a Debian guest and its host share folders, over a reset of the guest and until virtiofsd ends',
  async () => {
    const rounds = join(import.meta.dir, 'share-rounds.ts');
    const script = `
      folder=$(mktemp -d)
      trap 'rm -r $folder' EXIT
      ${process.execPath} ${rounds} $folder ${VOLT} --cpus 1 --kernel ${kernel.vmlinux} --initrd ${initrd} \\
        --cmdline "console=ttyS0 reboot=k panic=-1 quiet volt.run=check"`;

    const { stdout, stderr, exitCode } = await runOnLinuxHost(['sh', '-c', script], SECONDS);

    expect(JSON.parse(stdout.trim().split('\n').at(-1)!)).toEqual({
      lines: [
        'VOLT-GUEST mounted',
        'VOLT-GUEST life 1',
        'VOLT-GUEST read-only hello',
        'VOLT-GUEST no new file: Read-only file system',
        'VOLT-GUEST no removal: Read-only file system',
        'VOLT-GUEST no writing: Read-only file system',
        'VOLT-GUEST mounted',
        'VOLT-GUEST life 2',
        'VOLT-GUEST still there some text ',
        'VOLT-GUEST waits for the end of virtiofsd',
        'VOLT-GUEST lost: Transport endpoint is not connected',
        'VOLT-GUEST lost for good: Transport endpoint is not connected',
        'VOLT-GUEST the other hello',
        'VOLT-GUEST unmounted',
      ],
      bigArrived: true,
      backArrived: true,
      backBytes: BIG_BYTES,
      files: ['back', 'big', 'folder', 'go', 'lives'],
      readable: ['hello'],
      text: 'some\ntext\n',
      exitCode: 0,
    });
    expect(stderr).toMatch(
      /^volt: device share0 has failed \(virtiofsd hung up(, last message: "[^"\n]+")?\); the guest goes on without it\n$/,
    );
    expect(exitCode).toBe(0);
  },
  LINUX_TEST,
);
