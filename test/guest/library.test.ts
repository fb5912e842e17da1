/** Virtual machines as objects: several in one process, ended in any order, and nothing left of them. */
import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { VirtualMachine, VoltError } from '../../src/api/index.ts';
import { dropConsole, isConsoleFull } from '../../src/vmm/serial/ring.ts';
import { VM_WORD } from '../../src/vmm/bus/shared-state.ts';
import { kvmOpens, TemporaryFolder } from '../cli/volt-process.ts';
import { runMachine, smallConfig, waitUntil } from './guest-run.ts';
import { asm, buildPvhElf, program } from './tiny-guest.ts';

setDefaultTimeout(120_000);

const HANG_MS = 10_000;
/** A size that nothing else in this process maps. */
const ODD_MEMORY_MIB = 37;

async function guestFile(folder: TemporaryFolder, code: Uint8Array): Promise<string> {
  return folder.write('kernel', buildPvhElf(code));
}

/** What `promise` gives, or undefined when it does not settle. */
function settled<T>(promise: Promise<T>): Promise<T | undefined> {
  return Promise.race([promise, Bun.sleep(HANG_MS).then(() => undefined)]);
}

/** Open files of this process: those of KVM and in `folder` by name, and how many there are in all. */
function openFiles(folder: string) {
  const targets = readdirSync('/proc/self/fd').map((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`);
    } catch {
      // The descriptor of this very listing.
      return '';
    }
  });
  return {
    ours: targets.filter((target) => target.includes('kvm') || target.startsWith(folder)),
    count: targets.length,
  };
}

/** Mappings of this process that a VM made: guest RAM by its size, vCPU pages and the kernel image by name. */
function mappings(folder: string): string[] {
  return readFileSync('/proc/self/maps', 'utf8')
    .split('\n')
    .filter((line) => {
      const [start, end] = line
        .split(' ')[0]!
        .split('-')
        .map((address) => parseInt(address, 16));
      return line.includes('kvm') || line.includes(folder) || end! - start! === ODD_MEMORY_MIB * 0x10_0000;
    });
}

describe.skipIf(!kvmOpens)('two machines in one process (needs /dev/kvm)', () => {
  test('run at the same time, each with its own console and end', async () => {
    using folder = new TemporaryFolder();
    const one = await folder.write('one', buildPvhElf(program(asm.print('one'), asm.exit(1))));
    const two = await folder.write('two', buildPvhElf(program(asm.print('two'), asm.exit(2))));
    using first = new VirtualMachine(smallConfig(one, 2));
    using second = new VirtualMachine(smallConfig(two, 2));

    const [a, b] = await Promise.all([runMachine(first), runMachine(second)]);

    expect([a.output, a.end.kind, a.end.exitCode]).toEqual(['one', 'guest-exit', 65]);
    expect([b.output, b.end.kind, b.end.exitCode]).toEqual(['two', 'guest-exit', 66]);
  });

  test('of which one is stopped: the other goes on', async () => {
    using folder = new TemporaryFolder();
    const kernel = await guestFile(folder, program(asm.forEver(asm.print('.'))));
    using first = new VirtualMachine(smallConfig(kernel));
    using second = new VirtualMachine(smallConfig(kernel));
    const running = runMachine(second);
    first.start();

    const end = await first.stop();
    const moved = second.shared.words.slice();
    await waitUntil('the other printed more', () => second.shared.words.some((word, i) => word !== moved[i]));
    void second.stop();

    expect(end.kind).toBe('stopped');
    expect((await running).end.kind).toBe('stopped');
  });
});

describe.skipIf(!kvmOpens)('a machine (needs /dev/kvm)', () => {
  test('takes bytes for its serial port and says how many it had room for', async () => {
    using folder = new TemporaryFolder();
    using vm = new VirtualMachine(smallConfig(await guestFile(folder, program(asm.spin()))));
    vm.start();

    const taken = [vm.sendConsole(new Uint8Array(3000)), vm.sendConsole(new Uint8Array(3000))];
    await vm.stop();

    expect(taken).toEqual([3000, 1096]);
  });

  test('takes none while its console is full, for then it waits for whoever calls', async () => {
    using folder = new TemporaryFolder();
    const printing = asm.forEver(asm.out8(0x3f8, 0x79));
    using vm = new VirtualMachine(smallConfig(await guestFile(folder, program(printing))));
    vm.start();
    const busIsHeld = () => vm.shared.words[VM_WORD.busLock] !== 0;
    await waitUntil('a vCPU waits for room', () => isConsoleFull(vm.shared) && busIsHeld());

    const taken = [vm.sendConsole(Buffer.from('x'))];
    dropConsole(vm.shared, vm.shared.transmitted.length);
    taken.push(vm.sendConsole(Buffer.from('x')));
    await vm.stop();

    expect(taken).toEqual([0, 1]);
  });

  test('cannot be started twice', async () => {
    using folder = new TemporaryFolder();
    using vm = new VirtualMachine(smallConfig(await guestFile(folder, program(asm.spin()))));
    vm.start();

    expect(() => vm.start()).toThrow('Cannot start the VM: it was started before; make a new one');
    await vm.stop();
  });

  test('that is stopped twice ends once', async () => {
    using folder = new TemporaryFolder();
    using vm = new VirtualMachine(smallConfig(await guestFile(folder, program(asm.spin())), 2));
    vm.start();

    const [first, second] = await Promise.all([vm.stop(), vm.stop()]);

    expect(first.kind).toBe('stopped');
    expect(second).toBe(first);
  });

  test('that is stopped before its start is ended', async () => {
    using folder = new TemporaryFolder();
    using vm = new VirtualMachine(smallConfig(await guestFile(folder, program(asm.spin())), 2));

    const end = await settled(vm.stop());

    expect(end?.kind).toBe('stopped');
  });

  test('that is stopped before its start and started then does not run', async () => {
    using folder = new TemporaryFolder();
    using vm = new VirtualMachine(
      smallConfig(await guestFile(folder, program(asm.print('ran'), asm.spin())), 2),
    );
    void vm.stop();

    const result = await settled(runMachine(vm));

    expect(result?.output).toBe('');
    expect(result?.end.kind).toBe('stopped');
  });

  test('is disposed of twice without harm', async () => {
    using folder = new TemporaryFolder();
    using vm = new VirtualMachine(smallConfig(await guestFile(folder, program(asm.exit(0)))));
    await runMachine(vm);

    vm[Symbol.dispose]();

    expect(() => vm[Symbol.dispose]()).not.toThrow();
  });

  test('that is disposed of while it runs is ended', async () => {
    using folder = new TemporaryFolder();
    const vm = new VirtualMachine(smallConfig(await guestFile(folder, program(asm.spin())), 2));
    vm.start();

    vm[Symbol.dispose]();

    expect((await settled(vm.ended))?.kind).toBe('stopped');
  });

  test('made, started and stopped 20 times leaves no file, mapping or thread behind', async () => {
    using folder = new TemporaryFolder();
    const kernel = await guestFile(folder, program(asm.spin()));
    const makeAndStop = async () => {
      using vm = new VirtualMachine(smallConfig(kernel, 2, ODD_MEMORY_MIB));
      vm.start();
      await vm.stop();
    };
    await makeAndStop();
    const before = openFiles(folder.path).count;
    const threads = readdirSync('/proc/self/task').length;

    for (let i = 0; i < 20; i++) await makeAndStop();

    expect(mappings(folder.path)).toEqual([]);
    expect(openFiles(folder.path).ours).toEqual([]);
    await waitUntil('the workers are gone', () => openFiles(folder.path).count <= before + 2);
    await waitUntil('their threads are gone', () => readdirSync('/proc/self/task').length <= threads + 4);
  });

  test('of a bad image leaves nothing behind', async () => {
    using folder = new TemporaryFolder();
    const kernel = await folder.write('kernel', buildPvhElf(program(asm.spin())).fill(0, 0x12, 0x14));
    const before = openFiles(folder.path).count;

    for (let i = 0; i < 20; i++) {
      expect(() => new VirtualMachine(smallConfig(kernel, 2, ODD_MEMORY_MIB))).toThrow(VoltError);
    }

    expect(mappings(folder.path)).toEqual([]);
    expect(openFiles(folder.path).ours).toEqual([]);
    await waitUntil('the workers are gone', () => openFiles(folder.path).count <= before + 2);
  });

  test('that does not fit into its RAM leaves nothing behind', async () => {
    using folder = new TemporaryFolder();
    const kernel = await folder.write('kernel', buildPvhElf(program(asm.spin()), 64 * 0x10_0000));

    expect(() => new VirtualMachine(smallConfig(kernel, 2, ODD_MEMORY_MIB))).toThrow('does not fit into RAM');

    expect(mappings(folder.path)).toEqual([]);
    expect(openFiles(folder.path).ours).toEqual([]);
  });
});
