/**
 * Opens a control socket for a guest, and controls the guest through it as another process would.
 *
 * Usage: npx bun examples/control-socket.ts
 */
import { connectControl, openControl, parseConfig, readConsole, VirtualMachine, VmControl } from 'volt';

const { config } = parseConfig({
  'boot-source': { boot_args: 'loop' },
  'machine-config': { vcpu_count: 2, mem_size_mib: 64 },
});
using vm = new VirtualMachine(config);
readConsole(vm, () => {});
// At the default path, which `volt ps` lists. Closed at the end of the block.
await using server = openControl(new VmControl(vm));
vm.start();

using client = await connectControl(server.path);
const events = (async () => {
  for await (const event of client.events()) console.log('event', event.kind);
})();
await client.call('pause', { vcpus: [1] });
const states = (await client.call('vcpus', {})).map(({ state }) => state);
console.log(`vCPU 1: ${states[1]}`);
await client.call('resume', {});
await client.call('stop', {});
console.log(`ended: ${(await vm.ended).kind}`);
await server.close();
await events;
