/** `volt jailer`: the layout of the jail, its process, and a guest in it. */
import { describe, expect, setDefaultTimeout } from 'bun:test';
import { copyFileSync, existsSync, readFileSync, statSync, symlinkSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { TemporaryFolder, VOLT } from '../../cli/volt-process.ts';
import { testNeeding } from '../../support/needs.ts';
import { waitUntil } from '../guest-run.ts';
import { requestAt } from './client.ts';
import { haltingKernel, isRoot, kvmOpens } from './microvm.ts';

/** For hangs only. */
setDefaultTimeout(120_000);
const needsRoot = testNeeding('root and /dev/kvm', !isRoot || !kvmOpens);
const [UID, GID] = [61_234, 61_235];

class Jail implements AsyncDisposable {
  readonly #folder = new TemporaryFolder();
  readonly root = join(this.#folder.at('firecracker'), 'demo', 'root');
  readonly socket = join(this.root, 'run', 'api.sock');
  readonly #child: Bun.Subprocess;
  pid = 0;

  constructor(flags: readonly string[], install: (volt: string, path: string) => void = symlinkSync) {
    const firecracker = this.#folder.at('firecracker-link');
    mkdirSync(this.root, { recursive: true });
    mkdirSync(firecracker);
    install(VOLT, join(firecracker, 'firecracker'));
    copyFileSync(haltingKernel(this.#folder), join(this.root, 'kernel.elf'));
    this.#child = Bun.spawn(
      [
        VOLT,
        'jailer',
        ...['--id', 'demo', '--exec-file', join(firecracker, 'firecracker')],
        ...['--uid', String(UID), '--gid', String(GID), '--chroot-base-dir', this.#folder.path],
        ...flags,
        ...['--', '--api-sock', '/run/api.sock'],
      ],
      { stdin: 'ignore', stdout: 'ignore', stderr: 'ignore' },
    );
  }

  get jailerExited(): Promise<number> {
    return this.#child.exited;
  }

  async ready(): Promise<this> {
    await waitUntil('the API socket', () => existsSync(this.socket));
    this.pid = Number(readFileSync(join(this.root, 'firecracker.pid'), 'utf8'));
    return this;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.pid !== 0) process.kill(this.pid, 'SIGKILL');
    await this.#child.exited;
    this.#folder[Symbol.dispose]();
  }
}

async function startGuest(socket: string): Promise<number[]> {
  const kernel = await requestAt(socket, 'PUT', '/boot-source', { kernel_image_path: '/kernel.elf' });
  const start = await requestAt(socket, 'PUT', '/actions', { action_type: 'InstanceStart' });
  return [kernel.status, start.status];
}

const statusOf = (pid: number) => readFileSync(`/proc/${pid}/status`, 'utf8');

describe('a jailed microVM', () => {
  needsRoot('runs as another user in its own root, with the process id of its jailer', async () => {
    await using jail = new Jail([]);
    await jail.ready();

    const statuses = await startGuest(jail.socket);

    expect(statuses).toEqual([204, 204]);
    expect(statusOf(jail.pid)).toContain(`Uid:\t${UID}\t${UID}\t${UID}`);
    const program = statSync(join(jail.root, 'firecracker'));
    expect([program.uid, program.gid]).toEqual([UID, GID]);
    const kvm = statSync(join(jail.root, 'dev/kvm'));
    expect([kvm.uid, kvm.gid, kvm.mode & 0o777, kvm.rdev]).toEqual([UID, GID, 0o600, (10 << 8) | 232]);
    expect(statSync(jail.root).mode & 0o777).toBe(0o700);
  });

  needsRoot('that is a daemon leads its own session with /dev/null, and its jailer ends', async () => {
    await using jail = new Jail(['--daemonize'], copyFileSync);
    await jail.ready();

    const statuses = await startGuest(jail.socket);

    expect(await jail.jailerExited).toBe(0);
    expect(statuses).toEqual([204, 204]);
    const session = readFileSync(`/proc/${jail.pid}/stat`, 'utf8').split(') ')[1]!.split(' ')[3];
    expect(session).toBe(String(jail.pid));
  });

  needsRoot('in a PID namespace of its own is process 1 there', async () => {
    await using jail = new Jail(['--new-pid-ns', '--resource-limit', 'no-file=1500']);
    await jail.ready();

    // In the sandbox, Volt lowers its limit further.
    const limits = readFileSync(`/proc/${jail.pid}/limits`, 'utf8');
    const statuses = await startGuest(jail.socket);

    expect(statuses).toEqual([204, 204]);
    expect(statusOf(jail.pid)).toMatch(new RegExp(`NSpid:\\t${jail.pid}\\t1$`, 'm'));
    expect(limits).toMatch(/Max open files +\d+ +1500 /);
  });
});

needsRoot('a link where the jail gets its program is refused', async () => {
  await using jail = new Jail([], (volt, path) => {
    symlinkSync(volt, path);
    symlinkSync('/dev/null', join(jailRoot(path), 'firecracker'));
  });

  expect(await jail.jailerExited).toBe(1);
});

/** From the program's path, which a jail of these tests has beside its root. */
function jailRoot(program: string): string {
  return join(program, '../../firecracker/demo/root');
}
