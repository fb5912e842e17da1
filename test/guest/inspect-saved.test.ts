/** `volt inspect` of snapshots of real guests, and the VM generation ID of those that are restored. */
import { describe, expect, setDefaultTimeout } from 'bun:test';
import { dirname, join } from 'node:path';
import { HostResources, parseConfig, VirtualMachine } from '../../src/api/index.ts';
import { hex } from '../../src/binary/bytes.ts';
import { REGS } from '../../src/kvm/abi.ts';
import { readRegs } from '../../src/kvm/vcpu.ts';
import { LAYOUT, VM_GENERATION_ID_BYTES } from '../../src/machine/layout.ts';
import { ACPI_EVENT } from '../../src/machine/ports.ts';
import { kvmOpens, runVolt } from '../cli/volt-process.ts';
import { testNeeding } from '../support/needs.ts';
import { waitUntil } from './guest-run.ts';
import { CollectedMachine, restoreMachine, saveMachine } from './saved-machine.ts';

/** For hangs only. */
setDefaultTimeout(120_000);

const needsKvm = testNeeding('/dev/kvm', !kvmOpens);

/** The embedded kernel with all its CPUs busy, saved to a directory. */
async function savedKernel(resources: HostResources) {
  const stack = new AsyncDisposableStack();
  const { config } = parseConfig({
    'boot-source': { boot_args: 'loop' },
    'machine-config': { vcpu_count: 2, mem_size_mib: 64 },
  });
  const before = new CollectedMachine(new VirtualMachine(config, { resources }));
  stack.defer(() => before.end().then(() => {}));
  await waitUntil('all CPUs are busy', () => before.output.includes('heartbeat'));
  const saved = stack.use(await saveMachine(before.vm));
  const directory = dirname(saved.memoryPath);
  await Bun.write(join(directory, 'state'), saved.file);
  return { before, saved, directory, [Symbol.asyncDispose]: () => stack.disposeAsync() };
}

interface Inspected {
  readonly vcpus: readonly {
    readonly mode: string;
    readonly pagingLevels: number;
    readonly mpState: string;
    readonly registers: Readonly<Record<string, string>>;
    readonly lapic: { readonly id: number; readonly bsp: boolean; readonly softwareEnabled: boolean };
  }[];
  readonly onDisk: readonly number[];
  readonly memory: { readonly bytes: number };
  readonly problems: readonly string[];
}

describe('a snapshot of the embedded kernel', () => {
  needsKvm('is decoded as it is, and this host can run it', async () => {
    using resources = new HostResources();
    await using kernel = await savedKernel(resources);

    const text = await runVolt(['inspect', kernel.directory]);
    const json = JSON.parse((await runVolt(['inspect', '--json', kernel.directory])).stdout) as Inspected;
    const comparison = await runVolt(['inspect', '--from', kernel.directory]);

    const rips = kernel.before.vm.vcpus.map(({ kvm }) => hex(readRegs(kvm.fd).getBigUint64(REGS.rip, true)));
    expect(text.stdout.split('\n').filter((line) => line.length > 100)).toEqual([]);
    expect({ stderr: text.stderr, exitCode: text.exitCode }).toEqual({ stderr: '', exitCode: 0 });
    expect(
      json.vcpus.map(({ mode, pagingLevels, lapic }) => [mode, pagingLevels, lapic.id, lapic.bsp]),
    ).toEqual([
      ['64-bit long mode', 4, 0, true],
      ['64-bit long mode', 4, 1, false],
    ]);
    expect(json.vcpus.every(({ lapic }) => lapic.softwareEnabled)).toBe(true);
    expect(json.onDisk[0]).toBeGreaterThan(0);
    expect(json.onDisk[0]).toBeLessThan(json.memory.bytes);
    expect(json.vcpus.map(({ registers }) => registers['rip'])).toEqual(rips);
    expect(comparison).toMatchObject({ stderr: '', exitCode: 0 });
    expect(comparison.stdout).toEndWith('Verdict   fine: this host can run it\n');
  });

  needsKvm('restored twice has another VM generation ID each time, and an event that says so', async () => {
    using resources = new HostResources();
    await using kernel = await savedKernel(resources);
    const { address } = LAYOUT.vmGenerationId;
    const idOf = ({ machine }: VirtualMachine) =>
      Buffer.from(machine.memory.read(address, VM_GENERATION_ID_BYTES)).toString('hex');
    const ids = [idOf(kernel.before.vm)];
    const pending: boolean[] = [];

    for (let clone = 0; clone < 2; clone++) {
      using own = new HostResources();
      using vm = restoreMachine(kernel.saved, own);
      ids.push(idOf(vm));
      pending.push(vm.machine.acpiEvents.isPending(ACPI_EVENT.vmGeneration));
    }

    expect(new Set(ids).size).toBe(3);
    expect(pending).toEqual([true, true]);
    expect(kernel.before.vm.machine.acpiEvents.isPending(ACPI_EVENT.vmGeneration)).toBe(false);
  });
});
