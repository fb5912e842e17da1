/** `--jail` as root, on this machine's own kernel: what the jailed process is, has and sees. */
import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import {
  chmodSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  rmdirSync,
  statfsSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { canChangeMounts, inOwnMounts } from '../cli/own-mounts.ts';
import { runVolt, TemporaryFolder, VOLT, withDefaults } from '../cli/volt-process.ts';
import { pluggingGuest } from './plugging-guest.ts';
import { buildPvhElf } from './tiny-guest.ts';
import { kvmOpens } from './volt-child.ts';
import { waitUntil } from './guest-run.ts';

/** For hangs only. */
setDefaultTimeout(120_000);

const isRoot = process.getuid?.() === 0;
const CGROUP2_MAGIC = 0x6367_7270;
const cgroups = '/sys/fs/cgroup';
const hasCgroups = existsSync(cgroups) && statfsSync(cgroups).type === CGROUP2_MAGIC;
/** More than a guest needs. */
const THREADS = 64;
/** Of this run of the tests alone: a limit of threads counts those of the user's other processes too. */
const UID = 1_000_000 + process.pid;
const USER = ['--uid', String(UID), '--gid', String(UID + 1)];

/** A guest that beats in a jail of its own, with these flags more. */
class JailedVolt implements AsyncDisposable {
  readonly root = mkdtempSync(join(tmpdir(), 'volt-jail-'));
  readonly #child: Bun.Subprocess<'ignore', 'pipe', 'inherit'>;
  #stdout = '';

  constructor(flags: readonly string[], prefix: readonly string[] = [], kernel?: Uint8Array) {
    chmodSync(this.root, 0o755);
    if (kernel) writeFileSync(join(this.root, 'kernel'), kernel);
    const guest = withDefaults({ '--cpus': '1', '--memory': '64M', '--cmdline': 'loop' }, flags);
    const argv = [VOLT, 'run', '--jail', this.root, ...USER, ...guest];
    this.#child = Bun.spawn([...prefix, ...argv], {
      stdin: 'ignore',
      stdout: 'pipe',
      stderr: 'inherit',
    });
    void this.#read();
  }

  get pid(): number {
    return this.#child.pid;
  }

  get exited(): Promise<number> {
    return this.#child.exited;
  }

  beating(): Promise<this> {
    return this.printing('heartbeat');
  }

  async printing(words: string): Promise<this> {
    await waitUntil(words, () => this.#stdout.includes(words) || this.#child.exitCode !== null);
    expect(this.#stdout).toContain(words);
    return this;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.#child.exited;
    rmSync(this.root, { recursive: true, force: true });
  }

  async #read(): Promise<void> {
    for await (const bytes of this.#child.stdout) this.#stdout += Buffer.from(bytes).toString('latin1');
  }
}

/** Processes of the same user that do nothing, also none any more when a test fails. */
class Crowd implements AsyncDisposable {
  readonly #sleepers: readonly Bun.Subprocess[];

  constructor(count: number) {
    const sleep = { stdin: 'ignore', uid: UID, gid: UID + 1 } as const;
    this.#sleepers = Array.from({ length: count }, () => Bun.spawn(['sleep', '100'], sleep));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const sleeper of this.#sleepers) sleeper.kill('SIGKILL');
    await Promise.all(this.#sleepers.map(({ exited }) => exited));
  }
}

const field = (pid: number, name: string) =>
  new RegExp(`^${name}:[ \\t]*(.*?) ?$`, 'm').exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];

describe.skipIf(!isRoot || !kvmOpens)('a jailed guest (needs root and /dev/kvm)', () => {
  test('runs as another user without groups and capabilities, and sees its folder alone', async () => {
    await using volt = await new JailedVolt([]).beating();

    expect(field(volt.pid, 'Uid')?.split(/\s+/)).toEqual(Array(4).fill(String(UID)));
    expect(field(volt.pid, 'Gid')?.split(/\s+/)).toEqual(Array(4).fill(String(UID + 1)));
    expect(field(volt.pid, 'Groups')).toBe('');
    expect(field(volt.pid, 'CapEff')).toBe('0000000000000000');
    expect(field(volt.pid, 'Seccomp')).toBe('2');
    expect(readdirSync(`/proc/${volt.pid}/root/`).sort()).toEqual([
      'dev',
      'lib64',
      'proc',
      'run',
      'usr',
      'volt',
    ]);
    expect(readdirSync(`/proc/${volt.pid}/root/dev`).sort()).toEqual(['kvm', 'net', 'null', 'urandom']);
    expect(readFileSync(`/proc/${volt.pid}/mountinfo`, 'utf8')).not.toContain(' / / ');
    expect(readlinkSync(`/proc/${volt.pid}/ns/mnt`)).not.toBe(readlinkSync('/proc/self/ns/mnt'));
  });

  test('leaves nothing mounted on the host', async () => {
    const volt = await new JailedVolt([]).beating();
    const { root } = volt;
    const during = readFileSync('/proc/self/mountinfo', 'utf8');
    await volt[Symbol.asyncDispose]();

    expect(during).not.toContain(root);
    expect(existsSync(root)).toBe(false);
  });

  test.skipIf(Bun.which('unshare') === null)('joins a network namespace (needs unshare)', async () => {
    await using holder = Bun.spawn(['unshare', '--net', 'sleep', '100'], { stdin: 'ignore' });
    const namespace = `/proc/${holder.pid}/ns/net`;
    await waitUntil('its namespace', () => readlinkSync(namespace) !== readlinkSync('/proc/self/ns/net'));

    await using volt = await new JailedVolt(['--netns', namespace]).beating();

    expect(readlinkSync(`/proc/${volt.pid}/ns/net`)).toBe(readlinkSync(namespace));
    holder.kill('SIGKILL');
  });

  test.skipIf(!hasCgroups)('joins a cgroup (needs cgroup v2 at /sys/fs/cgroup)', async () => {
    const name = `volt-test-${process.pid}`;
    {
      await using volt = await new JailedVolt(['--cgroup', name]).beating();

      expect(readFileSync(`/proc/${volt.pid}/cgroup`, 'utf8')).toContain(`/${name}\n`);
      expect(readFileSync(`${cgroups}/${name}/cgroup.procs`, 'utf8')).toBe(`${volt.pid}\n`);
    }
    rmdirSync(`${cgroups}/${name}`);
  });

  test.skipIf(Bun.which('prlimit') === null)(
    'that may have no more threads plugs no vCPU, and does when it may again (needs prlimit)',
    async () => {
      // The limit is this process's own, and counts what its user has anywhere.
      await using volt = new JailedVolt(
        ['--cpus', '1,max=2', '--kernel', '/kernel', '--control'],
        ['prlimit', `--nproc=${THREADS}:${THREADS}`],
        buildPvhElf(pluggingGuest()),
      );
      await volt.printing('b');
      const sockets = `/proc/${volt.pid}/root/run/volt`;
      const socket = join(sockets, readdirSync(sockets)[0]!);
      await using crowd = new Crowd(THREADS);

      const refused = await runVolt(['ctl', socket, 'cpus', '2']);
      const before = JSON.parse((await runVolt(['ctl', socket, 'status', '--json'])).stdout);
      await crowd[Symbol.asyncDispose]();
      const plugged = await runVolt(['ctl', socket, 'cpus', '2']);
      await volt.printing('ba');
      const ended = await runVolt(['ctl', socket, 'stop']);

      expect(refused.stderr).toMatch(/^volt: Cannot [^\n]*pthread_create failed: EAGAIN[^\n]*\n$/);
      expect([refused.exitCode, before.vcpus]).toEqual([1, 1]);
      expect([plugged.stderr, plugged.exitCode, ended.exitCode]).toEqual(['', 0, 0]);
      expect(await volt.exited).toBe(0);
    },
    // The runtime aborts where it wants a thread of its own at the wrong moment.
    { retry: 4 },
  );

  test('takes its kernel from the jail, not from the host', async () => {
    using folder = new TemporaryFolder();
    const outside = await folder.write('kernel', 'no kernel');

    chmodSync(folder.path, 0o755);
    const ran = await runVolt(['run', `--jail=${folder.path}`, ...USER, '--kernel', outside]);

    expect(ran.stderr).toMatch(/^volt: Cannot [^\n]*there is no such file[^\n]*\n$/);
    expect(ran.exitCode).toBe(2);
  });
});

describe('a jail that cannot be', () => {
  test.each([
    ['without a user', ['--jail', '/tmp'], 'it needs --uid and --gid of a user other than root'],
    [
      'for root',
      ['--jail', '/tmp', '--uid', '0', '--gid', '0'],
      'it needs --uid and --gid of a user other than root',
    ],
  ])('%s is refused in one line', async (_what, flags, words) => {
    const { stderr, exitCode } = await runVolt(['run', ...flags]);

    expect(stderr).toMatch(/^volt: [^\n]+\n$/);
    expect(stderr).toContain(words);
    expect(exitCode).toBe(2);
  });

  test.skipIf(!isRoot)(
    'in a folder that its user may not enter is refused in one line (needs root)',
    async () => {
      using folder = new TemporaryFolder();
      const { stderr, exitCode } = await runVolt(['run', '--jail', folder.path, ...USER]);

      expect(stderr).toBe(
        `volt: Cannot use --jail ${folder.path}: user ${UID} may not enter it, its mode is 0700; use chmod 755\n`,
      );
      expect(exitCode).toBe(2);
    },
  );

  test.skipIf(!isRoot)('in a folder that is not there is refused in one line (needs root)', async () => {
    const { stderr, exitCode } = await runVolt(['run', '--jail', '/nonexistent', ...USER]);

    expect(stderr).toBe('volt: Cannot use --jail /nonexistent: it is not a directory; create it\n');
    expect(exitCode).toBe(2);
  });

  test.skipIf(!isRoot)("in the host's root is refused in one line (needs root)", async () => {
    const { stderr, exitCode } = await runVolt(['run', '--jail', '/', ...USER]);

    expect(stderr).toBe("volt: Cannot use --jail /: it is the host's root; use a separate directory\n");
    expect(exitCode).toBe(2);
  });

  test.skipIf(!isRoot || !canChangeMounts)(
    'in a read-only folder is refused in one line (needs root)',
    async () => {
      using folder = new TemporaryFolder();
      const prefix = inOwnMounts(`mount -t tmpfs -o ro,mode=755 none ${folder.path}`);

      const { stderr, exitCode } = await runVolt(['run', '--jail', folder.path, ...USER], { prefix });

      expect(stderr).toMatch(/^volt: Cannot use --jail [^\n]* failed: EROFS; [^\n]*\n$/);
      expect(stderr).not.toContain('defect');
      expect(exitCode).toBe(1);
    },
  );

  test.skipIf(!isRoot || !canChangeMounts)(
    'in a cgroup where there is no cgroup v2 is refused, and no directory is made (needs root)',
    async () => {
      using folder = new TemporaryFolder();
      chmodSync(folder.path, 0o755);
      const plain = inOwnMounts('mount -t tmpfs none /sys/fs/cgroup');
      const prefix = [...plain, 'sh', '-c', '"$0" "$@"; code=$?; ls -A /sys/fs/cgroup; exit $code'];

      const { stdout, stderr, exitCode } = await runVolt(
        ['run', '--jail', folder.path, ...USER, '--cgroup', 'a/b'],
        { prefix },
      );

      expect(stderr).toStartWith('volt: Cannot use --cgroup a/b: /sys/fs/cgroup is not a cgroup v2; ');
      expect(stdout).toBe('');
      expect(exitCode).toBe(1);
    },
  );
});
