/** How long Debian takes to reach user space. */
import { bootCommands, makeBootGuest, MARKER } from '../linux/boot-guest.ts';
import { runTurns, WHERE, whyNotQuick } from '../linux/linux-host.ts';
import { compareFirst, type Comparison, type Measurement } from '../measurement.ts';
import { spreadOf } from '../statistics.ts';

const AIM = { qemu: 0.6, best: 1 } as const;
const CMDLINE = 'console=ttyS0 reboot=k panic=-1';
const CASES = {
  'quiet, 1 vCPU': { cpus: 1, cmdline: `${CMDLINE} quiet` },
  'quiet, 2 vCPUs': { cpus: 2, cmdline: `${CMDLINE} quiet` },
  'quiet, 4 vCPUs': { cpus: 4, cmdline: `${CMDLINE} quiet` },
  'with all messages on the console, 1 vCPU': { cpus: 1, cmdline: CMDLINE },
} as const;

export const linuxBoot: Measurement = {
  id: 'linux-boot',
  title: 'Debian 6.1 to user space (512 MiB)',
  method: `From exec of the VMM until its console shows the first word of init. Same kernel (vmlinux; kvmtool takes vmlinuz only, which unpacks itself first), same initrd (busybox), same command line: "${CMDLINE}", with "quiet" or without; Firecracker adds "pci=off". ${WHERE}`,
  whenMissed:
    "Most of a quiet boot is the guest's own work and is the same for every VMM: half of it is Linux testing its RSA. What differs is the start of the VMM, of which a Bun executable's is the longest (see the tiny guest): on an emulated CPU it takes a second, which is the distance to Firecracker. Reading 42 MiB of kernel, and a few hundred exits, are the rest. Messages on the console turn it round, because they are gathered.",
  async run(context) {
    const why = whyNotQuick(context);
    if (why !== undefined) return { comparisons: [], figures: [], skipped: [why] };
    const { vmms, folder } = context;
    const guest = await makeBootGuest(folder);
    const rounds = context.quick ? 1 : 3;
    const plans = Object.fromEntries(
      Object.entries(CASES).map(([name, rest]) => [
        name,
        { rounds, subjects: bootCommands(vmms, guest, rest, folder), until: MARKER.userSpace },
      ]),
    );
    const results = await runTurns(plans, context);
    const comparisons: Comparison[] = [];
    const skipped: string[] = [];
    const lines = new Map<string, [number, number][]>();
    for (const [name, samples] of results) {
      const aim = (peer: string) => (peer.startsWith('QEMU') ? AIM.qemu : AIM.best);
      comparisons.push(...compareFirst(samples, name, 'ms', ({ ms }) => ms, aim));
      skipped.push(...samples.skipped.map((line) => `${name}: ${line}`));
      if (!name.startsWith('quiet')) continue;
      for (const [subject, runs] of samples.bySubject) {
        const { cpus } = CASES[name as keyof typeof CASES];
        const point: [number, number] = [cpus, spreadOf(runs.map(({ ms }) => ms)).median];
        lines.set(subject, [...(lines.get(subject) ?? []), point]);
      }
    }
    const chart = {
      title: 'Debian to user space, quiet',
      x: 'vCPUs',
      y: 'ms',
      lines: [...lines].map(([name, points]) => ({ name, points })),
    };
    return { comparisons, figures: [], skipped, chart };
  },
};
