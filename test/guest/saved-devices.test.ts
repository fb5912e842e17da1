/** Devices with their workers are paused, saved and restored under I/O; the driver is this process. */
import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { HostResources, parseConfig, VirtualMachine, type VmEnd } from '../../src/api/index.ts';
import { BALLOON_FEATURE } from '../../src/virtio/balloon/regs.ts';
import { findVirtiofsd } from '../../src/virtio/share/virtiofsd.ts';
import { FEATURE, MMIO_REGISTER as R } from '../../src/virtio/transport/mmio.regs.ts';
import { VoltError } from '../../src/volt-error.ts';
import { kvmOpens, TemporaryFolder } from '../cli/volt-process.ts';
import { seededRandom } from '../unit/support/random.ts';
import { voltErrorOf } from '../unit/support/errors.ts';
import {
  BUFFERS,
  createDeviceMachine,
  MachineDriver,
  RING_SIZE,
  saveMachine,
  type DeviceMachine,
} from './device-machine.ts';
import { DiskWriter, SECTOR, SECTORS } from './disk-writer.ts';
import { waitUntil } from './guest-run.ts';
import { CollectedMachine, restoreMachine, saveMachine as saveWholeMachine } from './saved-machine.ts';
import { asm, buildPvhElf } from './tiny-guest.ts';
import { blockRequest, DATA, virtioAsm, virtioImage, type GuestBuffer } from './virtio-guest.ts';

setDefaultTimeout(60_000);

const DAY_MS = 24 * 3600 * 1000;
const drive = (path: string, more: Record<string, unknown> = {}) => ({
  drives: [{ drive_id: 'disk', path_on_host: path, ...more }],
});

const settings = [
  ['split ring', false, {}, []],
  ['packed ring', true, {}, []],
  ['event index', false, {}, [FEATURE.ringEventIdx]],
  ['engine Sync', false, { io_engine: 'Sync' }, []],
  ['engine Async', true, { io_engine: 'Async' }, [FEATURE.ringEventIdx]],
] as const;

describe.skipIf(!kvmOpens)('a disk under I/O (needs /dev/kvm)', () => {
  test.each(settings)(
    'is moved forty times and loses and repeats no request (%s)',
    async (_, packed, more, features) => {
      using folder = new TemporaryFolder();
      const path = await folder.write('disk', new Uint8Array(SECTORS * SECTOR));
      let machine = createDeviceMachine(drive(path, more));
      const driver = new MachineDriver(machine, 0, packed);
      const writer = new DiskWriter(driver.start(1, features)[0]!);
      try {
        for (let move = 0; move < 40; move++) {
          for (let i = 0; i < 5; i++) {
            writer.offer(machine);
            if (move % 4 === 0)
              await waitUntil(
                'a request is done',
                () => (writer.collect(machine), writer.done === writer.offered),
              );
          }
          await machine.devices.pause();
          const state = saveMachine(machine);
          machine[Symbol.dispose]();
          machine = createDeviceMachine(drive(path, more), state);
          driver.moveTo(machine);
          writer.collect(machine);
        }
        await waitUntil(
          'all requests are done',
          () => (writer.collect(machine), writer.done === writer.offered),
        );

        expect(driver.read(R.status)).toBe(15);
        expect(machine.reports).toEqual([]);
        expect(readFileSync(path).equals(writer.expected)).toBe(true);
      } finally {
        machine[Symbol.dispose]();
      }
    },
  );

  test('does not touch memory while it is paused, and goes on when it is resumed', async () => {
    using folder = new TemporaryFolder();
    const path = await folder.write('disk', new Uint8Array(SECTORS * SECTOR));
    using machine = createDeviceMachine(drive(path));
    const writer = new DiskWriter(new MachineDriver(machine, 0).start(1)[0]!);

    for (let pause = 0; pause < 100; pause++) {
      writer.offer(machine);
      await machine.devices.pause();
      const before = Bun.hash(machine.bytes);
      writer.offer(machine);
      const offered = Bun.hash(machine.bytes);
      if (pause % 20 === 0) await Bun.sleep(5);
      const after = Bun.hash(machine.bytes);
      machine.devices.resume();
      expect(after).toBe(offered);
      expect(before).not.toBe(offered);
      await waitUntil('it goes on', () => (writer.collect(machine), writer.done === writer.offered));
    }

    expect(writer.done).toBe(200);
  });

  test('is durable and complete on disk as soon as it is paused', async () => {
    using folder = new TemporaryFolder();
    const path = await folder.write('disk', new Uint8Array(SECTORS * SECTOR));
    const overlay = folder.at('overlay');
    using machine = createDeviceMachine(drive(path, { overlay }));
    const writer = new DiskWriter(new MachineDriver(machine, 0).start(1)[0]!);
    writer.offer(machine);
    await waitUntil('it is written', () => (writer.collect(machine), writer.done === 1));

    await machine.devices.pause();
    const copy = await folder.write('copy', readFileSync(overlay));

    using clone = createDeviceMachine(drive(path, { overlay: copy }), saveMachine(machine));
    const written = writer.expected.findIndex((byte) => byte !== 0);
    const read = await readSector(clone, Math.floor(written / SECTOR));
    expect(read).toEqual(
      writer.expected.slice(written - (written % SECTOR), written - (written % SECTOR) + SECTOR),
    );
  });
});

/** With a driver of its own, which resets the device. */
async function readSector(machine: DeviceMachine, sector: number): Promise<Uint8Array> {
  const [queue] = new MachineDriver(machine, 0).start(1);
  machine.view.setUint32(BUFFERS, 0, true);
  machine.view.setUint32(BUFFERS + 8, sector, true);
  queue!.add([
    { address: BUFFERS, length: 16 },
    { address: BUFFERS + 16, length: SECTOR, writable: true },
    { address: BUFFERS + 0x300, length: 1, writable: true },
  ]);
  queue!.notify();
  await waitUntil('the sector is read', () => queue!.takeUsed() !== undefined);
  return machine.bytes.slice(BUFFERS + 16, BUFFERS + 16 + SECTOR);
}

describe.skipIf(!kvmOpens)('a pause of devices (needs /dev/kvm)', () => {
  test('right after DRIVER_OK, before the workers are up, saves a device that has started', async () => {
    using folder = new TemporaryFolder();
    const path = await folder.write('disk', new Uint8Array(SECTORS * SECTOR));
    using machine = createDeviceMachine(drive(path));
    const driver = new MachineDriver(machine, 0);
    const writer = new DiskWriter(driver.start(1)[0]!);
    writer.offer(machine);

    await machine.devices.pause();

    const [device] = saveMachine(machine).saved;
    expect(device).toMatchObject({ kind: 'block', id: 'disk', slot: 0, status: 15, active: true });
    expect(device!.queues[0]).toMatchObject({ size: RING_SIZE, ready: 1, next: 1, wrap: 1 });
  });

  test('right after a reset saves a device without a driver, which serves the next one', async () => {
    using folder = new TemporaryFolder();
    const path = await folder.write('disk', new Uint8Array(SECTORS * SECTOR).fill(9));
    using machine = createDeviceMachine(drive(path));
    const driver = new MachineDriver(machine, 0);
    driver.start(1);
    driver.write(R.status, 0);
    await machine.devices.pause();
    const state = saveMachine(machine);
    machine[Symbol.dispose]();

    using next = createDeviceMachine(drive(path), state);

    expect(state.saved[0]).toMatchObject({ status: 0, active: false, queues: [{ ready: 0, size: 0 }] });
    expect((await readSector(next, 3))[0]).toBe(9);
  });

  test('may be asked for and ended as fast as one likes', async () => {
    using machine = createDeviceMachine({ entropy: {}, balloon: { amount_mib: 0 } });
    const [queue] = new MachineDriver(machine, 1).start(1);

    for (let i = 0; i < 300; i++) {
      await machine.devices.pause();
      machine.devices.resume();
      machine.devices.resume();
    }
    queue!.add([{ address: BUFFERS, length: 64, writable: true }]);
    queue!.notify();

    await waitUntil('it answers', () => queue!.takeUsed() !== undefined);
  });

  test('ends when the machine is stopped', async () => {
    using machine = createDeviceMachine({ entropy: {} });
    await machine.devices.pause();

    expect(machine.devices.stop()).toBe(true);
    machine.devices.resume();
    await machine.devices.pause();
  });

  test('is needed before a save', () => {
    using machine = createDeviceMachine({ entropy: {} });

    expect(voltErrorOf(() => machine.devices.save()).message).toBe(
      'Cannot save the devices: they are running; pause them first',
    );
  });

  test('holds a rate limit back, which goes on afterwards', async () => {
    const limited = { entropy: { rate_limiter: { ops: { size: 1, refill_time: 200 } } } };
    using machine = createDeviceMachine(limited);
    const [queue] = new MachineDriver(machine, 0).start(1);
    let taken = 0;
    const take = () => {
      while (queue!.takeUsed()) taken++;
      return taken;
    };
    for (let i = 0; i < 3; i++) queue!.add([{ address: BUFFERS, length: 8, writable: true }]);
    queue!.notify();
    await waitUntil('the first one is there', () => take() > 0);

    await machine.devices.pause();
    const before = take();
    await Bun.sleep(500);
    const during = take();
    machine.devices.resume();

    expect(during).toBe(before);
    await waitUntil('the others come', () => take() === 3);
  });
});

describe.skipIf(!kvmOpens)('a clone (needs /dev/kvm)', () => {
  /** A machine with a disk in use, its state, and then its end. */
  async function stoppedMachine(path: string) {
    using machine = createDeviceMachine(drive(path));
    const driver = new MachineDriver(machine, 0);
    const queue = driver.start(1)[0]!;
    await machine.devices.pause();
    return { state: saveMachine(machine), driver, queue };
  }

  test('does not get a disk that another process writes to, nor a copy-on-write file over it', async () => {
    using folder = new TemporaryFolder();
    const path = await folder.write('disk', new Uint8Array(SECTORS * SECTOR));
    const { state } = await stoppedMachine(path);
    // Ends with its input at the latest.
    await using owner = Bun.spawn(
      ['flock', '--exclusive', '--no-fork', path, 'sh', '-c', 'echo locked; exec cat'],
      { stdin: 'pipe', stdout: 'pipe' },
    );
    await owner.stdout.getReader().read();

    const writable = voltErrorOf(() => createDeviceMachine(drive(path), state));
    const overlaid = voltErrorOf(() =>
      createDeviceMachine(drive(path, { overlay: folder.at('overlay') }), state),
    );

    expect(writable.message).toBe(
      `Cannot use --disk ${path}: another machine uses it; use a disk that no other machine uses, add overlay=FILE, or give it to all with readonly`,
    );
    expect(overlaid.message).toBe(
      `Cannot use --disk ${path}: another machine writes to it; use a disk that no other machine writes to`,
    );
  });

  test('does not get an overlay that another clone has', async () => {
    using folder = new TemporaryFolder();
    const path = await folder.write('disk', new Uint8Array(SECTORS * SECTOR));
    const { state } = await stoppedMachine(path);
    const overlaid = drive(path, { overlay: folder.at('overlay') });
    using first = createDeviceMachine(overlaid, state);

    const { message } = voltErrorOf(() => createDeviceMachine(overlaid, state));

    expect(first.devices.devices).toHaveLength(1);
    expect(message).toContain(`Cannot use --disk ${folder.at('overlay')}: `);
  });

  test('writes to an overlay of its own, as its driver went on writing to the disk', async () => {
    using folder = new TemporaryFolder();
    const content = new Uint8Array(SECTORS * SECTOR).fill(1);
    const path = await folder.write('disk', content);
    const { state, queue, driver } = await stoppedMachine(path);
    using first = createDeviceMachine(drive(path, { overlay: folder.at('first') }), state);
    using second = createDeviceMachine(drive(path, { overlay: folder.at('second') }), state);

    driver.moveTo(first);
    const writer = new DiskWriter(queue);
    writer.offer(first);
    await waitUntil('it is written', () => (writer.collect(first), writer.done === 1));

    const sector = Math.floor(writer.expected.findIndex((byte) => byte !== 0) / SECTOR);
    expect(await readSector(first, sector)).toEqual(
      writer.expected.slice(sector * SECTOR, (sector + 1) * SECTOR),
    );
    expect(await readSector(second, sector)).toEqual(new Uint8Array(SECTOR).fill(1));
    expect(readFileSync(path).equals(content)).toBe(true);
  });

  test('with a smaller disk is refused in one line', async () => {
    using folder = new TemporaryFolder();
    const { state } = await stoppedMachine(await folder.write('disk', new Uint8Array(SECTORS * SECTOR)));
    const smaller = await folder.write('smaller', new Uint8Array(SECTOR));

    const { message } = voltErrorOf(() => createDeviceMachine(drive(smaller), state));

    expect(message).toBe(
      'Cannot restore device disk (block): its size in sectors is 1 (expected 256, as in the snapshot)',
    );
  });

  test('tells its guest that connections are gone, while those of the original stay', async () => {
    using folder = new TemporaryFolder();
    const vsock = (name: string) => ({ vsock: { guest_cid: 3, uds_path: folder.at(name) } });
    using machine = createDeviceMachine(vsock('original'));
    const driver = new MachineDriver(machine, 0);
    const [receive, , event] = driver.start(3);
    event!.add([{ address: BUFFERS, length: 4, writable: true }]);
    receive!.add([{ address: BUFFERS + 0x1000, length: 0x1000, writable: true }]);
    receive!.notify();
    const client = connect(folder.at('original'));
    let closed = false;
    client.on('close', () => (closed = true));
    client.write('CONNECT 80\n');
    await waitUntil('the guest is asked', () => receive!.takeUsed() !== undefined);
    await machine.devices.pause();
    const state = saveMachine(machine);

    using clone = createDeviceMachine(vsock('clone'), state);
    driver.moveTo(clone);
    await waitUntil('the guest is told', () => event!.takeUsed() !== undefined);

    expect(clone.view.getUint32(BUFFERS, true)).toBe(0);
    expect(driver.read(R.interruptStatus) & 1).toBe(1);
    expect(closed).toBe(false);
    client.destroy();
  });

  test('has the rate limit as far used up as it was', async () => {
    const limited = { entropy: { rate_limiter: { bandwidth: { size: 4, refill_time: DAY_MS } } } };
    const ask = { address: BUFFERS, length: 8, writable: true };
    using machine = createDeviceMachine(limited);
    const driver = new MachineDriver(machine, 0);
    const [queue] = driver.start(1);
    for (let i = 0; i < 2; i++) queue!.add([ask]);
    queue!.notify();
    await waitUntil(
      'one is answered, which has used more than there was',
      () => queue!.takeUsed() !== undefined,
    );
    await machine.devices.pause();
    const state = saveMachine(machine);

    using clone = createDeviceMachine(limited, state);
    driver.moveTo(clone);
    queue!.add([ask]);
    queue!.notify();
    await clone.devices.pause();
    const later = saveMachine(clone);

    expect(queue!.takeUsed()).toBeUndefined();
    const buckets = [state, later].map(({ saved }) => saved[0]!.buckets![0]!);
    for (const { tokens, ...rest } of buckets) {
      expect(rest).toEqual({ size: 4, refillMs: DAY_MS, burst: 0 });
      expect(Math.round(tokens)).toBe(-4);
    }
  });

  test('has zeroes where the balloon has taken pages, and goes on with its size', async () => {
    using machine = createDeviceMachine({ balloon: { amount_mib: 1, deflate_on_oom: true } });
    const driver = new MachineDriver(machine, 0);
    const [inflate] = driver.start(3, [BALLOON_FEATURE.deflateOnOom, BALLOON_FEATURE.pageReporting]);
    const page = 0x30_0000;
    machine.bytes.fill(0x55, page, page + 0x2000);
    machine.view.setUint32(BUFFERS, page / 0x1000, true);
    inflate!.add([{ address: BUFFERS, length: 4 }]);
    inflate!.notify();
    await waitUntil('the page is taken', () => inflate!.takeUsed() !== undefined);
    driver.write(R.config + 4, 1);
    machine.devices.devices[0]!.balloon!.resize(2);
    await waitUntil('the target changes', () => driver.read(R.config) === 512);
    await machine.devices.pause();

    using clone = createDeviceMachine(
      { balloon: { amount_mib: 1, deflate_on_oom: true } },
      saveMachine(machine),
    );
    driver.moveTo(clone);

    expect(clone.bytes.slice(page, page + 0x1000)).toEqual(new Uint8Array(0x1000));
    expect(clone.bytes[page + 0x1000]).toBe(0x55);
    expect(clone.devices.devices[0]!.balloon!.status()).toMatchObject({ wantedMib: 2, actualMib: 1 / 256 });
    expect(driver.read(R.config)).toBe(512);
    clone.devices.devices[0]!.balloon!.resize(3);
    await waitUntil('the target changes again', () => driver.read(R.config) === 768);
  });
});

describe.skipIf(!kvmOpens || process.getuid?.() !== 0 || findVirtiofsd() === undefined)(
  'a shared folder (needs /dev/kvm, root and virtiofsd)',
  () => {
    test('cannot be saved, which one line says', async () => {
      using folder = new TemporaryFolder();
      using machine = createDeviceMachine({
        entropy: {},
        shares: [{ id: 'share0', tag: 'share0', path_on_host: folder.path }],
      });
      const problem =
        'device share0 (share) is served by another process, whose state Volt does not have; start the guest without it';

      const error = await machine.devices.pause().catch((caught: unknown) => caught);

      expect(machine.devices.refusal()).toBe(problem);
      expect(error).toEqual(new VoltError('usage', `Cannot save the devices: ${problem}`));
    });
  },
);

describe.skipIf(!kvmOpens)('persistent memory (needs /dev/kvm)', () => {
  const PMEM_BYTES = 2 * 1024 * 1024;
  const pmem = (path: string, readOnly: boolean) => ({
    pmem: [{ id: 'pmem0', path_on_host: path, read_only: readOnly }],
    entropy: {},
  });

  /** Has the entropy device, at the second place, write to the first bytes of the memory. */
  async function writeToMemory(machine: DeviceMachine): Promise<void> {
    const [queue] = new MachineDriver(machine, 1).start(1);
    queue!.add([{ address: 4 * 1024 ** 3, length: 64, writable: true }]);
    queue!.notify();
    await waitUntil('it is written', () => queue!.takeUsed() !== undefined);
  }

  test('that is writable is in its file once the devices are paused, and no other machine gets it', async () => {
    using folder = new TemporaryFolder();
    const path = await folder.write('pmem', new Uint8Array(PMEM_BYTES));
    using machine = createDeviceMachine(pmem(path, false));
    new MachineDriver(machine, 0).start(1);
    await writeToMemory(machine);

    await machine.devices.pause();
    const state = saveMachine(machine);
    const { message } = voltErrorOf(() => createDeviceMachine(pmem(path, false), state));

    expect(new Set(readFileSync(path).subarray(0, 64)).size).toBeGreaterThan(16);
    expect(message).toContain(`Cannot use --pmem ${path}: `);
  });

  test('that is read-only is shared by all clones', async () => {
    using folder = new TemporaryFolder();
    const path = await folder.write('pmem', new Uint8Array(PMEM_BYTES));
    using machine = createDeviceMachine(pmem(path, true));
    await machine.devices.pause();

    using clone = createDeviceMachine(pmem(path, true), saveMachine(machine));

    expect(clone.devices.devices).toHaveLength(2);
  });

  test('that is read-only and was written to cannot be saved, which one line says', async () => {
    using folder = new TemporaryFolder();
    const path = await folder.write('pmem', new Uint8Array(PMEM_BYTES));
    using machine = createDeviceMachine(pmem(path, true));
    const before = machine.devices.refusal();

    await writeToMemory(machine);

    expect(before).toBeUndefined();
    expect(machine.devices.refusal()).toBe(
      'the guest has written to device pmem0 (pmem), which is read-only, and these writes are in no file; give it a writable copy',
    );
  });
});

describe.skipIf(!kvmOpens)('a change of a running disk (needs /dev/kvm)', () => {
  test('is in the configuration of its snapshot, with the new size', async () => {
    using folder = new TemporaryFolder();
    const path = await folder.write('disk', new Uint8Array(SECTOR));
    const other = await folder.write('other', new Uint8Array(2 * SECTOR).fill(7));
    using machine = createDeviceMachine(drive(path));
    new MachineDriver(machine, 0).start(1);
    await machine.devices.changeDiskFile(machine.devices.devices[0]!, other);
    await machine.devices.pause();
    const state = saveMachine(machine);
    const input = machine.devices.currentInput(drive(path));
    machine[Symbol.dispose]();

    using clone = createDeviceMachine(input, state);

    expect(input).toEqual(drive(other));
    expect((await readSector(clone, 1))[0]).toBe(7);
  });

  test('of its limits is in the configuration of its snapshot, where the clone has it', async () => {
    using folder = new TemporaryFolder();
    const path = await folder.write('disk', new Uint8Array(SECTOR));
    using machine = createDeviceMachine(drive(path, { rate_limiter: { ops: { size: 1, refill_time: 1 } } }));
    const ops = { size: 3, burst: 2, refillMs: DAY_MS };
    const [disk] = machine.devices.devices;
    new MachineDriver(machine, 0).start(1);
    await machine.devices.change(disk!, { kind: 'limits', limits: { ops } });
    await machine.devices.pause();
    const input = machine.devices.currentInput(drive(path));
    const state = saveMachine(machine);
    machine[Symbol.dispose]();

    using clone = createDeviceMachine(input, state);

    expect(clone.devices.devices[0]!.config).toMatchObject({ limits: { ops } });
    expect(state.saved[0]!.buckets).toEqual([
      null,
      { size: 3, refillMs: DAY_MS, tokens: 3, burst: 2 },
      null,
      null,
    ]);
  });

  test('that is asked for right before a pause is made before, and none is made during it', async () => {
    using machine = createDeviceMachine({
      entropy: {},
      balloon: { amount_mib: 0, stats_polling_interval_s: 1 },
    });
    const [balloon] = machine.devices.devices;
    const change = { kind: 'balloon-polling', seconds: 2 } as const;

    const before = machine.devices.change(balloon!, change);
    await machine.devices.pause();
    await before;

    const during = await machine.devices.change(balloon!, change).catch((error: unknown) => error);
    machine.devices.resume();
    await machine.devices.change(balloon!, change);
    expect(during).toEqual(
      new VoltError('host', 'Cannot change the device: the machine is being saved; try again'),
    );
  });
});

describe.skipIf(!kvmOpens)('a guest that waits for its device again and again (needs /dev/kvm)', () => {
  const ROUNDS = 150;
  const { start, offer, waitUsed } = virtioAsm;
  const image = (chain: readonly GuestBuffer[], data: Uint8Array, features = 0) => {
    const rounds = Array.from({ length: ROUNDS }, (_, i) => [
      ...[...offer(i + 1), ...waitUsed(i + 1), ...asm.print(String(i % 10))],
    ]);
    const chains = Array.from({ length: 8 }, () => 0);
    return virtioImage([start(features), ...rounds, asm.exit(0)], [chain], data, chains);
  };
  const expected = Array.from({ length: ROUNDS }, (_, i) => i % 10).join('');

  /** A guest may end between the last byte that was seen of it and the pause. */
  async function saveUnlessEnded(vm: VirtualMachine) {
    try {
      return await saveWholeMachine(vm);
    } catch (error) {
      if (!String(error).includes('the guest: it has ended')) throw error;
      return undefined;
    }
  }

  /** Runs the guest, in a new machine and with newly opened files after each pause. */
  async function runInMoves(kernel: string, sections: Record<string, unknown>) {
    const { config } = parseConfig({
      'boot-source': { kernel_image_path: kernel },
      'machine-config': { vcpu_count: 1, mem_size_mib: 32 },
      ...sections,
    });
    let [output, moves] = ['', 0];
    let resources = new HostResources();
    let machine = new CollectedMachine(new VirtualMachine(config, { resources }));
    const random = seededRandom(3);
    for (;;) {
      // A guest that had less time in each machine would get nowhere.
      const wanted = random.int(1, 30);
      let ended: VmEnd | undefined;
      void machine.vm.ended.then((end) => (ended = end));
      await waitUntil('it goes on', () => ended !== undefined || machine.output.length >= wanted);
      if (ended) {
        output += await machine.end();
        resources[Symbol.dispose]();
        return { output, moves, end: ended };
      }
      using saved = await saveUnlessEnded(machine.vm);
      if (saved === undefined) continue;
      output += await machine.end();
      resources[Symbol.dispose]();
      resources = new HostResources();
      machine = new CollectedMachine(restoreMachine(saved, resources));
      moves++;
    }
  }

  test.each([
    ['', 0],
    [', by event indexes', 2 ** FEATURE.ringEventIdx],
  ])('gets each answer of its disk once, over many machines%s', async (_, features) => {
    using folder = new TemporaryFolder();
    const disk = await folder.write('disk', new Uint8Array(8 * SECTOR));
    const { chain, bytes } = blockRequest(DATA, 1, 5, new Uint8Array(SECTOR).fill(0x77));
    const kernel = await folder.write('kernel', buildPvhElf(image(chain, bytes, features)));

    // So slow that it is still at it when a busy host gets to its first move.
    const rate_limiter = { ops: { size: 1, refill_time: 4 } };

    const { output, moves, end } = await runInMoves(kernel, drive(disk, { rate_limiter }));

    expect(output).toBe(expected);
    expect(end.kind).toBe('guest-exit');
    expect(moves).toBeGreaterThan(0);
    expect(readFileSync(disk)[5 * SECTOR]).toBe(0x77);
  });

  test('gets each answer of a device with a rate limit once, over many machines', async () => {
    using folder = new TemporaryFolder();
    const chain = [{ address: DATA, length: 64, writable: true }];
    const kernel = await folder.write('kernel', buildPvhElf(image(chain, new Uint8Array(64))));
    const rate_limiter = { ops: { size: 3, refill_time: 3 } };

    const { output, moves } = await runInMoves(kernel, { entropy: { rate_limiter } });

    expect(output).toBe(expected);
    expect(moves).toBeGreaterThan(0);
  });
});
