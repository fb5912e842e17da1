/** How long a guest takes to print. */
import { join } from 'node:path';
import { printingGuest, pvhElf } from '../guests.ts';
import { compareFirst, measureInTurns, type Comparison, type Measurement } from '../measurement.ts';
import { runExpecting } from '../process-run.ts';

const AIM = 0.2;
const KIB = 1024;

export const consoleOutput: Measurement = {
  id: 'console',
  title: 'Console: a guest prints 1 MiB, or 256 KiB with polling (64 KiB in the quick form)',
  method:
    'Byte by byte to the UART, with nothing else between (early printk of some kernels), and with a read of the line status register before each byte (what serial drivers do). Exec to exit, stdout being a file.',
  whenMissed:
    'Where each byte is an exit, the exit itself is most of the time and is the same for every VMM on this KVM. Only exits that do not happen save more: the transmit register can be coalesced by KVM, a read of the line status cannot, so drivers that poll before each byte keep one exit for each.',
  async run({ vmms, quick, folder, log }) {
    const able = vmms.filter(({ id }) => id !== 'kvmtool');
    const comparisons: Comparison[] = [];
    const skipped: string[] = [];
    for (const polls of [false, true]) {
      const what = polls ? 'with polling' : 'without polling';
      log(`  ${what}`);
      const bytes = (quick ? 64 : polls ? 256 : 1024) * KIB;
      const kernel = join(folder, 'prints');
      await Bun.write(kernel, pvhElf(printingGuest(bytes, polls)));
      const subjects = able.map((vmm) => {
        const argv = vmm.command({ kernel, cpus: 1, memoryMib: 64 }, folder);
        return { name: vmm.name, run: () => runExpecting(argv, (out) => isPrinted(out, bytes)) };
      });
      const times = await measureInTurns(subjects, quick ? 2 : 3);
      const aim = (peer: string) => (peer.startsWith('QEMU') ? AIM : undefined);
      comparisons.push(...compareFirst(times, `wall time, ${what}`, 'ms', (run) => run.wallMs, aim));
      comparisons.push(...compareFirst(times, `CPU time, ${what}`, 'ms', (run) => run.cpuMs));
      skipped.push(...times.skipped.map((line) => `${what}: ${line}`));
    }
    return { comparisons, figures: [], skipped };
  },
};

function isPrinted(out: Uint8Array, bytes: number): boolean {
  return out.length === bytes && out.every((byte) => byte === 0x79);
}
