/** What a disk takes under Debian: fio in the guest, the image in the host's page cache. */
import { deviceCommands, DONE, resultOf, type DeviceBench } from '../linux/device-guest.ts';
import { runTurns, WHERE, whyNotQuick } from '../linux/linux-host.ts';
import { compareFirst, type Measurement } from '../measurement.ts';

const AIM = 1;
const SECONDS = 4;
/** Not counted. */
const WARM_UP_SECONDS = 3;
/** Name, fio's words, and which of its terse fields: bandwidth in KiB/s or operations a second. */
const JOBS = [
  {
    name: 'first',
    what: `sequential write, 128 KiB, its first ${SECONDS} s`,
    rw: 'write',
    bs: '128k',
    field: 48,
    unit: 'ms/MiB',
  },
  { name: 'write', what: 'sequential write, 128 KiB', rw: 'write', bs: '128k', field: 48, unit: 'ms/MiB' },
  { name: 'read', what: 'sequential read, 128 KiB', rw: 'read', bs: '128k', field: 7, unit: 'ms/MiB' },
  { name: 'randread', what: 'random read, 4 KiB', rw: 'randread', bs: '4k', field: 8, unit: 'µs/request' },
  {
    name: 'randwrite',
    what: 'random write, 4 KiB',
    rw: 'randwrite',
    bs: '4k',
    field: 49,
    unit: 'µs/request',
  },
  {
    name: 'one',
    what: 'random read, 4 KiB, one at a time',
    rw: 'randread',
    bs: '4k',
    field: 8,
    unit: 'µs/request',
  },
] as const;

const BENCH: DeviceBench = {
  guest: { modules: ['virtio_mmio', 'virtio_blk'], programs: ['fio'] },
  script: `export LD_LIBRARY_PATH=/lib/x86_64-linux-gnu
run() {
  fio --name=$1 --filename=/dev/vda --ioengine=libaio --direct=1 --rw=$2 --bs=$3 --iodepth=$5 --size=128M \\
    --runtime=${SECONDS} --ramp_time=$6 --time_based --output-format=terse --terse-version=3 </dev/null |
    cut -d';' -f$4 | sed "s/^/BENCH $1=/"
}
${JOBS.map(
  ({ name, rw, bs, field }) =>
    `run ${name} ${rw} ${bs} ${field} ${name === 'one' ? 1 : 16} ${name === 'first' ? 0 : WARM_UP_SECONDS}`,
).join('\n')}`,
  device: { disk: 'disk.img' },
  before: 'cd "$BENCH_FOLDER"; truncate -s 128M disk.img',
  packages: ['fio'],
};

export const linuxDisk: Measurement = {
  id: 'linux-disk',
  title: 'A disk of 128 MiB under Debian 6.1 (1 vCPU, 512 MiB)',
  method: `fio in the guest, past its page cache, 16 requests in flight, ${SECONDS} s each after ${WARM_UP_SECONDS} that are not counted; every VMM with its own defaults and a raw image in the host's page cache, so what is compared is the way there, not a medium. ${WHERE}`,
  whenMissed:
    'In its first seconds Volt interprets its code and compiles it, which takes an emulated CPU 20 times as long as a real one. Later a request costs a kick, a wake-up of the device thread, a system call for the data and an interrupt. Volt saves kicks and interrupts by the event index and answers a batch at once; what is left is the JavaScript between, some hundred instructions a request.',
  async run(context) {
    const why = whyNotQuick(context);
    if (why !== undefined) return { comparisons: [], figures: [], skipped: [why] };
    const subjects = await deviceCommands(context.vmms, BENCH, context.folder);
    const plan = { rounds: context.quick ? 1 : 3, subjects, until: DONE };
    const samples = (await runTurns({ fio: plan }, context)).get('fio')!;
    const comparisons = JOBS.flatMap(({ name, what, unit }) =>
      compareFirst(
        samples,
        what,
        unit,
        ({ text }) => (unit === 'ms/MiB' ? 1000 * 1024 : 1e6) / resultOf(text, name),
        (peer) => (peer.startsWith('QEMU') && name !== 'first' ? AIM : undefined),
      ),
    );
    return { comparisons, figures: [], skipped: samples.skipped };
  },
};
