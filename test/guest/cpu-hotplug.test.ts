/**
 * CPUs that come and go on real vCPUs: a tiny guest drives the registers as the DSDT does, starts each CPU that is
 * plugged by INIT and SIPI, and ejects it when it is asked to. test/linux/acpi.test.ts has the same with Linux.
 */
import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { HostResources, parseConfig, VirtualMachine } from '../../src/api/index.ts';
import { CPU_HOTPLUG, CPU_HOTPLUG_STATUS, PORT } from '../../src/machine/ports.ts';
import { kvmOpens, TemporaryFolder } from '../cli/volt-process.ts';
import { waitUntil } from './guest-run.ts';
import { interruptAsm, interruptGuest } from './interrupt-guest.ts';
import { Running } from './running.ts';
import { asm, buildPvhElf, u32 } from './tiny-guest.ts';

setDefaultTimeout(300_000);

/** Of one CPU that comes and goes; thousands by hand. */
const ROUNDS = Number(process.env['VOLT_PLUG_ROUNDS'] ?? 100);

const { inserted, removing, eject } = CPU_HOTPLUG_STATUS;
const register = (name: Exclude<keyof typeof CPU_HOTPLUG, 'bytes'>) => PORT.cpuHotplug + CPU_HOTPLUG[name];
/** Does `body` if the register's bit is set. */
const ifSet = (bit: number, body: readonly number[]) => [
  ...asm.in32(register('status')),
  ...[0x25, ...u32(bit), 0x35, ...u32(bit)], // and eax, bit; xor eax, bit
  ...asm.ifZero(body),
];
const store = (address: number, value: number) => [0xc7, 0x05, ...u32(address), ...u32(value)]; // mov dword [address], value
const sendIpi = (apicId: number, low: number) => [
  ...store(0xfee0_0310, apicId << 24),
  ...store(0xfee0_0300, low),
];
const answer = (event: number, status: number) => [
  ...asm.out32(register('ostEvent'), event),
  ...asm.out32(register('ostStatus'), status),
];
const startCpu = (apicId: number) => [...sendIpi(apicId, 0x4500), ...sendIpi(apicId, 0x4608)]; // INIT; SIPI, vector 8

/** What the guest does for the vCPU that `next` has selected. */
interface Manners {
  readonly onPlug: readonly number[];
  readonly onRemoval: readonly number[];
}

const OBLIGING: Manners = {
  onPlug: [...answer(1, 0), ...startCpu(1)],
  onRemoval: [...asm.out32(register('status'), eject), ...asm.print('e')],
};

/** The configuration of a machine with such a guest, whose file is there until it is disposed of. */
async function machineConfig({ onPlug, onRemoval }: Manners, cpus = 1, maxCpus = 2) {
  const folder = new TemporaryFolder();
  const bsp = asm.forEver([
    ...[...asm.in8(PORT.acpiEvents), 0x24, 0x01, 0x34, 0x01], // and al, 1; xor al, 1
    ...asm.ifZero([
      ...asm.in32(register('next')),
      ...ifSet(inserted, [...asm.out32(register('status'), inserted), ...onPlug]),
      ...ifSet(removing, [...asm.out32(register('status'), removing), ...onRemoval]),
    ]),
  ]);
  const ap = [...interruptAsm.printCpu('a'), ...asm.halt()];
  const path = await folder.write('kernel', buildPvhElf(interruptGuest({ bsp, ap, handlers: {} })));
  const { config } = parseConfig({
    'boot-source': { kernel_image_path: path },
    'machine-config': { vcpu_count: cpus, mem_size_mib: 64 },
    volt: { max_cpus: maxCpus },
  });
  return { config, [Symbol.dispose]: () => folder[Symbol.dispose]() };
}

async function machine(manners: Manners): Promise<Running> {
  using made = await machineConfig(manners);
  return new Running(new VirtualMachine(made.config));
}

describe.skipIf(!kvmOpens)('CPU hotplug (needs /dev/kvm)', () => {
  test('a vCPU is plugged, started, ejected and parked, a hundred times over', async () => {
    await using running = await machine(OBLIGING);

    for (let round = 1; round <= ROUNDS; round++) {
      const plugged = await running.control.setCpuCount(2);
      await waitUntil('the AP', () => running.output.length === 2 * round - 1);
      const removed = await running.control.setCpuCount(1);
      expect([plugged.added, removed.removed, removed.present]).toEqual([[1], [1], 1]);
      await waitUntil('the word of the ejection', () => running.output.length === 2 * round);
    }

    expect(running.output).toBe('be'.repeat(ROUNDS));
    expect(running.control.vcpus().map(({ index }) => index)).toEqual([0]);
  });

  test('a plugged vCPU is steered like any other, and one that is gone is not', async () => {
    await using running = await machine(OBLIGING);

    await running.control.setCpuCount(2);
    await waitUntil('the AP', () => running.output === 'b');
    await running.control.pause([1]);
    const paused = running.control.vcpus().map(({ state }) => state);
    await running.control.resume([1]);
    await running.control.setCpuCount(1);

    expect(paused[1]).toBe('paused');
    expect(running.control.status()).toMatchObject({ vcpus: 1, maxVcpus: 2 });
    await expect(running.control.pause([1])).rejects.toThrow('Cannot find vCPU 1 (expected 0 to 0)');
    expect(() => running.control.sendIpi({ destination: 1, mode: 'nmi' })).toThrow('destination is 1');
  });

  test('a guest that refuses to give a vCPU back keeps it, and its reason is told', async () => {
    await using running = await machine({ ...OBLIGING, onRemoval: answer(3, 0x81) });
    await running.control.setCpuCount(2);

    const refusal = running.control.setCpuCount(1);

    await expect(refusal).rejects.toThrow(
      'Cannot remove vCPU 1: the guest refuses, the device is in use (_OST status 129; expected it to eject the CPU)',
    );
    expect(running.control.status().vcpus).toBe(2);
  });

  test('a guest may eject a vCPU on its own account', async () => {
    await using running = await machine({ ...OBLIGING, onPlug: [...answer(1, 0), ...OBLIGING.onRemoval] });

    await running.control.setCpuCount(2);
    await waitUntil('that it is parked', () => running.control.status().vcpus === 1);
    await waitUntil('the word of the ejection', () => running.output.length > 0);

    expect(running.output).toBe('e');
  });

  test('a machine ends while a vCPU is parked, and gives everything back', async () => {
    const running = await machine(OBLIGING);
    await running.control.setCpuCount(2);
    await waitUntil('the AP', () => running.output === 'b');
    await running.control.setCpuCount(1);

    const end = await running.vm.stop();
    await running[Symbol.asyncDispose]();

    expect(end.kind).toBe('stopped');
    await expect(running.control.setCpuCount(2)).rejects.toThrow('the guest has ended');
  });

  test('after a reset the machine has the vCPUs that were plugged, pinned as they were, and room for the rest', async () => {
    const resetting = { ...OBLIGING, onRemoval: asm.out8(PORT.i8042Command, 0xfe) };
    using made = await machineConfig(resetting, 1, 3);
    using resources = new HostResources();
    await using first = new Running(new VirtualMachine(made.config, { resources }));
    await first.control.setCpuCount(2);
    await first.control.setAffinity(1, [0]);
    const removal = first.control.setCpuCount(1).catch(() => {});
    const end = await first.vm.ended;
    await removal;

    await using second = new Running(new VirtualMachine(first.vm.configAfterReset, { resources }));
    await waitUntil('that the AP waits', () => second.control.vcpus()[1]?.threadId !== 0);
    const [status, vcpus] = [second.control.status(), second.control.vcpus()];
    const plugged = await second.control.setCpuCount(3);

    expect(end.kind).toBe('reset');
    expect(status).toMatchObject({ vcpus: 2, maxVcpus: 3 });
    expect(vcpus.map(({ index }) => index)).toEqual([0, 1]);
    expect(vcpus[1]!.affinity).toEqual([0]);
    expect([plugged.added, plugged.present, plugged.unanswered]).toEqual([[2], 3, []]);
    expect(second.vm.configAfterReset.cpus).toBe(3);
  });

  test('after a reset the machine lacks the vCPUs that were removed, but never its BSP', async () => {
    const resetting = { onPlug: asm.out8(PORT.i8042Command, 0xfe), onRemoval: OBLIGING.onRemoval };
    using made = await machineConfig(resetting, 2, 3);
    using vm = new VirtualMachine({ ...made.config, bootCpu: 1 });
    await using running = new Running(vm);
    await running.control.setCpuCount(1);
    const plugging = running.control.setCpuCount(2).catch(() => {});
    const end = await vm.ended;
    await plugging;

    expect(end.kind).toBe('reset');
    // vCPU 0, which was plugged again, and the BSP.
    expect(vm.configAfterReset.cpus).toBe(2);
    expect(vm.configAfterReset.cpuHotplug).toBe(true);
  });

  test('without room there is nothing to plug, and counts that cannot be are refused', async () => {
    await using running = await machine(OBLIGING);
    for (const count of [0, 3, 1.5]) {
      const refusal = await running.control.setCpuCount(count).catch((error: Error) => error.message);
      expect(refusal).toBe(`Cannot change the number of vCPUs to ${count} (expected 1 to 2)`);
    }
  });
});
