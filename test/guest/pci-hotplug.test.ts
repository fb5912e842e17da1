/** PCI hotplug on a real KVM, with a guest of a few instructions that answers by the registers. */
import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { writeFileSync } from 'node:fs';
import { HostResources, parseConfig, VirtualMachine, VmControl } from '../../src/api/index.ts';
import { OwnedFd } from '../../src/ffi/file.ts';
import { libc } from '../../src/ffi/libc.ts';
import { PCI_HOTPLUG, PORT } from '../../src/machine/ports.ts';
import { openForPlug, checkPluggable } from '../../src/virtio/host/plug.ts';
import { kvmOpens, TemporaryFolder } from '../cli/volt-process.ts';
import { waitUntil } from './guest-run.ts';
import { CollectedMachine, restoreMachine, saveMachine } from './saved-machine.ts';
import { asm, buildPvhElf, program, u32 } from './tiny-guest.ts';

setDefaultTimeout(60_000);

const register = (offset: number) => PORT.pciHotplug + offset;
const F_DUPFD_CLOEXEC = 1030;

/** Waits until a register is not 0: test eax, eax; sete al; test al, al. */
const waitFor = (offset: number) =>
  asm.untilZero([...asm.in32(register(offset)), 0x85, 0xc0, 0x0f, 0x94, 0xc0, 0x84, 0xc0]);
/** ECAM of a slot's ids. */
const readIds = (slot: number) => asm.readEax(0xe000_0000 + slot * 0x8000);
const answer = (slot: number, status: number) => [
  ...[...asm.out32(register(PCI_HOTPLUG.slot), slot), ...asm.out32(register(PCI_HOTPLUG.status), status)],
];
const eject = (device: number) => [
  ...asm.out32(register(PCI_HOTPLUG.bus), 0),
  ...asm.out32(register(PCI_HOTPLUG.eject), device),
];

async function boot(folder: TemporaryFolder, code: Uint8Array, sections: Record<string, unknown> = {}) {
  const kernel = await folder.write('kernel', buildPvhElf(code));
  const { config } = parseConfig({
    'boot-source': { kernel_image_path: kernel },
    'machine-config': { vcpu_count: 1, mem_size_mib: 32 },
    volt: { pci: true },
    ...sections,
  });
  const resources = new HostResources();
  const machine = new CollectedMachine(new VirtualMachine(config, { resources }));
  return Object.assign(machine, { resources });
}

/** Plugs a disk as a client does, whose descriptors are others than the guest's. */
async function plugDisk(vm: VirtualMachine, path: string, id: string) {
  const item = { drive_id: id, path_on_host: path };
  const [config] = parseConfig({ drives: [item] }).config.devices;
  const hotplug = await vm.pciHotplug();
  return hotplug.plug({ section: 'drives', item }, async () => {
    using files = openForPlug(checkPluggable(config!));
    return files.fds.map((fd) => new OwnedFd(libc.fcntl(fd, F_DUPFD_CLOEXEC, 0)));
  });
}

describe.skipIf(!kvmOpens)('a disk that is plugged (needs /dev/kvm)', () => {
  test('answers in its slot, is ejected, and leaves the slot empty', async () => {
    using folder = new TemporaryFolder();
    const disk = folder.at('disk');
    writeFileSync(disk, new Uint8Array(4096));
    const machine = await boot(
      folder,
      program(
        [
          ...readIds(1),
          ...asm.printEax(4),
          ...waitFor(PCI_HOTPLUG.inserted),
          ...readIds(1),
          ...asm.printEax(4),
        ],
        [...answer(1, 0), ...waitFor(PCI_HOTPLUG.removing), ...eject(1), ...readIds(1), ...asm.printEax(4)],
        asm.halt(),
      ),
    );

    await waitUntil('the guest has seen the empty slot', () => machine.output.length === 4);
    const plugged = await plugDisk(machine.vm, disk, 'data');
    const devices = new VmControl(machine.vm).devices();
    const unplugged = await (await machine.vm.pciHotplug()).unplug('data');
    await waitUntil('the guest has looked', () => machine.output.length === 12);

    expect(plugged).toEqual({ id: 'data', address: '00:01.0', answered: true });
    expect(devices.map(({ id, pci }) => [id, pci])).toEqual([['data', '00:01.0']]);
    expect(unplugged.id).toBe('data');
    expect(machine.vm.devices).toEqual([]);
    const ids = [0xffff_ffff, 0x10421af4, 0xffff_ffff].flatMap(u32);
    expect([...Buffer.from(machine.output, 'latin1')]).toEqual(ids);
    await machine.end();
    machine.resources[Symbol.dispose]();
  });

  test('stays when the guest refuses, with the reason', async () => {
    using folder = new TemporaryFolder();
    const disk = folder.at('disk');
    writeFileSync(disk, new Uint8Array(4096));
    const machine = await boot(
      folder,
      program([...waitFor(PCI_HOTPLUG.removing), ...answer(1, 0x82), ...asm.halt()]),
      { drives: [{ drive_id: 'disk0', path_on_host: disk }] },
    );

    const unplug = machine.vm.pciHotplug().then((hotplug) => hotplug.unplug('disk0'));

    expect(await unplug.catch(String)).toContain(
      'Cannot unplug disk0: the guest refuses, the device is busy (_OST status 130',
    );
    expect(machine.vm.devices.map(({ config }) => config.id)).toEqual(['disk0']);
    await machine.end();
    machine.resources[Symbol.dispose]();
  });

  test('is part of a snapshot, in its slot', async () => {
    using folder = new TemporaryFolder();
    const disk = folder.at('disk');
    writeFileSync(disk, new Uint8Array(4096));
    const machine = await boot(
      folder,
      program(
        [...waitFor(PCI_HOTPLUG.inserted), ...answer(1, 0), ...asm.print('a'.repeat(100))],
        [...waitFor(PCI_HOTPLUG.removing), ...readIds(1), ...asm.printEax(4), ...eject(1), ...asm.exit(0)],
      ),
    );
    await plugDisk(machine.vm, disk, 'data');
    using saved = await saveMachine(machine.vm);
    await machine.end();
    machine.resources[Symbol.dispose]();

    const resources = new HostResources();
    const second = new CollectedMachine(restoreMachine(saved, resources));
    const unplugged = await (await second.vm.pciHotplug()).unplug('data');

    expect(saved.state.config).toMatchObject({ drives: [{ drive_id: 'data' }], volt: { pci_slots: [1] } });
    expect(unplugged.id).toBe('data');
    expect((await second.vm.ended).kind).toBe('guest-exit');
    await second.end();
    resources[Symbol.dispose]();
  });

  test('stays in its slot after a reset of the guest, beside those that were not unplugged', async () => {
    using folder = new TemporaryFolder();
    const [first, second] = [folder.at('first'), folder.at('second')];
    for (const path of [first, second]) writeFileSync(path, new Uint8Array(4096));
    const code = program(
      [...waitFor(PCI_HOTPLUG.inserted), ...answer(2, 0), ...waitFor(PCI_HOTPLUG.removing), ...eject(1)],
      asm.halt(),
    );
    const machine = await boot(folder, code, { drives: [{ drive_id: 'disk0', path_on_host: first }] });
    using _ = machine.resources;
    await plugDisk(machine.vm, second, 'data');
    await (await machine.vm.pciHotplug()).unplug('disk0');
    const { configAfterReset } = machine.vm;
    await machine.end();

    using next = new VirtualMachine(configAfterReset, { resources: machine.resources });

    expect(new VmControl(next).devices().map(({ id, pci }) => [id, pci])).toEqual([['data', '00:02.0']]);
    expect(next.config.input).toMatchObject({ drives: [{ drive_id: 'data' }], volt: { pci_slots: [2] } });
  });

  test('is refused without a PCI bus, and under a name that is taken', async () => {
    using folder = new TemporaryFolder();
    const disk = folder.at('disk');
    writeFileSync(disk, new Uint8Array(4096));
    const machine = await boot(folder, program(asm.spin()), {
      drives: [{ drive_id: 'a', path_on_host: disk }],
    });
    const other = await boot(folder, program(asm.spin()), { volt: {}, entropy: {} });

    const taken = await plugDisk(machine.vm, disk, 'a').catch(String);
    const withoutBus = await plugDisk(other.vm, disk, 'b').catch(String);

    expect(taken).toContain('Cannot plug a: the guest has a device of this name; give it another id');
    expect(withoutBus).toContain('the guest has no PCI bus; start it with --pci');
    await machine.end();
    machine.resources[Symbol.dispose]();
    await other.end();
    other.resources[Symbol.dispose]();
  });
});
