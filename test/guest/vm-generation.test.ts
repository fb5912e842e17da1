/** The VM generation ID of real machines: where the guest has it, and when it changes. All of it needs /dev/kvm. */
import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { HostResources, VirtualMachine } from '../../src/api/index.ts';
import { LAYOUT, VM_GENERATION_ID_BYTES } from '../../src/machine/layout.ts';
import { ACPI_EVENT } from '../../src/machine/ports.ts';
import { changeVmGeneration } from '../../src/vmm/vm-generation.ts';
import { kvmOpens, TemporaryFolder } from '../cli/volt-process.ts';
import { smallConfig } from './guest-run.ts';
import { asm, buildPvhElf, program } from './tiny-guest.ts';

/** For hangs only. */
setDefaultTimeout(60_000);

const { address } = LAYOUT.vmGenerationId;

function idOf({ machine }: VirtualMachine): string {
  return Buffer.from(machine.memory.read(address, VM_GENERATION_ID_BYTES)).toString('hex');
}

describe.skipIf(!kvmOpens)('the VM generation ID (needs /dev/kvm)', () => {
  test('stays when a guest resets, and no other guest has it', async () => {
    using folder = new TemporaryFolder();
    const config = smallConfig(await folder.write('kernel', buildPvhElf(program(asm.halt()))));
    using resources = new HostResources();
    const ids: string[] = [];
    for (const options of [{ resources }, { resources }, {}, {}]) {
      using vm = new VirtualMachine(config, options);
      ids.push(idOf(vm));
    }

    expect(ids[1]).toBe(ids[0]!);
    expect(new Set(ids).size).toBe(3);
    expect(ids).not.toContain('0'.repeat(32));
  });

  test('changes with an event that waits for the guest', async () => {
    using folder = new TemporaryFolder();
    const config = smallConfig(await folder.write('kernel', buildPvhElf(program(asm.halt()))));
    using vm = new VirtualMachine(config);
    const { acpiEvents } = vm.machine;
    const before = acpiEvents.isPending(ACPI_EVENT.vmGeneration);

    changeVmGeneration(
      vm.machine,
      address,
      Uint8Array.from({ length: 16 }, (_, i) => i),
    );

    expect(idOf(vm)).toBe('000102030405060708090a0b0c0d0e0f');
    expect([before, acpiEvents.isPending(ACPI_EVENT.vmGeneration)]).toEqual([false, true]);
  });
});
