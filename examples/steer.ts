/**
 * Samples the vCPUs of a busy guest, pauses it, reads registers, resumes it, sends an interrupt and stops it, and prints
 * each event.
 *
 * Usage: npx bun examples/steer.ts
 */
import { parseConfig, readConsole, VirtualMachine, VmControl } from 'volt';

const { config } = parseConfig({
  'boot-source': { boot_args: 'loop' },
  'machine-config': { vcpu_count: 2, mem_size_mib: 64 },
});
using vm = new VirtualMachine(config);
const control = new VmControl(vm);
control.onEvent((event) => console.log('event', event.kind));

// The embedded kernel prints "heartbeat" every second once all its CPUs are busy.
const busy = new Promise<void>((resolve) => {
  let text = '';
  readConsole(vm, (bytes) => {
    text += Buffer.from(bytes).toString();
    if (text.includes('heartbeat')) resolve();
  });
});
vm.start();
await busy;

await control.sample();
for (const { index, state, mpState, symbol } of control.vcpus()) {
  console.log(`vCPU ${index}: ${state}, ${mpState}, in ${symbol?.replace(/\+.*/, '')}`);
}

await control.pause();
const { general } = await control.registers(1);
console.log(`paused: ${control.status().state}, RIP is known: ${general['rip']?.startsWith('0x')}`);
await control.resume();

// INIT puts a CPU into the wait-for-SIPI state.
control.sendIpi({ destination: 1, mode: 'init' });
await control.sample();
console.log(`vCPU 1: ${control.vcpus()[1]?.state}`);

const end = await vm.stop();
console.log(`ended: ${end.kind}`);
