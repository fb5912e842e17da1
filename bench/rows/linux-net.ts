/** What a network takes under Debian: iperf3 and ping between the guest and its host, over a tap. */
import { deviceCommands, DONE, resultOf, type DeviceBench } from '../linux/device-guest.ts';
import { runTurns, WHERE, whyNotQuick } from '../linux/linux-host.ts';
import { compareFirst, type Measurement } from '../measurement.ts';

const AIM = 1;
const SECONDS = 4;
/** Not counted. */
const WARM_UP_SECONDS = 4;
const MAC = '06:00:ac:10:00:02';

const BENCH: DeviceBench = {
  guest: { modules: ['virtio_mmio', 'virtio_net'], programs: ['iperf3'] },
  script: `export LD_LIBRARY_PATH=/lib/x86_64-linux-gnu
ip addr add 10.0.7.2/24 dev eth0
ip link set eth0 up
ping -c 3 10.0.7.1 >/dev/null
rate() { # bits a second that arrived
  iperf3 -c 10.0.7.1 -t ${SECONDS} -f k "$@" | grep receiver | sed 's/.* \\([0-9.]*\\) Kbits.*/\\1/'
}
echo "BENCH first=$(rate)"
echo "BENCH out=$(rate -O ${WARM_UP_SECONDS})"
echo "BENCH in=$(rate -R -O ${WARM_UP_SECONDS})"
echo "BENCH ping=$(ping -c 50 -i 0.02 10.0.7.1 | sed -n 's#.*= [0-9.]*/\\([0-9.]*\\)/.*#\\1#p')"`,
  device: { tap: { name: 'tap7', mac: MAC } },
  before: `ip link set lo up
ip tuntap add tap7 mode tap
ip addr add 10.0.7.1/24 dev tap7
ip link set tap7 up
iperf3 -s >/dev/null 2>&1 &`,
  packages: ['ip', 'iperf3'],
  ownNetwork: true,
};

const RESULTS = [
  {
    name: 'first',
    what: `TCP from the guest, its first ${SECONDS} s`,
    unit: 'ms/MiB',
    of: msPerMib,
    aim: undefined,
  },
  { name: 'out', what: 'TCP from the guest', unit: 'ms/MiB', of: msPerMib, aim: AIM },
  { name: 'in', what: 'TCP to the guest', unit: 'ms/MiB', of: msPerMib, aim: AIM },
  { name: 'ping', what: 'round trip of a ping', unit: 'ms', of: (ms: number) => ms, aim: AIM },
] as const;

function msPerMib(kilobitsPerSecond: number): number {
  return (8 * 1024 * 1024) / kilobitsPerSecond;
}

export const linuxNet: Measurement = {
  id: 'linux-net',
  title: 'A network under Debian 6.1 (1 vCPU, 512 MiB)',
  method: `iperf3 over TCP, ${SECONDS} s each way after ${WARM_UP_SECONDS} that are not counted, and 50 pings, between the guest and its host over a tap in a network namespace; checksums and segmentation offloaded, QEMU without vhost-net. ${WHERE}`,
  whenMissed:
    'In its first seconds Volt interprets its code and compiles it, which takes an emulated CPU 20 times as long as a real one. Later a packet costs one readv or writev of the tap in every VMM. What Volt adds is the JavaScript around it; what it saves are kicks and interrupts, by the event index.',
  async run(context) {
    const why = whyNotQuick(context);
    if (why !== undefined) return { comparisons: [], figures: [], skipped: [why] };
    const subjects = await deviceCommands(context.vmms, BENCH, context.folder);
    const plan = { rounds: context.quick ? 1 : 3, subjects, until: DONE };
    const samples = (await runTurns({ iperf3: plan }, context, ['tun'])).get('iperf3')!;
    const comparisons = RESULTS.flatMap(({ name, what, unit, of, aim }) =>
      compareFirst(
        samples,
        what,
        unit,
        ({ text }) => of(resultOf(text, name)),
        (peer) => (peer.startsWith('QEMU') ? aim : undefined),
      ),
    );
    return { comparisons, figures: [], skipped: samples.skipped };
  },
};
