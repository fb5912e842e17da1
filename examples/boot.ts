/**
 * Boots a guest, reads its console, and tells how it ended.
 *
 * Usage: bun examples/boot.ts [KERNEL]      without a kernel, the embedded one
 */
import { parseConfig, readConsole, VirtualMachine } from 'volt';

const { config } = parseConfig({
  'boot-source': process.argv[2] ? { kernel_image_path: process.argv[2] } : { boot_args: 'quick' },
  'machine-config': { vcpu_count: 2, mem_size_mib: 64 },
});

// `using` stops the guest and gives its memory and threads back, whatever happens below.
using vm = new VirtualMachine(config);
const reader = readConsole(vm, (bytes) => process.stdout.write(bytes));
vm.start();
const end = await vm.ended;
await reader.finish();

console.log(`ended: ${end.kind}, exit code ${end.exitCode}`);
