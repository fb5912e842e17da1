/** `volt run` with disks that qemu-storage-daemon serves, in the sandbox, and with back-ends that mean harm. */
import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { existsSync, readFileSync } from 'node:fs';
import { kvmOpens, runVolt, TemporaryFolder, VOLT } from '../cli/volt-process.ts';
import { testNeeding } from '../support/needs.ts';
import { reply, words } from '../unit/virtio/vhost-user/scripted-link.ts';
import { runKernel, waitUntil } from './guest-run.ts';
import { listen } from './hostile-back-end.ts';
import { requestingGuest } from './requesting-guest.ts';
import { BLOCK_REQUEST_TYPE as TYPE, countingGuest, SECTOR } from './sandboxed-disk-guest.ts';
import { DAEMON, daemonsOf, lacksDaemon, runTool } from './storage-daemon.ts';
import { buildPvhElf } from './tiny-guest.ts';

/** For hangs only. */
setDefaultTimeout(120_000);

const testDaemon = testNeeding(`/dev/kvm, ${DAEMON} and qemu-img`, !kvmOpens || lacksDaemon);
const BYTES = 2 ** 20;
const BLOCK = 4096;
const OK = 0;
const IO_ERROR = 1;

function createQcow2(folder: TemporaryFolder, name = 'disk.qcow2', ...options: readonly string[]): string {
  const path = folder.at(name);
  runTool('qemu-img', 'create', '-q', '-f', 'qcow2', ...options, path, `${BYTES}`);
  return path;
}

function contentOf(folder: TemporaryFolder, path: string): Uint8Array {
  const raw = folder.at('content');
  runTool('qemu-img', 'convert', '-O', 'raw', path, raw);
  return readFileSync(raw);
}

const WORK = [
  [TYPE.write, 8, BLOCK],
  [TYPE.flush, 0, 0],
  [TYPE.read, 8, BLOCK],
] as const;
const RANGES = [
  [TYPE.zero, 16, BLOCK],
  [TYPE.discard, 8, BLOCK],
] as const;

describe('a qcow2 image', () => {
  testDaemon.each([
    [''],
    [',cache=writethrough'],
    [',cache=unsafe,engine=async,queues=4'],
    [',bw=10M,iops=1000'],
  ])('is written, read, zeroed and discarded%s', async (settings) => {
    using folder = new TemporaryFolder();
    const path = createQcow2(folder);

    const disk = ['--disk', `path=${path}${settings}`];
    const run = await runKernel(requestingGuest(WORK), disk);
    const ranges = await runKernel(requestingGuest(RANGES), disk);

    expect(run.stderr + ranges.stderr).toBe('');
    expect([...run.bytes.subarray(8), ...ranges.bytes.subarray(8)]).toEqual([OK, OK, OK, OK, OK]);
    expect(runTool('qemu-img', 'check', path)).toContain('No errors');
    expect(daemonsOf(path)).toEqual([]);
  });

  testDaemon('over a base image leaves the base as it is', async () => {
    using folder = new TemporaryFolder();
    const base = await folder.write('base.raw', new Uint8Array(BYTES).fill(7));
    const path = createQcow2(folder, 'disk.qcow2', '-b', base, '-F', 'raw');

    const run = await runKernel(requestingGuest([[TYPE.write, 8, BLOCK]]), ['--disk', path]);

    expect(run.stderr).toBe('');
    const content = contentOf(folder, path);
    expect([content[0], content[BLOCK], content[2 * BLOCK]]).toEqual([7, 0x5a, 7]);
    expect(readFileSync(base).every((byte) => byte === 7)).toBe(true);
  });

  testDaemon('is there for the guest again after each of its resets', async () => {
    using folder = new TemporaryFolder();
    const path = createQcow2(folder);
    const kernel = await folder.write('kernel', buildPvhElf(countingGuest(4)));

    const run = await runVolt(['--kernel', kernel, '--memory', '32M', '--cpus', '1', '--disk', path]);

    expect(run.stderr).toBe('');
    expect([...run.bytes]).toEqual([1, 2, 3, 4].flatMap((life) => [life, OK, OK, OK]));
    expect(contentOf(folder, path)[0]).toBe(4);
  });

  testDaemon('that is read-only is not written', async () => {
    using folder = new TemporaryFolder();
    const path = createQcow2(folder);
    const before = Bun.hash(readFileSync(path));

    const run = await runKernel(requestingGuest([[TYPE.write, 8, BLOCK]], 0), [
      '--disk',
      `path=${path},readonly`,
    ]);

    expect(run.bytes.at(-1)).toBe(IO_ERROR);
    expect(Bun.hash(readFileSync(path))).toBe(before);
  });

  testDaemon('that is encrypted is opened by the key in a file', async () => {
    using folder = new TemporaryFolder();
    const key = await folder.write('key', Buffer.from('correct horse'));
    const secret = ['--object', `secret,id=k,file=${key}`];
    const path = createQcow2(
      folder,
      'disk.qcow2',
      ...secret,
      '-o',
      'encrypt.format=luks,encrypt.key-secret=k,encrypt.iter-time=10',
    );

    const run = await runKernel(requestingGuest(WORK), ['--disk', `path=${path},secret=${key}`]);

    expect([run.stderr, ...run.bytes.subarray(8)]).toEqual(['', OK, OK, OK]);
    expect(readFileSync(path).includes(Buffer.alloc(64, 0x5a))).toBe(false);
  });

  testDaemon('under another name is refused with the format to give', async () => {
    using folder = new TemporaryFolder();
    const path = createQcow2(folder, 'disk.img');

    const refused = await runKernel(requestingGuest([]), ['--disk', path]);
    const used = await runKernel(requestingGuest([]), ['--disk', `path=${path},format=qcow2`]);

    expect(refused.stderr).toContain('it is a qcow2 file, not a raw image; add format=qcow2');
    expect([used.stderr, Buffer.from(used.bytes).readUInt32LE(0)]).toEqual(['', BYTES / SECTOR]);
  });

  testDaemon('that is none is refused with what the daemon says', async () => {
    using folder = new TemporaryFolder();
    const path = await folder.write('disk.qcow2', Buffer.alloc(BYTES));

    const run = await runKernel(requestingGuest([]), ['--disk', path]);

    expect(run.stderr).toBe(
      `volt: Cannot use --disk ${path}: ${DAEMON} does not start, last message: "Image is not in qcow2 format"; check the image: qemu-img info\n`,
    );
    expect(daemonsOf(path)).toEqual([]);
  });

  testDaemon('without the daemon is refused with what to install', async () => {
    using folder = new TemporaryFolder();
    const path = createQcow2(folder);

    const run = await runKernel(requestingGuest([]), ['--disk', path], {
      prefix: ['env', `PATH=${folder.path}`],
    });

    expect(run.stderr).toStartWith(
      `volt: Cannot use --disk ${path}: the program ${DAEMON}, which serves such disks, is not installed; install it (apt-get install qemu-system-common`,
    );
    expect(run.stderr.match(/\n/g)).toHaveLength(1);
  });

  testDaemon('goes with Volt when Volt is killed', async () => {
    using folder = new TemporaryFolder();
    const path = createQcow2(folder);
    const kernel = await folder.write('kernel', buildPvhElf(countingGuest(255)));
    await using volt = Bun.spawn([VOLT, '--kernel', kernel, '--memory', '32M', '--disk', path], {
      stdin: 'ignore',
      stdout: 'pipe',
      stderr: 'ignore',
    });
    await volt.stdout.getReader().read();
    const before = daemonsOf(path).length;

    volt.kill('SIGKILL');
    await volt.exited;

    expect(before).toBe(1);
    await waitUntil('its daemon has ended', () => daemonsOf(path).length === 0);
    expect(runTool('qemu-img', 'check', path)).toContain('No errors');
  });
});

describe('a disk elsewhere', () => {
  testDaemon('is reached by NBD through a socket, and through TCP', async () => {
    using folder = new TemporaryFolder();
    const image = await folder.write('image', new Uint8Array(BYTES));
    const socket = folder.at('nbd.sock');
    const argv = ['--blockdev', `driver=file,node-name=disk,filename=${image}`];
    const server = ['--nbd-server', `addr.type=unix,addr.path=${socket}`];
    const exported = ['--export', 'type=nbd,id=e,node-name=disk,name=my disk,writable=on'];
    await using _nbd = Bun.spawn([DAEMON, ...argv, ...server, ...exported], { stdin: 'ignore' });
    await waitUntil('its socket is there', () => existsSync(socket));
    const proxy = Bun.listen({
      hostname: '127.0.0.1',
      port: 0,
      socket: forwardTo(socket),
    });
    const work = requestingGuest([[TYPE.write, 8, BLOCK]]);

    const bySocket = await runKernel(requestingGuest(WORK), [
      '--disk',
      `nbd+unix:///my%20disk?socket=${socket}`,
    ]);
    const byTcp = await runKernel(work, ['--disk', `nbd://127.0.0.1:${proxy.port}/my%20disk`]);
    proxy.stop(true);
    _nbd.kill();

    expect([bySocket.stderr, byTcp.stderr]).toEqual(['', '']);
    expect([...bySocket.bytes.subarray(8), byTcp.bytes.at(-1)]).toEqual([OK, OK, OK, OK]);
    expect(readFileSync(image)[BLOCK]).toBe(0x5a);
  });

  testNeeding('/dev/kvm', !kvmOpens).each([
    ['socket=/nowhere', '/nowhere: there is no such socket; start its vhost-user back-end first'],
    ['socket=/etc/passwd', '/etc/passwd: it is not a listening socket; start its vhost-user back-end first'],
    ['socket=/a,path=/b', 'it names no disk or two (expected either path_on_host or socket)'],
    ['socket=/a,format=qcow2', 'format does not apply to a socket; its back-end knows the format'],
    ['path=/etc/passwd,secret=/key', 'secret and monitor are for images that qemu-storage-daemon serves'],
  ])('--disk %s is refused in one line', async (value, found) => {
    const run = await runKernel(requestingGuest([]), ['--disk', value]);

    expect(run.stderr).toContain(found);
    expect(run.stderr.match(/\n/g)).toHaveLength(1);
    expect(run.exitCode).not.toBe(0);
  });
});

/** Bytes of a TCP connection to a Unix socket and back. */
function forwardTo(socket: string): Bun.SocketHandler<{ other: Promise<Bun.Socket> }> {
  return {
    open(client) {
      const other = Bun.connect({ unix: socket, socket: { data: (_, bytes) => void client.write(bytes) } });
      client.data = { other };
    },
    async data(client, bytes) {
      const copy = Uint8Array.from(bytes);
      (await client.data.other).write(copy);
    },
    async close(client) {
      (await client.data.other).end();
    },
  };
}

/** Protocol features 0, 3 and 9: queues, acknowledgements, configuration. */
const PROTOCOL = reply('getProtocolFeatures', 0x209, 0);
/** A disk of 2048 sectors with one queue. */
const CONFIG = reply('getConfig', 0, 60, 0, 2048, ...Array.from({ length: 14 }, () => 0));
const HONEST = { 15: PROTOCOL, 24: CONFIG };

describe.skipIf(!kvmOpens)('a back-end of a disk that means harm (needs /dev/kvm)', () => {
  test.each([
    ['hangs up at once', { 1: null }, 'its back-end hung up'],
    [
      'answers something else',
      { 1: reply('getQueueNum', 9, 0) },
      'its back-end answered 1 with a message 17',
    ],
    ['has no configuration', { 15: reply('getProtocolFeatures', 0x9, 0) }, 'does not tell its configuration'],
    [
      'sends a longer configuration',
      { 15: PROTOCOL, 24: words(24, 5, 0xffff) },
      'answered 24 with 65535 bytes',
    ],
    ['is no modern device', { ...HONEST, 1: reply('getFeatures', 0x4000_0000, 0) }, 'VIRTIO_F_VERSION_1'],
  ])('and %s is refused before the guest starts', async (_what, answers, found) => {
    using folder = new TemporaryFolder();
    const path = folder.at('disk.sock');
    using _backEnd = listen(path, answers);

    const run = await runKernel(requestingGuest([]), ['--disk', `socket=${path}`]);

    expect(run.stderr).toStartWith(`volt: Cannot use --disk ${path}: `);
    expect(run.stderr).toContain(found);
    expect(run.stderr.match(/\n/g)).toHaveLength(1);
    expect([run.stdout, run.exitCode]).toEqual(['', 2]);
  });

  test.each([
    ['refuses RAM', { 5: reply('setMemTable', 1, 0) }, 'refused the message setMemTable'],
    ['hangs up while it is handed the rings', { 12: null }, 'hung up'],
    ['answers with another message', { 8: reply('getFeatures', 0, 0) }, 'answered 8 with a message 1'],
  ])('and %s makes requests fail, and the guest goes on', async (_what, answers, found) => {
    using folder = new TemporaryFolder();
    const path = folder.at('disk.sock');
    using _backEnd = listen(path, { ...HONEST, ...answers });
    const guest = requestingGuest([[TYPE.read, 0, SECTOR]], 0);

    const run = await runKernel(guest, ['--disk', `socket=${path},timeout=1`]);

    expect([...run.bytes]).toEqual([0, 8, 0, 0, 0, 0, 0, 0, IO_ERROR]);
    expect(run.stderr).toContain(`volt: disk0: its back-end ${found}; its requests wait for 1 s at most`);
    expect(run.stderr).toContain('device disk0 has failed (its back-end');
    expect(run.exitCode).toBe(0);
  });
});
