/**
 * Boots a guest, prints its console, and prints how it ended.
 *
 * Usage: npx bun examples/boot.ts [KERNEL]      (default: the embedded kernel)
 */
import { parseConfig, readConsole, VirtualMachine } from 'volt';

const { config } = parseConfig({
  'boot-source': process.argv[2] ? { kernel_image_path: process.argv[2] } : { boot_args: 'quick' },
  'machine-config': { vcpu_count: 2, mem_size_mib: 64 },
});

// `using` stops the guest and releases its memory and threads at the end of the block, also after an exception.
using vm = new VirtualMachine(config);
const reader = readConsole(vm, (bytes) => process.stdout.write(bytes));
vm.start();
const end = await vm.ended;
await reader.finish();

console.log(`ended: ${end.kind}, exit code ${end.exitCode}`);
