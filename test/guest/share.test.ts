/** Shared folders on a real KVM: virtiofsd itself, and daemons that mean harm. */
import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { chmodSync, chownSync, existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { findVirtiofsd } from '../../src/virtio/share/virtiofsd.ts';
import { kvmOpens, runVolt, TemporaryFolder, VOLT } from '../cli/volt-process.ts';
import { testNeeding } from '../support/needs.ts';
import { reply, words } from '../unit/virtio/vhost-user/scripted-link.ts';
import { listen } from './hostile-back-end.ts';
import { runKernel, waitUntil } from './guest-run.ts';
import { busyGuest, lookingGuest } from './share-guest.ts';
import { buildPvhElf } from './tiny-guest.ts';

/** For hangs only. */
setDefaultTimeout(120_000);

const virtiofsd = findVirtiofsd();
const isRoot = process.getuid?.() === 0;
const hasNoDaemon = !kvmOpens || !isRoot || virtiofsd === undefined;

const SIZE = 1234;
/** Interrupt status; length and error of the answers to INIT and LOOKUP; the size of the file. */
const LOOKED = [1, ...u32s(80, 0, 144, 0, SIZE)];

function u32s(...values: number[]): number[] {
  return [...new Uint8Array(Uint32Array.from(values).buffer)];
}

/** A folder to share with a file in it, and a kernel beside it. */
async function createShare(kernel: Uint8Array) {
  const folder = new TemporaryFolder();
  mkdirSync(folder.at('files'));
  await folder.write('files/file', new Uint8Array(SIZE));
  const path = await folder.write('kernel', buildPvhElf(kernel));
  const flags = ['--kernel', path, '--memory', '32M', '--cpus', '1'];
  const daemons = () => daemonsOf(folder.at('files'));
  return {
    folder,
    flags,
    path: folder.at('files'),
    daemons,
    [Symbol.dispose]: () => folder[Symbol.dispose](),
  };
}

/** Processes that serve a folder. */
function daemonsOf(path: string): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => commandOf(pid).includes(`source=${path},`))
    .map(Number);
}

function commandOf(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'latin1');
  } catch {
    return '';
  }
}

describe.skipIf(hasNoDaemon)(
  'a folder that is shared by virtiofsd (needs /dev/kvm, root and virtiofsd)',
  () => {
    test.each([
      ['in the sandbox', [], ''],
      ['without a sandbox', ['--no-sandbox'], ''],
      ['that cannot be written', [], ',readonly'],
    ])('%s is there for the guest, and again after each of its resets', async (_where, sandbox, more) => {
      using share = await createShare(lookingGuest('file', true));
      const flags = [...share.flags, '--share', `path=${share.path},tag=files${more}`, ...sandbox];

      const run = await runVolt(flags);

      expect(run.stderr).toMatch(/^volt: the guest has reset itself 5 times[^\n]*\n$/);
      expect([...run.bytes]).toEqual(Array.from({ length: 5 }, () => LOOKED).flat());
      await waitUntil('virtiofsd has ended with Volt', () => share.daemons().length === 0);
    });

    test('is served until Volt is killed, and no longer', async () => {
      using share = await createShare(busyGuest());
      await using volt = Bun.spawn([VOLT, ...share.flags, '--share', `path=${share.path}`], {
        stdin: 'ignore',
        stdout: 'pipe',
        stderr: 'inherit',
      });
      await volt.stdout.getReader().read();
      const before = share.daemons().length;

      volt.kill('SIGKILL');
      await volt.exited;

      expect(before).toBeGreaterThan(0);
      await waitUntil('virtiofsd has ended', () => share.daemons().length === 0);
    });

    test('is lost to the guest when virtiofsd is killed, and the guest goes on', async () => {
      using share = await createShare(busyGuest());
      const socket = share.folder.at('control.sock');
      const flags = [...share.flags, '--share', `path=${share.path}`, '--control', socket, '--no-reboot'];
      await using volt = Bun.spawn([VOLT, ...flags], { stdin: 'ignore', stdout: 'pipe', stderr: 'pipe' });
      const reader = volt.stdout.getReader();
      const first = Buffer.from((await reader.read()).value!).toString();
      const devices = await runVolt(['ctl', socket, 'devices', '--json']);

      for (const pid of share.daemons()) killIfThere(pid);

      const stderr = await new Response(volt.stderr).text();
      expect(first).toStartWith('b');
      expect(JSON.parse(devices.stdout)).toMatchObject([
        {
          id: 'share0',
          kind: 'share',
          state: 'running',
          queues: [
            { index: 0, size: 8 },
            { index: 1, size: 0 },
          ],
        },
      ]);
      expect(stderr).toMatch(
        /^volt: device share0 has failed \(virtiofsd hung up, last message: "[^"\n]+"\); the guest goes on without it\n$/,
      );
      expect(await volt.exited).toBe(0);
    });

    test('may be served outside a jail, through a socket in it', async () => {
      using share = await createShare(lookingGuest('file', false));
      chmodSync(share.folder.path, 0o755);
      const socket = share.folder.at('fs.sock');
      const argv = [virtiofsd!, '-f', `--socket-path=${socket}`, '-o', `source=${share.path},cache=auto`];
      await using daemon = Bun.spawn(argv, { stdio: ['ignore', 'ignore', 'ignore'] });
      await waitUntil('its socket is there', () => existsSync(socket));
      chownSync(socket, 12345, 12345);
      const jail = ['run', '--jail', share.folder.path, '--uid', '12345', '--gid', '12345'];
      const guest = ['--kernel', '/kernel', '--memory', '32M', '--cpus', '1', '--share', 'socket=/fs.sock'];

      const run = await runVolt([...jail, ...guest]);

      expect(run.stderr).toBe('');
      expect([...run.bytes]).toEqual(LOOKED);
      expect(await daemon.exited).toBe(0);
    });

    test('without virtiofsd is refused with what to install', async () => {
      using share = await createShare(busyGuest());
      const script = `for place in /usr/libexec /usr/lib/qemu; do mount -t tmpfs none $place; done; PATH=/usr/bin:/bin exec "$@"`;

      const run = await runVolt([...share.flags, '--share', `path=${share.path}`], {
        prefix: ['unshare', '--mount', 'sh', '-c', script, 'sh'],
      });

      expect(run.stderr).toBe(
        `volt: Cannot use --share ${share.path}: the program virtiofsd is not installed; install it (apt-get install virtiofsd, or qemu-system-common on Debian 12), or use socket=PATH of a running one\n`,
      );
      expect(run.exitCode).toBe(1);
    });
  },
);

function killIfThere(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // The other half of virtiofsd has ended with it.
  }
}

describe.skipIf(!kvmOpens)('a daemon that means harm (needs /dev/kvm)', () => {
  test.each([
    ['hangs up at once', { 1: null }, 'virtiofsd hung up'],
    ['answers something else', { 1: reply('getQueueNum', 9, 0) }, 'virtiofsd answered 1 with a message 17'],
    ['announces 4 GiB', { 1: words(1, 5, 0xffff_ffff) }, 'answered 1 with 4294967295 bytes instead of 8'],
    [
      'is no modern device',
      { 1: reply('getFeatures', 0x4000_0000, 0) },
      'virtiofsd does not offer VIRTIO_F_VERSION_1',
    ],
    [
      'has too few queues',
      { 17: reply('getQueueNum', 1, 0) },
      'virtiofsd has 1 queues; use one with at least 2',
    ],
    ['says nothing', { 1: new Uint8Array() }, 'virtiofsd did not answer within 5 s'],
  ])('and %s is refused before the guest starts', async (_what, answers, found) => {
    using folder = new TemporaryFolder();
    const path = folder.at('fs.sock');
    using _daemon = listen(path, answers);

    const run = await runKernel(buildPvhElf(busyGuest()), ['--share', `socket=${path}`]);

    expect(run.stderr).toStartWith(`volt: Cannot use --share socket=${path}: `);
    expect(run.stderr).toContain(found);
    expect(run.stderr.match(/\n/g)).toHaveLength(1);
    expect([run.stdout, run.exitCode]).toEqual(['', 1]);
  });

  test.each([
    ['refuses RAM', { 5: reply('setMemTable', 1, 0) }, 'virtiofsd refused the message setMemTable'],
    ['hangs up while it is handed the rings', { 12: null }, 'virtiofsd hung up'],
    [
      'answers with another message',
      { 8: reply('getFeatures', 0, 0) },
      'virtiofsd answered 8 with a message 1',
    ],
    [
      'speaks without being asked',
      { 18: Buffer.concat([reply('setVringEnable', 0, 0), new Uint8Array(10_000)]) },
      'virtiofsd sent a message that was not requested',
    ],
  ])('and %s is left, and the guest goes on', async (_what, answers, found) => {
    using folder = new TemporaryFolder();
    const path = folder.at('fs.sock');
    using daemon = listen(path, answers);

    const run = await runKernel(buildPvhElf(busyGuest()), ['--share', `socket=${path}`]);

    expect(run.stdout).toBe('busy\nlost\n');
    expect(run.stderr).toBe(`volt: device share0 has failed (${found}); the guest goes on without it\n`);
    expect(run.exitCode).toBe(0);
    expect(daemon.heard).toContain(5);
  });
});

describe('a share that cannot be', () => {
  testNeeding('/dev/kvm', !kvmOpens).each([
    ['path=/nowhere', '/nowhere: there is no such folder (expected a folder)', 2],
    ['path=/etc/passwd', '/etc/passwd: it is not a folder (expected a folder)', 2],
    ['socket=/nowhere', 'socket=/nowhere: there is no such socket', 1],
    ['socket=/etc/passwd', 'socket=/etc/passwd: it is not a listening socket', 1],
  ])('by %s is refused in one line', async (words, found, code) => {
    const run = await runKernel(buildPvhElf(busyGuest()), ['--share', words]);

    expect(run.stderr).toStartWith(`volt: Cannot use --share ${found}`);
    expect(run.stderr.match(/\n/g)).toHaveLength(1);
    expect(run.exitCode).toBe(code);
  });
});
