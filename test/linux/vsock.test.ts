/** Debian's vsock transport: connections both ways, many at once, with Firecracker's protocol on the host. */
import { afterAll, expect } from 'bun:test';
import { mkdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fetchDebianKernel, type DebianKernel } from '../../scripts/debian-kernel.ts';
import { ensurePackages } from '../../scripts/host-packages.ts';
import { buildDeviceInitrd } from './device-initrd.ts';
import { beforeAll, LINUX_TEST, runOnLinuxHost, stopLinuxHost, thorough, VOLT } from './linux-host.ts';

const SECONDS = 150;
const cache = resolve(import.meta.dir, '../../.cache/test');
const initrd = join(cache, 'vsock-initrd');
let kernel: DebianKernel;

const GUEST = `
export LD_LIBRARY_PATH=/lib/x86_64-linux-gnu
echo "VOLT-GUEST heard $(echo 'hello host' | socat -t 10 - VSOCK-CONNECT:2:52)"
socat - VSOCK-CONNECT:2:99 </dev/null 2>/dev/null || echo "VOLT-GUEST refused"
socat VSOCK-LISTEN:80,fork EXEC:cat &
sleep 1
echo "VOLT-GUEST serving"
socat -u VSOCK-CONNECT:2:53 -
`;

beforeAll(async () => {
  mkdirSync(cache, { recursive: true });
  await ensurePackages(['socat']);
  kernel = await fetchDebianKernel('amd64');
  const modules = ['virtio_mmio', 'vmw_vsock_virtio_transport'];
  await Bun.write(initrd, await buildDeviceInitrd(kernel, { modules, programs: ['socat'], script: GUEST }));
}, LINUX_TEST.timeout);

afterAll(stopLinuxHost);

thorough(
  'a Debian guest and its host reach one another by vsock, a megabyte each way on each of eight connections',
  async () => {
    const rounds = join(import.meta.dir, 'vsock-rounds.ts');
    const script = `
      folder=$(mktemp -d)
      trap 'rm -r $folder' EXIT
      ${process.execPath} ${rounds} $folder/v.sock ${VOLT} --cpus 1 --kernel ${kernel.vmlinux} --initrd ${initrd} \\
        --no-reboot --vsock path=$folder/v.sock,cid=42 --cmdline "console=ttyS0 reboot=k panic=-1 volt.run=check"`;

    const { stdout, stderr, exitCode } = await runOnLinuxHost(['sh', '-c', script], SECONDS);

    expect(stderr).toBe('');
    expect(JSON.parse(stdout.trim().split('\n').at(-1)!)).toEqual({
      echoed: 8,
      refused: 0,
      upper: 'hello host\n',
      lines: ['VOLT-GUEST heard HELLO HOST', 'VOLT-GUEST refused'],
      exitCode: 0,
    });
    expect(exitCode).toBe(0);
  },
  LINUX_TEST,
);
