/** Does what does not depend on a guest, in a process of a pool. */
import { prepareWorker } from '../../runtime/prepared-workers.ts';
import { DEVICE_WORKER } from '../../virtio/host/device-set.ts';
import { prepareKvm } from '../../vmm/host-resources.ts';
import { VCPU_WORKER } from '../../vmm/vcpu/worker-pool.ts';
import { rehearse } from './rehearsal.ts';
import '../control/server.ts';
import '../prepare-snapshots.ts';
import '../restore.ts';
import '../../vmm/serial/terminal-input.ts';

/** Throws SyscallError and VoltError 'host' for a host that cannot run guests. */
export async function warmUp(): Promise<void> {
  await rehearse();
  prepareWorker(VCPU_WORKER);
  prepareWorker(DEVICE_WORKER);
  prepareKvm();
}
