/** What goes wrong behind a guest's devices: the tap vanishes, passt dies, the disk under the disk is full. */
import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { canChangeMounts, inOwnMounts } from '../cli/own-mounts.ts';
import { kvmOpens, TemporaryFolder, VOLT } from '../cli/volt-process.ts';
import { waitUntil } from './guest-run.ts';
import { asm, buildPvhElf } from './tiny-guest.ts';
import { blockRequest, DATA, SECTOR, virtioAsm, virtioImage } from './virtio-guest.ts';
import { BeatingVolt } from './volt-child.ts';

/** For hangs only. */
setDefaultTimeout(120_000);

const ownNetwork = (set: string) => [
  ...['unshare', ...(process.getuid?.() === 0 ? [] : ['--user', '--map-root-user']), '--net'],
  ...['sh', '-c', `${set} && exec "$@"`, 'sh'],
];
const inTap = ownNetwork('ip tuntap add tap7 mode tap && ip link set tap7 up');
const canMakeTaps = Bun.spawnSync([...inTap, 'true'], { stderr: 'ignore' }).success;

function beatsIn(volt: BeatingVolt): number {
  return volt.stdout.match(/heartbeat/g)?.length ?? 0;
}

async function goesOn(volt: BeatingVolt): Promise<void> {
  const before = beatsIn(volt);
  await waitUntil('more heartbeats', () => beatsIn(volt) > before + 1);
}

describe('a network that goes away (needs /dev/kvm)', () => {
  test.skipIf(!kvmOpens || !canMakeTaps)(
    'when its tap is deleted is told once, and the guest goes on (needs taps)',
    async () => {
      await using volt = await new BeatingVolt(['--net', 'tap=tap7,id=lan'], {}, inTap).beating();

      const target = ['--target', `${volt.pid}`, '--net', ...(process.getuid?.() === 0 ? [] : ['--user'])];
      Bun.spawnSync(['nsenter', ...target, 'ip', 'link', 'del', 'tap7']);
      await waitUntil('the news', () => volt.stderr !== '');
      await goesOn(volt);
      const { stdout, exitCode } = await volt.ctl('devices');

      expect(volt.stderr).toBe('volt: lan: its tap was deleted; the guest continues with its link down\n');
      expect(stdout).toContain('lan');
      expect(exitCode).toBe(0);
    },
  );

  test.skipIf(!kvmOpens || Bun.which('passt') === null)(
    'when passt dies is told once, and the guest goes on (needs passt)',
    async () => {
      await using volt = await new BeatingVolt(['--net', 'user,id=lan']).beating();
      const passt = childrenOf(volt.pid).find((pid) => nameOf(pid).startsWith('passt'));

      process.kill(passt!, 'SIGKILL');
      await waitUntil('the news', () => volt.stderr !== '');
      await goesOn(volt);

      expect(volt.stderr).toMatch(
        /^volt: lan: passt has exited(, last message: "[^"\n]+")?; the guest continues with its link down\n$/,
      );
    },
  );
});

/** Which those were that this process started, and live. */
function childrenOf(pid: number): number[] {
  const text = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8');
  return text.split(' ').filter(Boolean).map(Number);
}

function nameOf(pid: number): string {
  return readFileSync(`/proc/${pid}/comm`, 'utf8').trim();
}

const { start, offer, waitUsed } = virtioAsm;
/** and al, 1; xor al, 1: until there is a byte on the console, which is then read. */
const waitForKey = [...asm.untilZero([...asm.in8(0x3f8 + 5), 0x24, 0x01, 0x34, 0x01]), ...asm.in8(0x3f8)];

/** A guest that at each key writes a page of 0x77 to sector `8 * n`, and prints the status. Status 0 is printed as O. */
function writer(times: number): Uint8Array {
  const requests = [0, 1].map((n) =>
    blockRequest(DATA + n * 0x1100, 1, 8 * n, new Uint8Array(8 * SECTOR).fill(0x77)),
  );
  const data = new Uint8Array(0x2200);
  requests.forEach(({ bytes }, n) => data.set(bytes, n * 0x1100));
  const chains = requests.map(({ chain }) => chain);
  const status = (n: number) => DATA + n * 0x1100 + 16 + 8 * SECTOR;
  const write = (n: number, count: number) => [
    ...[...waitForKey, ...offer(count), ...waitUsed(count)],
    ...[...asm.readEax(status(n)), 0x04, 'O'.charCodeAt(0), ...asm.printEax(1)], // add al, 'O'
  ];
  // The first goes well; the second is tried until the end.
  const order = Array.from({ length: 8 }, (_, i) => Math.min(i, 1));
  const code = Array.from({ length: times }, (_, i) => write(Math.min(i, 1), i + 1));
  return buildPvhElf(virtioImage([start(), asm.print('ready\n'), ...code, asm.exit(0)], chains, data, order));
}

describe.skipIf(!kvmOpens || !canChangeMounts)(
  'a full disk under a disk image (needs /dev/kvm, unshare)',
  () => {
    test.each([
      ['by default', ''],
      ['by preadv and pwritev', ',engine=sync'],
      ['by io_uring', ',engine=async'],
      ['written through', ',cache=writethrough'],
      ['in an overlay', ',overlay={folder}/overlay'],
    ])(
      '%s is an I/O error in the guest, which loses nothing that was written and goes on when there is room',
      async (_what, more) => {
        using folder = new TemporaryFolder();
        using outside = new TemporaryFolder();
        const kernel = await outside.write('kernel', writer(3));
        const disk = folder.at('disk');
        // 64 KiB, of which the image takes nothing yet.
        const mounts = inOwnMounts(
          `mount -t tmpfs -o size=64k none '${folder.path}' && truncate -s 64k '${disk}'`,
        );
        const flags = [
          '--kernel',
          kernel,
          '--cpus',
          '1',
          '--memory',
          '32M',
          '--control',
          outside.at('c.sock'),
        ];
        const diskFlag = `path=${disk}${more.replace('{folder}', folder.path)}`;
        await using child = Bun.spawn([...mounts, VOLT, 'run', ...flags, '--disk', diskFlag], {
          ...{ stdin: 'pipe', stdout: 'pipe', stderr: 'pipe', timeout: 90_000, killSignal: 'SIGKILL' },
        });
        let stdout = '';
        const reading = (async () => {
          for await (const bytes of child.stdout) stdout += Buffer.from(bytes).toString('latin1');
        })();
        const seenByVolt = (path: string) => `/proc/${child.pid}/root${path}`;
        const ballast = seenByVolt(folder.at('ballast'));
        const press = async (answers: number) => {
          void child.stdin.write('x');
          void child.stdin.flush();
          await waitUntil('an answer', () => stdout.length >= 'ready\n'.length + answers);
        };

        await waitUntil('the guest runs', () => stdout.startsWith('ready\n'));
        await press(1);
        fill(ballast);
        await press(2);
        const counted = await Bun.spawn([
          VOLT,
          'ctl',
          outside.at('c.sock'),
          'devices',
          '--json',
        ]).stdout.json();
        const kept = readFileSync(seenByVolt(more.includes('overlay') ? folder.at('overlay') : disk));
        rmSync(ballast);
        await press(3);
        const stderr = await new Response(child.stderr).text();
        await reading;

        // O: done; P: an I/O error.
        expect(stdout).toBe('ready\nOPO');
        expect(counted[0].queues[0]).toMatchObject({ chains: 2, errors: 1 });
        expect(kept.filter((byte) => byte === 0x77).length).toBe(8 * SECTOR);
        expect(stderr).toBe('');
        expect(await child.exited).toBe(0);
      },
    );
  },
);

/** Takes all the room that a file system has left. */
function fill(path: string): void {
  for (let bytes = 1 << 20; bytes >= 4096; bytes /= 2) {
    try {
      for (;;) writeFileSync(path, new Uint8Array(bytes), { flag: 'a' });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error;
    }
  }
}

describe('a Volt that is stopped for a while (needs /dev/kvm)', () => {
  test.skipIf(!kvmOpens)('by SIGSTOP goes on at SIGCONT, no hang reported (needs /dev/kvm)', async () => {
    await using volt = await new BeatingVolt(['--hang-report', '2']).beating();
    volt.kill('SIGSTOP');
    const asked = volt.ctl('status', '--json');
    const early = await Promise.race([asked, Bun.sleep(4000)]);
    const before = beatsIn(volt);

    volt.kill('SIGCONT');
    await goesOn(volt);
    const { stdout, exitCode } = await asked;

    expect(early).toBeUndefined();
    expect(beatsIn(volt)).toBeGreaterThan(before);
    expect(JSON.parse(stdout)).toMatchObject({ state: 'running' });
    expect(exitCode).toBe(0);
    expect(volt.stderr).toBe('');
  });
});
