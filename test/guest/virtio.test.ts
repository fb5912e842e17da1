/** Virtio devices on a real KVM, with drivers of a few instructions. */
import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { readdirSync, readlinkSync, statSync } from 'node:fs';
import { MMIO_REGISTER as R } from '../../src/virtio/transport/mmio.regs.ts';
import { parseConfig, VirtualMachine, VmControl } from '../../src/api/index.ts';
import { LAYOUT } from '../../src/machine/layout.ts';
import { kvmOpens, TemporaryFolder } from '../cli/volt-process.ts';
import { runMachine, waitUntil } from './guest-run.ts';
import { asm, buildPvhElf } from './tiny-guest.ts';
import { AVAIL, blockRequest, DATA, SECTOR, virtioAsm, virtioImage } from './virtio-guest.ts';

setDefaultTimeout(60_000);

const { start, offer, waitUsed, read, write } = virtioAsm;

/** Runs an image as a guest with the devices of `sections`. */
async function run(folder: TemporaryFolder, image: Uint8Array, sections: Record<string, unknown>) {
  const kernel = await folder.write('kernel', buildPvhElf(image));
  const { config } = parseConfig({
    'boot-source': { kernel_image_path: kernel },
    'machine-config': { vcpu_count: 1, mem_size_mib: 32 },
    ...sections,
  });
  using vm = new VirtualMachine(config);
  const { output, end } = await runMachine(vm);
  const devices = new VmControl(vm).devices();
  const failures = devices.map(({ failure }) => failure);
  return { output: Buffer.from(output, 'latin1'), end, failures, devices };
}

describe.skipIf(!kvmOpens)('the entropy device (needs /dev/kvm)', () => {
  test('fills buffers with bytes that differ', async () => {
    using folder = new TemporaryFolder();
    const chains = [0, 1].map((i) => [{ address: DATA + 64 * i, length: 64, writable: true }]);
    const code = [start(), offer(2), waitUsed(2), asm.printMemory(DATA, 192), asm.exit(0)];

    const { output, end } = await run(folder, virtioImage(code, chains, new Uint8Array(192)), {
      entropy: {},
    });

    expect(end.kind).toBe('guest-exit');
    const [first, second, third] = [0, 64, 128].map((at) => output.subarray(at, at + 64).toString('hex'));
    expect(first).not.toBe(second!);
    expect(new Set(output.subarray(0, 128)).size).toBeGreaterThan(32);
    expect(third).toBe('00'.repeat(64));
  });

  test('raises its interrupt, which goes away when it is acknowledged', async () => {
    using folder = new TemporaryFolder();
    const chains = [[{ address: DATA, length: 8, writable: true }]];
    const code = [
      virtioAsm.routeInterrupt(),
      [...start(), ...offer(1), ...virtioAsm.waitInterrupt()],
      [...read(R.interruptStatus), ...asm.printEax(1)],
      write(R.interruptAck, 1),
      [...read(R.interruptStatus), ...asm.printEax(1)],
      asm.exit(0),
    ];

    const { output } = await run(folder, virtioImage(code, chains, new Uint8Array(8)), { entropy: {} });

    expect([...output]).toEqual([1, 0]);
  });

  test('is announced on the command line to a guest without ACPI, which finds it there', async () => {
    using folder = new TemporaryFolder();
    const announced = ' virtio_mmio.device=4K@0xd0000000:5\0';
    const args = 'quiet';
    const chains = [[{ address: DATA, length: 8, writable: true }]];
    const code = [
      asm.printMemory(LAYOUT.commandLine.address, args.length + announced.length),
      virtioAsm.routeInterrupt(),
      [...start(), ...offer(1), ...virtioAsm.waitInterrupt(), ...read(R.deviceId), ...asm.printEax(1)],
      asm.exit(0),
    ];

    const { output, end } = await run(folder, virtioImage(code, chains, new Uint8Array(8)), {
      entropy: {},
      volt: { acpi: false },
      'boot-source': { kernel_image_path: folder.at('kernel'), boot_args: args },
    });

    expect(output.toString('latin1')).toBe(`${args}${announced}\x04`);
    expect(end.kind).toBe('guest-exit');
  });
});

/** Where a descriptor leads; nowhere when it was closed meanwhile. */
function linkOf(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    return '';
  }
}

describe.skipIf(!kvmOpens)('a disk (needs /dev/kvm)', () => {
  test('is read and written by sectors', async () => {
    using folder = new TemporaryFolder();
    const content = Uint8Array.from({ length: 8 * SECTOR }, (_, i) => i >> 9);
    const path = await folder.write('disk', content);
    const out = blockRequest(DATA, 1, 5, new Uint8Array(SECTOR).fill(0x77));
    const into = blockRequest(DATA + out.bytes.length, 0, 3, SECTOR);
    const data = Buffer.concat([out.bytes, into.bytes]);
    const code = [start(), offer(2), waitUsed(2), asm.printMemory(DATA, data.length), asm.exit(0)];

    const { output, end } = await run(folder, virtioImage(code, [out.chain, into.chain], data), {
      drives: [{ drive_id: 'disk', path_on_host: path }],
    });

    expect(end.kind).toBe('guest-exit');
    expect(output[out.bytes.length - 1]).toBe(0);
    const back = output.subarray(out.bytes.length + 16);
    expect([back[0], back[SECTOR - 1], back[SECTOR]]).toEqual([3, 3, 0]);
    const written = await Bun.file(path).bytes();
    expect([4, 5, 6].map((sector) => written[sector * SECTOR])).toEqual([4, 0x77, 6]);
  });

  test('counts what it did, for volt ctl devices', async () => {
    using folder = new TemporaryFolder();
    const path = await folder.write('disk', new Uint8Array(8 * SECTOR));
    const out = blockRequest(DATA, 1, 5, new Uint8Array(SECTOR));
    const into = blockRequest(DATA + out.bytes.length, 0, 3, 2 * SECTOR);
    const data = Buffer.concat([out.bytes, into.bytes]);
    const code = [start(), offer(2), waitUsed(2), asm.exit(0)];

    const { devices } = await run(folder, virtioImage(code, [out.chain, into.chain], data), {
      drives: [{ drive_id: 'disk', path_on_host: path }],
    });

    expect(devices).toMatchObject([
      {
        id: 'disk',
        kind: 'block',
        address: 0xd000_0000,
        gsi: 5,
        state: 'running',
        failures: 0,
        features: ['version1'],
        queues: [{ index: 0, size: 8, maxSize: 256, chains: 2, bytesFromGuest: 512, bytesToGuest: 1024 }],
      },
    ]);
  });

  test('keeps everybody out of what lies behind its end', async () => {
    using folder = new TemporaryFolder();
    const path = await folder.write('disk', new Uint8Array(2 * SECTOR).fill(9));
    const into = blockRequest(DATA, 0, 2, SECTOR);
    const out = blockRequest(DATA + into.bytes.length, 1, 1, new Uint8Array(2 * SECTOR));
    const data = Buffer.concat([into.bytes, out.bytes]);
    const code = [start(), offer(2), waitUsed(2), asm.printMemory(DATA, data.length), asm.exit(0)];

    const { output } = await run(folder, virtioImage(code, [into.chain, out.chain], data), {
      drives: [{ drive_id: 'disk', path_on_host: path }],
    });

    expect(output[into.bytes.length - 1]).toBe(1);
    expect(output.at(-1)).toBe(1);
    expect(statSync(path).size).toBe(2 * SECTOR);
    expect(new Set(await Bun.file(path).bytes())).toEqual(new Set([9]));
  });

  test('leaves no descriptor behind when its machine is gone', async () => {
    using folder = new TemporaryFolder();
    const path = await folder.write('disk', new Uint8Array(8 * SECTOR));
    const into = blockRequest(DATA, 0, 3, SECTOR);
    const image = virtioImage([start(), offer(1), waitUsed(1), asm.exit(0)], [into.chain], into.bytes);
    const drives = [
      { drive_id: 'disk', path_on_host: path, overlay: folder.at('overlay') },
      { drive_id: 'other', path_on_host: await folder.write('other-disk', new Uint8Array(SECTOR)) },
    ];
    const openFiles = () =>
      readdirSync('/proc/self/fd')
        .map((fd) => linkOf(`/proc/self/fd/${fd}`))
        .filter((target) => /kvm|disk|overlay|io_uring/.test(target)).length;
    await run(folder, image, { drives, entropy: {} });
    await waitUntil('the first machine is gone', () => openFiles() === 0);

    for (let i = 0; i < 5; i++) await run(folder, image, { drives, entropy: {} });

    await waitUntil('all machines are gone', () => openFiles() === 0);
    expect(openFiles()).toBe(0);
  });

  test('gives up on a driver that breaks the rules, tells it so, and works again after a reset', async () => {
    using folder = new TemporaryFolder();
    const path = await folder.write('disk', new Uint8Array(SECTOR).fill(0x5a));
    const into = blockRequest(DATA, 0, 0, SECTOR);
    const needsReset = asm.untilZero([...read(R.status), 0x24, 0x40, 0x34, 0x40]); // and al, 0x40; xor al, 0x40
    const code = [
      // 100 chains at once do not fit a ring of 8.
      [...start(), ...offer(100), ...needsReset],
      [...read(R.interruptStatus), ...asm.printEax(1)],
      // The ring as a driver makes it, before the device may look at it.
      [...asm.loadEax(0), ...asm.storeEax(AVAIL), ...start(), ...offer(1), ...waitUsed(1)],
      [...asm.printMemory(DATA + 16, 1), ...asm.exit(0)],
    ];

    const { output, end, failures } = await run(folder, virtioImage(code, [into.chain], into.bytes), {
      drives: [{ drive_id: 'disk', path_on_host: path }],
    });

    expect([...output]).toEqual([2, 0x5a]);
    expect(failures).toEqual(['queue 0 has an invalid ring or descriptor chain']);
    expect(end.kind).toBe('guest-exit');
  });
});
