/**
 * Boots and restores a machine that nobody sees, and ends both before they do anything: code that has run once starts
 * the next guest several times faster. Once is enough: measured, what then remains is KVM's and the collector's.
 */
import { parseConfig } from '../../config/config.ts';
import { createSharedMemory } from '../../ffi/shared-memory.ts';
import { HostResources } from '../../vmm/host-resources.ts';
import { captureMachine } from '../../vmm/state/capture.ts';
import { decodeState, encodeState } from '../../vmm/state/machine-state.ts';
import { prepareRestore } from '../../vmm/state/restore.ts';
import { hostWarnings } from '../host-warnings.ts';
import { runInTerminal } from '../run-in-terminal.ts';
import { VmControl } from '../vm-control.ts';
import { noteRestored } from '../../vmm/state/snapshot.ts';
import { VirtualMachine } from '../../vmm/virtual-machine.ts';

/** The smallest machine that has an AP and a device. */
const MACHINE = {
  'machine-config': { vcpu_count: 2, mem_size_mib: 64 },
  volt: { console: 'none' },
  entropy: {},
};
const ID = '0'.repeat(32);
const NAME = 'rehearsal';

/** Throws like `new VirtualMachine`. */
export async function rehearse(): Promise<void> {
  using resources = new HostResources();
  const state = await rehearseBoot(resources);
  const { config } = parseConfig(state.config);
  const bytes = config.memoryBytes;
  using memory = createSharedMemory(NAME, bytes, false);
  const source = { kind: 'layers', layers: [{ fd: memory.fd, name: NAME }] } as const;
  const restored = prepareRestore({ state, source, clock: 'realtime', kvm: resources.kvm, warn: () => {} });
  using vm = new VirtualMachine(config, { resources, restored });
  noteRestored(vm.machine, ID, state.memory.layers);
  await startAndStop(vm);
}

async function rehearseBoot(resources: HostResources) {
  const { config } = parseConfig(MACHINE);
  using vm = new VirtualMachine(config, { resources });
  await vm.machine.devices?.pause();
  const layers = [{ file: `memory-${ID}`, bytes: config.memoryBytes }];
  const state = captureMachine(vm.machine, { id: ID, createdAt: Date.now(), layers });
  vm.machine.devices?.resume();
  await startAndStop(vm);
  return decodeState(encodeState(state), NAME);
}

async function startAndStop(vm: VirtualMachine): Promise<void> {
  const control = new VmControl(vm);
  hostWarnings(vm.config);
  const run = runInTerminal(vm, {
    ...{ console: vm.config.console, say: () => {}, restart: undefined, limitResets: true, shutdownMs: 0 },
  });
  await vm.stop();
  control.noteEnd((await run).end);
}
