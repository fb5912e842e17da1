/** The examples of docs/library.md do what they say, as a reader would run them. */
import { readdirSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { kvmOpens, TemporaryFolder } from '../cli/volt-process.ts';
import { buildPvhElf, asm, program } from './tiny-guest.ts';

/** For hangs only. */
setDefaultTimeout(120_000);

const FOLDER = resolve(import.meta.dir, '../../examples');

async function runExample(name: string, ...args: string[]) {
  await using child = Bun.spawn([process.execPath, join(FOLDER, name), ...args], {
    stdin: 'ignore',
    stdout: 'pipe',
    stderr: 'pipe',
    timeout: 100_000,
    killSignal: 'SIGKILL',
  });
  const [stdout, stderr] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
  ]);
  return { stdout, stderr, exitCode: await child.exited };
}

describe.skipIf(!kvmOpens)('examples (need /dev/kvm)', () => {
  test('boot.ts boots the embedded kernel', async () => {
    const { stdout, stderr, exitCode } = await runExample('boot.ts');

    expect(stdout).toEndWith('ended: guest-exit, exit code 0\n');
    expect(stdout.length).toBeGreaterThan(500);
    expect([stderr, exitCode]).toEqual(['', 0]);
  });

  test('boot.ts boots the kernel it is given', async () => {
    using folder = new TemporaryFolder();
    const kernel = await folder.write('kernel', buildPvhElf(program(asm.print('hello\n'), asm.exit(3))));

    const { stdout } = await runExample('boot.ts', kernel);

    expect(stdout).toBe('hello\nended: guest-exit, exit code 67\n');
  });

  test('steer.ts looks, pauses, resumes, interrupts and stops', async () => {
    const { stdout, stderr, exitCode } = await runExample('steer.ts');

    expect(stdout.split('\n')).toEqual([
      expect.stringMatching(/^vCPU 0: running, runnable, in \w+$/),
      expect.stringMatching(/^vCPU 1: running, runnable, in \w+$/),
      'event paused',
      'paused: paused, RIP is known: true',
      'event resumed',
      'event ipi',
      'vCPU 1: waiting-for-sipi',
      'event ended',
      'ended: stopped',
      '',
    ]);
    expect([stderr, exitCode]).toEqual(['', 0]);
  });

  test('hang.ts does not wait for a guest that hangs', async () => {
    const { stdout, stderr, exitCode } = await runExample('hang.ts');

    expect(stdout).toBe('vCPU 0: waits-for-sipi\nended: stopped\n');
    expect([stderr, exitCode]).toEqual(['', 0]);
  });

  test('clone.ts saves a guest and has two clones of it', async () => {
    const { stdout, stderr, exitCode } = await runExample('clone.ts');

    expect(stdout).toBe(
      'saved 64 MiB, copied while the guest ran: true\nended: saved\ntwo clones go on at the same heartbeat: true\n',
    );
    expect([stderr, exitCode]).toEqual(['', 0]);
  });

  test('control-socket.ts steers a guest through its socket', async () => {
    const { stdout, stderr, exitCode } = await runExample('control-socket.ts');

    expect(stdout).toBe('event paused\nvCPU 1: paused\nevent resumed\nevent ended\nended: stopped\n');
    expect([stderr, exitCode]).toEqual(['', 0]);
  });
});

test('docs/library.md names every example', () => {
  const text = readFileSync(join(FOLDER, '../docs/library.md'), 'utf8');
  const missing = readdirSync(FOLDER).filter((name) => !text.includes(`examples/${name}`));
  expect(missing).toEqual([]);
});
