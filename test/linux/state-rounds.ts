/**
 * Saves a running Linux and restores it into a new machine, again and again; prints the guest's console, and a line
 * with what differs between the saved state and what KVM has after the restoration. Ends the guest after some beats
 * of its own clock. Usage: state-rounds.ts KERNEL INITRD CPUS ROUNDS
 */
import { HostResources, parseConfig, VirtualMachine } from '../../src/api/index.ts';
import { savedMsrs } from '../../src/kvm/saved-msrs.ts';
import { STATE_MSR } from '../../src/kvm/state-abi.ts';
import { captureMachine } from '../../src/vmm/state/capture.ts';
import type { SavedVcpu } from '../../src/vmm/state/machine-state.ts';
import { CollectedMachine, restoreMachine, saveMachine } from '../guest/saved-machine.ts';

const [kernel = '', initrd = '', cpus = '2', rounds = '2'] = process.argv.slice(2);
const BEATS = 2;
/** Registers of the local APIC that change when its timer does: IRR, current count. (Intel SDM 3A table 11-1) */
const changesWithTime = (at: number) => (at >= 0x200 && at < 0x280) || (at >= 0x390 && at < 0x394);
/**
 * The TSC goes on; and KVM on AMD keeps 32 bits of SYSENTER's stack and entry, as only such code can use them
 * there. (Linux arch/x86/kvm/svm/svm.c, svm_set_msr)
 */
const mayDiffer: readonly number[] = [STATE_MSR.ia32Tsc, 0x175, 0x176];

function differences(saved: SavedVcpu, restored: SavedVcpu): string[] {
  const fields = Object.keys(saved) as (keyof SavedVcpu)[];
  const atRest = ({ lapic }: SavedVcpu) => lapic.map((byte, at) => (changesWithTime(at) ? 0 : byte));
  const msrs = savedMsrs(restored.msrs).flatMap(({ index, value }, i) => {
    const before = savedMsrs(saved.msrs)[i];
    const same = before?.index === index && (before.value === value || mayDiffer.includes(index));
    return same ? [] : [`msr 0x${index.toString(16)}: ${before?.value} ${value}`];
  });
  const others = fields.filter((field) => field !== 'msrs' && field !== 'lapic');
  return [
    ...others.filter((field) => !Bun.deepEquals(saved[field], restored[field])),
    ...(Bun.deepEquals(atRest(saved), atRest(restored)) ? [] : ['lapic']),
    ...msrs,
  ];
}

const { config } = parseConfig({
  'boot-source': {
    kernel_image_path: kernel,
    initrd_path: initrd,
    boot_args: 'console=ttyS0 reboot=k panic=-1 quiet volt.run=spin',
  },
  'machine-config': { vcpu_count: Number(cpus), mem_size_mib: 256 },
});
const resources = new HostResources();
let machine = new CollectedMachine(new VirtualMachine(config, { resources }));
let total = '';
const beats = () => [...(total + machine.output).matchAll(/VOLT-GUEST beat (\d+)/g)].length;
async function awaitBeats(count: number) {
  while (beats() < count) await Bun.sleep(20);
}

await awaitBeats(2);
for (let round = 0; round < Number(rounds); round++) {
  await Bun.sleep((round * 377) % 1000);
  using saved = await saveMachine(machine.vm);
  total += await machine.end();
  const warn = (line: string) => console.log(`WARNING ${line}`);
  const vm = restoreMachine(saved, resources, { warn });
  const again = captureMachine(vm.machine, { id: saved.state.id, createdAt: 0, layers: [] });
  const found = saved.state.vcpus.map((vcpu, i) => differences(vcpu, again.vcpus[i]!));
  const { sregs, xsave, xcrs, mpState } = saved.state.vcpus[0]!;
  console.log(
    `ROUND ${JSON.stringify({ found, sregs: sregs.length, xsave: xsave?.length, xcrs: xcrs?.length })}`,
  );
  console.log(`MP ${saved.state.vcpus.map((vcpu) => vcpu.mpState).join(' ')} ${mpState}`);
  machine = new CollectedMachine(vm);
  await awaitBeats(beats() + BEATS);
}
console.log(total + (await machine.end()));
process.exit(0);
