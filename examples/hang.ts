/**
 * Waits for a guest to end, and stops it if it hangs.
 *
 * Usage: npx bun examples/hang.ts
 */
import { parseConfig, VirtualMachine, VmControl } from 'volt';

const { config } = parseConfig({
  'boot-source': { boot_args: 'loop' },
  'machine-config': { vcpu_count: 1, mem_size_mib: 64 },
});
using vm = new VirtualMachine(config);
const control = new VmControl(vm);
control.reportHangs(0.5);
control.onEvent((event) => {
  if (event.kind !== 'hang') return;
  for (const { index, why } of event.vcpus) console.log(`vCPU ${index}: ${why}`);
  void vm.stop();
});

vm.start();
// This guest does not hang by itself, so put its only vCPU into the wait-for-SIPI state.
await Bun.sleep(100);
await control.pause();
await control.setMpState(0, 'uninitialized');
await control.resume();

const { kind } = await vm.ended;
console.log(`ended: ${kind}`);
