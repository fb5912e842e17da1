/** Disks that qemu-storage-daemon serves, on a real KVM, under a driver in this process. */
import { describe, expect, setDefaultTimeout } from 'bun:test';
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { FEATURE, MMIO_REGISTER as R } from '../../src/virtio/transport/mmio.regs.ts';
import { kvmOpens, TemporaryFolder } from '../cli/volt-process.ts';
import { testNeeding } from '../support/needs.ts';
import { createDeviceMachine, MachineDriver, saveMachine, type DeviceMachine } from './device-machine.ts';
import { DiskWriter, SECTOR, SECTORS } from './disk-writer.ts';
import { waitUntil } from './guest-run.ts';
import { DAEMON, daemonsOf, lacksDaemon, runTool } from './storage-daemon.ts';

/** For hangs only. */
setDefaultTimeout(120_000);

/** Otherwise a daemon that is killed loses changes of the image's tables, which it has in memory until a flush. */
const PREALLOCATED = ['-o', 'preallocation=metadata'];
const testDaemon = testNeeding(`/dev/kvm, ${DAEMON} and qemu-img`, !kvmOpens || lacksDaemon);

function createImage(folder: TemporaryFolder, format: string, options: readonly string[] = []): string {
  const path = folder.at(`disk.${format}`);
  runTool(
    'qemu-img',
    'create',
    '-q',
    '-f',
    format === 'vhd' ? 'vpc' : format,
    ...options,
    path,
    `${SECTORS * SECTOR}`,
  );
  return path;
}

/** The content as the guest sees it. */
function contentOf(folder: TemporaryFolder, path: string): Uint8Array {
  const raw = folder.at('content.raw');
  runTool('qemu-img', 'convert', '-O', 'raw', path, raw);
  return readFileSync(raw).subarray(0, SECTORS * SECTOR);
}

const drive = (path: string, more: Record<string, unknown> = {}) => ({
  drives: [{ drive_id: 'disk', ...(path === '' ? {} : { path_on_host: path }), ...more }],
});

async function finish(machine: DeviceMachine, writer: DiskWriter): Promise<void> {
  await waitUntil('all requests are done', () => (writer.collect(machine), writer.done === writer.offered));
}

const texts = (machine: DeviceMachine) =>
  machine.reports.flatMap((report) => (report.kind === 'device-message' ? [report.text] : []));

/** A daemon that Volt does not start. */
function startDaemon(image: string, socket: string) {
  const child = Bun.spawn(
    [
      DAEMON,
      ...['--blockdev', `driver=file,node-name=file,filename=${image}`],
      ...['--blockdev', 'driver=qcow2,node-name=disk,file=file'],
      ...[
        '--export',
        `type=vhost-user-blk,id=e,node-name=disk,addr.type=unix,addr.path=${socket},writable=on`,
      ],
    ],
    { stdin: 'ignore', stdout: 'ignore', stderr: 'ignore' },
  );
  return {
    child,
    async [Symbol.asyncDispose]() {
      child.kill('SIGKILL');
      await child.exited;
      rmSync(socket, { force: true });
    },
  };
}

describe('an image that qemu-storage-daemon serves', () => {
  testDaemon.each(['qcow2', 'vmdk', 'vhdx', 'vdi', 'qed'])('is written in its format: %s', async (format) => {
    using folder = new TemporaryFolder();
    const path = createImage(folder, format);
    const machine = createDeviceMachine(drive(path));
    const writer = new DiskWriter(new MachineDriver(machine, 0).start(1)[0]!);

    for (let i = 0; i < 50; i++) {
      writer.offer(machine);
      writer.collect(machine);
    }
    await finish(machine, writer);
    machine[Symbol.dispose]();

    expect(machine.reports).toEqual([]);
    expect(daemonsOf(path)).toEqual([]);
    expect(Buffer.from(contentOf(folder, path)).equals(writer.expected)).toBe(true);
  });

  testDaemon('is moved ten times and loses and repeats no request', async () => {
    using folder = new TemporaryFolder();
    const path = createImage(folder, 'qcow2');
    let machine = createDeviceMachine(drive(path));
    const driver = new MachineDriver(machine, 0);
    const writer = new DiskWriter(driver.start(1, [FEATURE.ringEventIdx])[0]!);
    try {
      for (let move = 0; move < 10; move++) {
        for (let i = 0; i < 5; i++) writer.offer(machine);
        if (move % 4 === 0) await finish(machine, writer);
        await machine.devices.pause();
        const state = saveMachine(machine);
        machine[Symbol.dispose]();
        machine = createDeviceMachine(drive(path), state);
        driver.moveTo(machine);
        writer.collect(machine);
      }
      await finish(machine, writer);
      expect(driver.read(R.status)).toBe(15);
      expect(machine.reports).toEqual([]);
    } finally {
      machine[Symbol.dispose]();
    }
    expect(Buffer.from(contentOf(folder, path)).equals(writer.expected)).toBe(true);
  });

  testDaemon('goes on under I/O when its daemon is killed, and loses and repeats no request', async () => {
    using folder = new TemporaryFolder();
    const path = createImage(folder, 'qcow2', PREALLOCATED);
    const machine = createDeviceMachine(drive(path));
    const writer = new DiskWriter(new MachineDriver(machine, 0).start(1)[0]!);
    const killed: number[] = [];
    try {
      for (let kill = 0; kill < 10; kill++) {
        for (let i = 0; i < 200; i++) {
          writer.offer(machine);
          writer.collect(machine);
        }
        for (let i = 0; i < 5; i++) writer.offer(machine);
        const daemons = daemonsOf(path);
        killed.push(...daemons);
        for (const pid of daemons) process.kill(pid, 'SIGKILL');
        for (let i = 0; i < 5; i++) writer.offer(machine);
        await finish(machine, writer);
      }
    } finally {
      machine[Symbol.dispose]();
    }

    expect(new Set(killed).size).toBeGreaterThan(4);
    expect(texts(machine)).toEqual([
      `${DAEMON} hung up; its requests wait for 30 s at most`,
      `${DAEMON} is there again`,
    ]);
    expect(machine.reports).toHaveLength(2);
    expect(runTool('qemu-img', 'check', path)).toContain('No errors');
    expect(Buffer.from(contentOf(folder, path)).equals(writer.expected)).toBe(true);
  });
});

describe('a disk of a back-end that Volt did not start', () => {
  testDaemon('waits while its back-end is restarted, and goes on', async () => {
    using folder = new TemporaryFolder();
    const path = createImage(folder, 'qcow2', PREALLOCATED);
    const socket = folder.at('disk.sock');
    let daemon = startDaemon(path, socket);
    await waitUntil('its socket is there', () => existsSync(socket));
    const machine = createDeviceMachine(drive('', { socket }));
    const writer = new DiskWriter(new MachineDriver(machine, 0).start(1)[0]!);
    try {
      for (let i = 0; i < 5; i++) writer.offer(machine);
      await daemon[Symbol.asyncDispose]();
      for (let i = 0; i < 5; i++) writer.offer(machine);
      await waitUntil('it is missed', () => texts(machine).length > 0);
      daemon = startDaemon(path, socket);
      await finish(machine, writer);
      await waitUntil('it is welcomed', () => texts(machine).length > 1);
    } finally {
      machine[Symbol.dispose]();
      await daemon[Symbol.asyncDispose]();
    }

    expect(texts(machine)).toEqual([
      'its back-end hung up; its requests wait for 30 s at most',
      'its back-end is there again',
    ]);
    expect(Buffer.from(contentOf(folder, path)).equals(writer.expected)).toBe(true);
  });

  testDaemon('fails its requests after the time limit, and works again after a reset', async () => {
    using folder = new TemporaryFolder();
    const path = createImage(folder, 'qcow2');
    const socket = folder.at('disk.sock');
    const first = startDaemon(path, socket);
    await waitUntil('its socket is there', () => existsSync(socket));
    using machine = createDeviceMachine(drive('', { socket, timeout_s: 1 }));
    const driver = new MachineDriver(machine, 0);
    const writer = new DiskWriter(driver.start(1)[0]!);
    for (let i = 0; i < 5; i++) writer.offer(machine);
    await finish(machine, writer);

    await first[Symbol.asyncDispose]();
    for (let i = 0; i < 3; i++) writer.offer(machine);
    await waitUntil('they have failed', () => machine.reports.some(({ kind }) => kind === 'device-failed'));
    await waitUntil('they are answered', () => throwsStatus(() => writer.collect(machine)));
    await using second = startDaemon(path, socket);
    await waitUntil('its socket is there', () => existsSync(socket));
    const again = new DiskWriter(driver.start(1)[0]!);
    again.offer(machine);
    await finish(machine, again);

    expect(machine.reports.find(({ kind }) => kind === 'device-failed')).toMatchObject({
      id: 'disk',
      reason: 'its back-end hung up',
      cause: 'host',
    });
    expect(driver.read(R.status)).toBe(15);
    expect(second.child.exitCode).toBeNull();
  });
});

/** Whether a request has come back with VIRTIO_BLK_S_IOERR. */
function throwsStatus(collect: () => void): boolean {
  try {
    collect();
    return false;
  } catch (error) {
    return (error as Error).message === 'status 1';
  }
}
