/** What a service manager is told of a guest, in the protocol of sd_notify(3). */
import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { runVolt, TemporaryFolder } from '../cli/volt-process.ts';
import { waitUntil } from './guest-run.ts';
import { BeatingVolt, kvmOpens } from './volt-child.ts';

/** For hangs only. */
setDefaultTimeout(120_000);

/** Receives datagrams at an address of socat's until it is disposed of. */
class Manager implements AsyncDisposable {
  text = '';
  readonly #child: Bun.Subprocess<'ignore', 'pipe', 'inherit'>;

  constructor(address: string) {
    this.#child = Bun.spawn(['socat', '-u', address, 'STDOUT'], { stdin: 'ignore', stdout: 'pipe' });
    void this.#read();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.#child.exited;
  }

  async #read(): Promise<void> {
    for await (const bytes of this.#child.stdout) this.text += Buffer.from(bytes).toString();
  }
}

describe.skipIf(!kvmOpens || Bun.which('socat') === null)('a service manager (needs /dev/kvm, socat)', () => {
  test.each([
    ['at a path', (path: string) => [`UNIX-RECV:${path}`, path]],
    ['with a name of its own', (path: string) => [`ABSTRACT-RECV:${path.slice(1)}`, `@${path.slice(1)}`]],
  ])('%s is told that the guest is ready, once, and the sandbox does not mind', async (_what, addresses) => {
    using folder = new TemporaryFolder();
    const [receive, address] = addresses(folder.at('notify')) as [string, string];
    await using manager = new Manager(receive);
    await waitUntil('the manager listens', () => isListening(folder.at('notify')));

    await using volt = await new BeatingVolt([], { NOTIFY_SOCKET: address }).beating();
    await waitUntil('the news', () => manager.text !== '');

    expect(manager.text).toBe('READY=1');
    expect(volt.stderr).toBe('');
  });

  test('is told nothing of a guest that cannot start', async () => {
    using folder = new TemporaryFolder();
    await using manager = new Manager(`UNIX-RECV:${folder.at('notify')}`);
    await waitUntil('the manager listens', () => isListening(folder.at('notify')));

    const prefix = ['env', `NOTIFY_SOCKET=${folder.at('notify')}`];
    const { exitCode } = await runVolt(['--kernel', '/nonexistent'], { prefix });
    const disk = await runVolt(['--disk', '/nonexistent'], { prefix });

    expect([exitCode, disk.exitCode]).toEqual([2, 2]);
    expect(manager.text).toBe('');
  });

  test('that does not listen is no matter', async () => {
    await using volt = await new BeatingVolt([], { NOTIFY_SOCKET: '/nonexistent/notify' }).beating();

    expect(volt.stdout).toContain('heartbeat');
    expect(volt.stderr).toBe('');
  });
});

/** By its path or its name, as the kernel lists sockets. (proc(5), /proc/net/unix) */
function isListening(path: string): boolean {
  const listed = Bun.spawnSync(['cat', '/proc/net/unix']).stdout.toString();
  return listed.split('\n').some((line) => line.endsWith(` ${path}`) || line.endsWith(` @${path.slice(1)}`));
}
