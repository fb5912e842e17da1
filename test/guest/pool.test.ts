/** `volt pool`: guests in processes that were there before them, as their callers see it. */
import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { chmodSync } from 'node:fs';
import { join } from 'node:path';
import { kvmOpens, runVolt } from '../cli/volt-process.ts';
import { testNeeding } from '../support/needs.ts';
import { waitUntil } from './guest-run.ts';
import { isAlive, PoolChild, ROOT } from './pool-child.ts';
import { asm, buildPvhElf, echoGuest, program } from './tiny-guest.ts';

setDefaultTimeout(120_000);

const STRANGER = 65534;
const isRoot = process.getuid?.() === 0;

/** Prints its heartbeats for ever. */
const BEATING = ['--cpus', '1', '--memory', '64M', '--cmdline', 'loop'];

/** Reads on, as a guest whose reader closes the pipe ends. */
async function firstOutput(child: Bun.Subprocess<'pipe', 'pipe', 'pipe'>): Promise<void> {
  let text = '';
  let hasEnded = false;
  void (async () => {
    for await (const bytes of child.stdout) text += Buffer.from(bytes).toString('latin1');
    hasEnded = true;
  })();
  await waitUntil('a heartbeat', () => text.includes('heartbeat') || hasEnded);
  if (!text.includes('heartbeat')) throw new Error(`It has ended: ${text}`);
}

describe.skipIf(!kvmOpens)('volt pool (needs /dev/kvm)', () => {
  test("a guest has its caller's directory, stdin, stdout, stderr and exit code", async () => {
    await using pool = await new PoolChild(2).ready(2);
    await Bun.write(pool.at('echo'), buildPvhElf(echoGuest()));
    await Bun.write(pool.at('fails'), buildPvhElf(program(asm.print('out'), asm.exit(3))));

    const echoed = await pool.run(['--kernel', 'echo'], { stdin: Buffer.from('some text\x04') });
    const failed = await pool.run(['run', '--kernel', 'fails', '--log-format', 'json']);
    const wrong = await pool.run(['--kernel', 'missing']);

    expect(echoed).toEqual({ stdout: expect.stringContaining('some text'), stderr: '', exitCode: 0 });
    expect(failed).toMatchObject({ stdout: 'out', exitCode: 67 });
    expect(failed.stderr).toContain('"message":"guest reported failure: status 3 from vCPU 0"');
    expect(wrong.stderr).toStartWith('volt: Cannot use --kernel missing: there is no such file');
    expect(wrong.exitCode).toBe(2);
    expect(pool.count('taken')).toBe(3);
  });

  test('each process that is taken is replaced', async () => {
    await using pool = await new PoolChild(1).ready(1);
    await Bun.write(pool.at('ends'), buildPvhElf(program(asm.exit(0))));

    const { exitCode } = await pool.run(['--kernel', 'ends']);
    await pool.ready(2);
    const status = await pool.status();

    expect(exitCode).toBe(0);
    expect(status).toMatchObject({ pid: pool.pid, size: 1, starting: [], guests: [], taken: 1, lost: 0 });
    expect(status.idle).toHaveLength(1);
  });

  test('a saved guest goes on in a process of the pool, and SIGTERM to its caller ends it', async () => {
    await using pool = await new PoolChild(2).ready(2);
    const saved = pool.start([...BEATING, '--control', 'saved.sock']);
    await firstOutput(saved);
    await runVolt(['ctl', pool.at('saved.sock'), 'snapshot', pool.at('snap'), '--stop']);

    const restored = pool.start(['restore', 'snap', '--shutdown-timeout', '0']);
    await firstOutput(restored);
    restored.kill('SIGTERM');

    expect(await saved.exited).toBe(0);
    expect(await restored.exited).toBe(143);
    expect(pool.count('taken')).toBe(2);
  });

  test('a guest ends with its caller, even if that is killed', async () => {
    await using pool = await new PoolChild(1).ready(1);
    const caller = pool.start(BEATING);
    await firstOutput(caller);
    const [guest] = (await pool.status()).guests;

    caller.kill('SIGKILL');

    await waitUntil("the end of the guest's process", () => !isAlive(guest!));
    expect(isAlive(guest!)).toBe(false);
  });

  test("the caller of a guest whose process is killed has that process's exit code", async () => {
    await using pool = await new PoolChild(1).ready(1);
    const caller = pool.start(BEATING);
    await firstOutput(caller);
    const [guest] = (await pool.status()).guests;

    process.kill(guest!, 'SIGKILL');

    expect(await caller.exited).toBe(137);
  });

  test('an idle process that crashes is replaced', async () => {
    await using pool = await new PoolChild(2).ready(2);
    const [idle] = (await pool.status()).idle;

    process.kill(idle!, 'SIGSEGV');
    await pool.ready(3);

    const status = await pool.status();
    expect(status.idle).toHaveLength(2);
    expect(status.idle).not.toContain(idle);
    expect(status.lost).toBe(1);
  });

  test('a caller with other limits starts its guest itself', async () => {
    await using pool = await new PoolChild(1).ready(1);
    await Bun.write(pool.at('ends'), buildPvhElf(program(asm.print('up'), asm.exit(0))));
    const prefix = ['sh', '-c', 'ulimit -c 1; exec "$0" "$@"'];

    const limited = await pool.run(['--kernel', 'ends'], { prefix });

    expect(limited).toEqual({ stdout: 'up', stderr: '', exitCode: 0 });
    await waitUntil('the refusal', () => pool.count('refused') > 0);
    expect(pool.count('taken')).toBe(0);
    expect(pool.events.find(({ kind }) => kind === 'refused')).toMatchObject({
      why: 'different resource limits (ulimit)',
    });
  });

  test('a caller that names a descriptor of its own starts its guest itself', async () => {
    await using pool = await new PoolChild(1).ready(1);
    await Bun.write(pool.at('ends'), buildPvhElf(program(asm.print('up'), asm.exit(0))));
    const prefix = ['sh', '-c', 'exec 7<ends; exec "$0" "$@"'];

    const { stdout } = await pool.run(['--kernel', '/dev/fd/7'], { prefix });

    expect(stdout).toBe('up');
    expect(pool.count('taken')).toBe(0);
  });

  test('without a pool, a jail or with --no-pool the guest starts as ever', async () => {
    await using pool = await new PoolChild(1).ready(1);
    await Bun.write(pool.at('ends'), buildPvhElf(program(asm.print('up'), asm.exit(0))));
    const words = ['--kernel', pool.at('ends')];

    const elsewhere = await runVolt([...words, '--pool', pool.at('no-such-directory')]);
    const refused = await runVolt([...words, '--no-pool']);

    expect([elsewhere.stdout, refused.stdout]).toEqual(['up', 'up']);
    expect([elsewhere.exitCode, refused.exitCode]).toEqual([0, 0]);
    expect(pool.count('taken')).toBe(0);
  });

  testNeeding('root', !isRoot)("another user's request is refused", async () => {
    await using pool = await new PoolChild(1).ready(1);
    chmodSync(pool.directory, 0o755);
    chmodSync(pool.socket, 0o666);
    const script = join(ROOT, 'test/guest/pool-stranger.ts');

    const stranger = Bun.spawnSync([process.execPath, script, pool.socket], {
      ...{ uid: STRANGER, gid: STRANGER, stdin: 'ignore', stdout: 'pipe', stderr: 'inherit' },
      cwd: '/',
    });

    expect(JSON.parse(stranger.stdout.toString())).toEqual({
      kind: 'refused',
      why: 'another user, or a process that is not visible here',
    });
    expect((await pool.status()).idle).toHaveLength(1);
  });

  test('SIGINT ends the pool and its idle processes; a guest goes on and its caller hears of its end', async () => {
    await using pool = await new PoolChild(2).ready(2);
    const caller = pool.start([...BEATING, '--shutdown-timeout', '0']);
    await firstOutput(caller);
    await pool.ready(3);
    const { idle, guests } = await pool.status();

    pool.kill('SIGINT');
    const exitCode = await pool.exited;
    const [idleAlive, guestsAlive] = [idle.filter(isAlive), guests.filter(isAlive)];
    caller.kill('SIGTERM');

    expect(exitCode).toBe(0);
    expect(idleAlive).toEqual([]);
    expect(guestsAlive).toEqual([...guests]);
    expect(await caller.exited).toBe(143);
    expect(pool.stderr).toBe('');
  });

  test('idle processes end with a pool that is killed', async () => {
    await using pool = await new PoolChild(2).ready(2);
    const { idle } = await pool.status();

    pool.kill('SIGKILL');
    await pool.exited;

    await waitUntil('the end of the idle processes', () => !idle.some(isAlive));
    expect(idle.filter(isAlive)).toEqual([]);
  });

  test('two pools cannot be in one directory', async () => {
    await using pool = await new PoolChild(1).ready(1);

    const second = await runVolt(['pool', pool.directory]);

    expect(second.exitCode).toBe(1);
    expect(second.stderr).toMatch(/^volt: Cannot open .*: another process listens there .*\n$/);
  });
});
