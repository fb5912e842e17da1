/** InstanceStart to the first byte of a guest, behind Firecracker's API. */
import { join } from 'node:path';
import { idleGuest, pvhElf } from '../guests.ts';
import { compareFirst, measureInTurns, type Measurement } from '../measurement.ts';
import type { Vmm } from '../vmms.ts';
import { requestedStartMs } from '../warm-restore.ts';

const AIM = 1;

export const apiStart: Measurement = {
  id: 'api-start',
  title: "A start through Firecracker's API (2 vCPUs, 256 MiB)",
  method:
    'A process whose API socket is open gets its kernel and its size, and then InstanceStart; the time is that from this request to the first byte that the guest prints. Volt runs as `volt firecracker`.',
  whenMissed:
    "Firecracker is machine code. Volt starts the BSP's Worker and creates the VM when its API opens, and boots a guest that nobody sees as soon as no request has come for 40 ms, so that the code is compiled; a client that configures its guest at once, as this one does, comes before that. Planning, the tables, KVM's own calls and the sandbox are left.",
  async run({ vmms, quick, folder }) {
    const kernel = join(folder, 'api-start');
    await Bun.write(kernel, pvhElf(idleGuest()));
    const subjects = vmms.filter(({ id }) => id === 'volt' || id === 'firecracker');
    let runs = 0;
    const start = (vmm: Vmm) => {
      const socket = join(folder, `api-start-${runs++}.sock`);
      const command = [...commandOf(vmm), '--api-sock', socket, '--log-path', '/dev/null'];
      return requestedStartMs(
        command,
        socket,
        [
          ['/boot-source', { kernel_image_path: kernel, boot_args: '' }],
          ['/machine-config', { vcpu_count: 2, mem_size_mib: 256 }],
        ],
        ['/actions', { action_type: 'InstanceStart' }],
      );
    };
    const times = await measureInTurns(
      subjects.map((vmm) => ({ name: vmm.name, run: () => start(vmm) })),
      quick ? 3 : 30,
    );
    const comparisons = compareFirst(
      times,
      'InstanceStart to first byte',
      'ms',
      (ms) => ms,
      () => AIM,
    );
    return { comparisons, figures: [], skipped: [...times.skipped] };
  },
};

function commandOf({ id, program }: Vmm): readonly string[] {
  return id === 'volt' ? [program, 'firecracker'] : [program];
}
