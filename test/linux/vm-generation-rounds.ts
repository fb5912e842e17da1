/**
 * Runs a guest and changes its VM generation ID while its vCPUs are paused, as after a restore; the second time it
 * announces the ID that the guest knows. Prints the guest's console. Usage: vm-generation-rounds.ts KERNEL INITRD
 */
import { parseConfig, readConsole, VirtualMachine } from '../../src/api/index.ts';
import { randomBytes } from '../../src/ffi/random.ts';
import { LAYOUT } from '../../src/machine/layout.ts';
import { changeVmGeneration } from '../../src/vmm/vm-generation.ts';

const [kernel = '', initrd = ''] = process.argv.slice(2);
const { config } = parseConfig({
  'boot-source': {
    kernel_image_path: kernel,
    initrd_path: initrd,
    boot_args: 'console=ttyS0 reboot=k panic=-1 volt.run=check',
  },
  'machine-config': { vcpu_count: 1, mem_size_mib: 256 },
});
using vm = new VirtualMachine(config);
let text = '';
const reader = readConsole(vm, (bytes) => {
  text += Buffer.from(bytes).toString('latin1');
  process.stdout.write(bytes);
});
vm.start();
let over = false;
const ended = vm.ended.finally(() => (over = true));

const [first, second] = [randomBytes(16), randomBytes(16)];
for (const [events, id] of [first, first, second].entries()) {
  while (!over && !text.includes(`events=${events} `)) await Bun.sleep(50);
  await vm.pause();
  changeVmGeneration(vm.machine, LAYOUT.vmGenerationId.address, id);
  await vm.resume();
}
await ended;
await reader.finish();
