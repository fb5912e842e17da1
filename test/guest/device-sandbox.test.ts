/** Network, vsock, console and balloon inside the sandbox, and still there when the guest has reset itself. */
import { expect, setDefaultTimeout, test } from 'bun:test';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { kvmOpens, runVolt, TemporaryFolder } from '../cli/volt-process.ts';
import { asm, buildPvhElf } from './tiny-guest.ts';
import { virtioAsm, virtioImage } from './virtio-guest.ts';

setDefaultTimeout(60_000);

const VIRTIO_NET_F_MQ = 1 << 22;
const usable =
  kvmOpens && process.getuid?.() === 0 && Bun.which('ip') !== null && Bun.which('passt') !== null;

test.skipIf(!usable).each([
  ['in the sandbox', []],
  ['without a sandbox', ['--no-sandbox']],
])(
  'a guest with a tap, passt, vsock, a console and a balloon resets itself %s and finds them again (needs /dev/kvm, root, ip and passt)',
  async (_, sandbox) => {
    using folder = new TemporaryFolder();
    // The first device is the tap, whose driver is ready each time before the reset.
    const code = [virtioAsm.start(VIRTIO_NET_F_MQ), asm.print('R'), asm.out8(0x64, 0xfe)];
    const kernel = await folder.write('kernel', buildPvhElf(virtioImage(code, [], new Uint8Array())));
    const [vsock, port] = [join(folder.path, 'v.sock'), join(folder.path, 'p.sock')];
    const script = `ip tuntap add tap7 mode tap multi_queue && ip link set tap7 up && exec "$@"`;
    const flags = ['--net', 'tap=tap7,queues=4', '--net', 'user', '--vsock', `path=${vsock}`, '--balloon'];

    const { stdout, stderr } = await runVolt(
      [
        ...['--kernel', kernel, '--cpus', '1', '--memory', '32M', ...flags],
        ...['--virtio-console', `socket=${port}`, ...sandbox],
      ],
      { prefix: ['unshare', '--net', 'sh', '-c', script, 'sh'] },
    );

    // passt finds no interface in this namespace, and ends when it has looked.
    const lines = stderr.split('\n').filter((line) => !line.includes('passt has exited'));
    expect(lines).toEqual([expect.stringMatching(/^volt: the guest has reset itself \d+ times/), '']);
    expect(stdout).toMatch(/^R{3,}$/);
    expect([existsSync(vsock), existsSync(port)]).toEqual([false, false]);
  },
);
