/** The PCI bus on a real KVM, with drivers of a few instructions. */
import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { HostResources, parseConfig, VirtualMachine } from '../../src/api/index.ts';
import { CONFIG } from '../../src/pci/regs.ts';
import { PCI_BAR, PCI_COMMON as R } from '../../src/virtio/transport/pci.regs.ts';
import { kvmOpens, TemporaryFolder } from '../cli/volt-process.ts';
import { runMachine, waitUntil } from './guest-run.ts';
import { BAR, pciAsm } from './pci-guest.ts';
import { CollectedMachine, restoreMachine, saveMachine } from './saved-machine.ts';
import { asm, buildPvhElf, u32 } from './tiny-guest.ts';
import { DATA, virtioImage } from './virtio-guest.ts';

setDefaultTimeout(60_000);

const {
  enable,
  enableMsix,
  maskVector,
  offer,
  readBar,
  readConfig,
  readPending,
  start,
  waitInterrupt,
  waitUsed,
} = pciAsm;
const CONFIG_ADDRESS = 0xcf8;
const CONFIG_DATA = 0xcfc;
const CHAINS = Array.from({ length: 4 }, (_, i) => [{ address: DATA + 8 * i, length: 8, writable: true }]);

const imageOf = (...code: readonly (readonly number[])[]) =>
  virtioImage([...code, asm.exit(0)], CHAINS, new Uint8Array(32));

async function configOf(folder: TemporaryFolder, image: Uint8Array, volt: Record<string, unknown> = {}) {
  const kernel = await folder.write('kernel', buildPvhElf(image));
  return parseConfig({
    'boot-source': { kernel_image_path: kernel },
    'machine-config': { vcpu_count: 1, mem_size_mib: 32 },
    entropy: {},
    volt: { pci: true, ...volt },
  }).config;
}

/** What the guest printed, whose first device is one of random numbers. */
async function run(code: readonly (readonly number[])[], volt: Record<string, unknown> = {}) {
  using folder = new TemporaryFolder();
  using vm = new VirtualMachine(await configOf(folder, imageOf(...code), volt));
  const { output, end } = await runMachine(vm);
  return { output: [...Buffer.from(output, 'latin1')], end: end.kind };
}

describe.skipIf(!kvmOpens)('a PCI bus (needs /dev/kvm)', () => {
  test('shows its devices by ECAM and by mechanism #1', async () => {
    const { output } = await run([
      [...readConfig(0), ...asm.printEax(4)],
      [...asm.out32(CONFIG_ADDRESS, 0x8000_0800), ...asm.in32(CONFIG_DATA), ...asm.printEax(4)],
      [...asm.out32(CONFIG_ADDRESS, 0x8000_0000), ...asm.in32(CONFIG_DATA), ...asm.printEax(4)],
      [...asm.out32(CONFIG_ADDRESS, 0x8000_1000), ...asm.in32(CONFIG_DATA), ...asm.printEax(4)],
    ]);

    expect(output).toEqual([...u32(0x10441af4), ...u32(0x10441af4), ...u32(0x0d578086), ...u32(0xffff_ffff)]);
  });

  test('places the BAR, which answers only while memory space is enabled', async () => {
    const { output } = await run([
      [...readConfig(CONFIG.bar0), ...asm.printEax(4), ...readBar(R.deviceFeature), ...asm.printEax(4)],
      [...enable(), ...readBar(PCI_BAR.common + R.configVector), ...asm.printEax(2)],
      [0xa0, ...u32(BAR + R.numQueues), ...asm.printEax(1)],
    ]);

    expect(output.slice(0, 8)).toEqual([...u32(BAR | 4), ...u32(0xffff_ffff)]);
    expect(output.at(-1)).toBe(1);
  });

  test('lets a queue notify its vector', async () => {
    const { output, end } = await run([
      [...enable(), ...enableMsix(), ...start(), ...offer(1), ...waitInterrupt()],
      [...readPending(), ...asm.printEax(1)],
    ]);

    expect([output, end]).toEqual([[1], 'guest-exit']);
  });

  test('keeps the interrupt of a masked vector pending until it is unmasked', async () => {
    const { output } = await run([
      [...enable(), ...enableMsix(1), ...start(), ...offer(1), ...waitUsed(1)],
      // The message follows the used index at once, by another thread.
      asm.untilZero([...readBar(PCI_BAR.msixPba), 0x83, 0xf0, 0x02]),
      [...readPending(), ...asm.printEax(1)],
      [...maskVector(0), ...waitInterrupt(), ...readBar(PCI_BAR.msixPba), ...asm.printEax(1)],
    ]);

    expect(output).toEqual([0, 0]);
  });

  test.each([[{}], [{ acpi: false }]])(
    'asserts the pin until the ISR status is read, with %p',
    async (volt) => {
      const { output } = await run(
        [
          [...enable(), ...pciAsm.routePin(), ...start(BAR, 0xffff), ...offer(1), ...waitInterrupt()],
          [...pciAsm.readIsr(), ...asm.printEax(1), ...pciAsm.readIsr(), ...asm.printEax(1)],
        ],
        volt,
      );

      expect(output).toEqual([1, 0]);
    },
  );

  test('lets the driver move the BAR between two requests, also above 4 GiB in its registers', async () => {
    const moved = 0xc700_0000;
    const { output, end } = await run([
      [...enable(), ...start(), ...offer(1), ...waitUsed(1)],
      [...pciAsm.writeConfig(CONFIG.bar0 + 4, 8), ...pciAsm.writeConfig(CONFIG.bar0, moved)],
      [...readBar(R.driverFeature, moved), ...asm.printEax(4)],
      [...pciAsm.writeConfig(CONFIG.bar0 + 4, 0), ...offer(2, moved), ...waitUsed(2)],
      [...readBar(R.driverFeature), ...asm.printEax(4)],
      [...readBar(R.driverFeature, moved), ...asm.printEax(4)],
    ]);

    expect(end).toBe('guest-exit');
    expect(output).toEqual([...u32(0xffff_ffff), ...u32(0xffff_ffff), ...u32(1)]);
  });
});

describe.skipIf(!kvmOpens)('a restored PCI bus (needs /dev/kvm)', () => {
  /** Takes so long to print that a busy host saves the guest meanwhile. */
  const LONG_TEXT = 'a'.repeat(6000);

  /** Runs until the guest prints, saves it, and runs the copy to its end. */
  async function move(image: Uint8Array) {
    using folder = new TemporaryFolder();
    const config = await configOf(folder, image);
    using resources = new HostResources();
    const first = new CollectedMachine(new VirtualMachine(config, { resources }));
    await waitUntil('it prints', () => first.output.length > 0);
    using saved = await saveMachine(first.vm);
    const before = await first.end();
    using others = new HostResources();
    const second = new CollectedMachine(restoreMachine(saved, others));
    const end = await second.vm.ended;
    return { before, after: await second.end(), end: end.kind, saved: saved.state.devices[0]!.pci };
  }

  test('has its BAR, its vectors and its queue', async () => {
    const moved = 0xc700_0000;
    const { before, after, end, saved } = await move(
      imageOf(
        [...pciAsm.writeConfig(CONFIG.bar0, moved), ...enable(), ...enableMsix(0, moved), ...start(moved)],
        asm.printAgain('a', LONG_TEXT.length),
        [...offer(1, moved), ...waitUsed(1), ...waitInterrupt(), ...asm.print('b')],
      ),
    );

    expect([before + after, end]).toEqual([`${LONG_TEXT}b`, 'guest-exit']);
    expect(saved).toMatchObject({ slot: 1, vectors: [0, 2], pending: [] });
    expect(saved!.config[CONFIG.bar0 / 4]).toBe((moved | 4) >>> 0);
  });

  test('has the pending bit of a masked vector, and delivers it when it is unmasked', async () => {
    const { before, after, end } = await move(
      imageOf(
        [...enable(), ...enableMsix(1), ...start(), ...offer(1), ...waitUsed(1)],
        asm.untilZero([...readBar(PCI_BAR.msixPba), 0x83, 0xf0, 0x02]),
        asm.printAgain('a', LONG_TEXT.length),
        [...maskVector(0), ...waitInterrupt(), ...asm.print('b')],
      ),
    );

    expect([before + after, end]).toEqual([`${LONG_TEXT}b`, 'guest-exit']);
  });
});
