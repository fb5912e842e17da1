/** How long Linux takes to start its APs. */
import { bootCommands, makeBootGuest, MARKER } from '../linux/boot-guest.ts';
import { runTurns, WHERE, whyNotQuick } from '../linux/linux-host.ts';
import { compareFirst, type Comparison, type Measurement } from '../measurement.ts';

const AIM = 1;
const CPUS = [2, 4, 8] as const;
const CMDLINE = 'console=ttyS0 reboot=k panic=-1 quiet';

export const linuxSmp: Measurement = {
  id: 'linux-smp',
  title: 'AP bring-up under Debian 6.1, per AP',
  method: `Linux' own clock: from "Bringing up secondary CPUs" to "Brought up … CPUs", by the number of APs. ${WHERE}`,
  whenMissed:
    "An AP leaves for its VMM some dozen times in a whole boot, so what is timed is KVM and the guest: Firecracker takes about as long. The guest sees the same CPU flags and topology under QEMU, which is ahead; what its lead comes from has not been found. Volt's kernel has run for a third of the time by then, so its memory may be touched for the first time here, and be zeroed by the emulated host.",
  async run(context) {
    const why = whyNotQuick(context);
    if (why !== undefined) return { comparisons: [], figures: [], skipped: [why] };
    const { vmms, folder } = context;
    const guest = await makeBootGuest(folder);
    const able = vmms.filter(({ id }) => id !== 'kvmtool');
    const plans = Object.fromEntries(
      CPUS.map((cpus) => [
        `${cpus} vCPUs`,
        {
          rounds: context.quick ? 1 : 3,
          subjects: bootCommands(able, guest, { cpus, cmdline: CMDLINE }, folder),
          until: MARKER.told,
        },
      ]),
    );
    const results = await runTurns(plans, context);
    const comparisons: Comparison[] = [];
    const skipped: string[] = [];
    for (const [name, samples] of results) {
      const aim = (peer: string) => (peer.startsWith('QEMU') ? AIM : undefined);
      comparisons.push(
        ...compareFirst(samples, name, 'ms', ({ text }) => msPerAp(text, parseInt(name)), aim),
      );
      skipped.push(...samples.skipped.map((line) => `${name}: ${line}`));
    }
    return { comparisons, figures: [], skipped };
  },
};

function msPerAp(console: string, cpus: number): number {
  const [from, to] = [/\[ *([\d.]+)\] smp: Bringing up/, /\[ *([\d.]+)\] smp: Brought up .* (\d+) CPUs/].map(
    (line) => line.exec(console),
  );
  if (!from || !to || Number(to[2]) !== cpus)
    throw new Error(
      `Cannot read when ${cpus} CPUs came up: "${console.slice(-300)}" (expected Linux' messages)`,
    );
  return ((Number(to[1]) - Number(from[1])) * 1000) / (cpus - 1);
}
