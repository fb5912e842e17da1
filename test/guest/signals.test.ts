/** Signals end a guest that would never end by itself. */
import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { closeSync, openSync } from 'node:fs';
import { kvmOpens, TemporaryFolder, VOLT } from '../cli/volt-process.ts';
import { asm, buildPvhElf, program } from './tiny-guest.ts';

setDefaultTimeout(120_000);

const UP = 'up\n';

/** Sends `signals` to volt once its guest has printed, and collects how it ended. */
async function signalGuest(code: Uint8Array, signals: readonly NodeJS.Signals[], flags: readonly string[]) {
  using folder = new TemporaryFolder();
  const kernel = await folder.write('kernel', buildPvhElf(code));
  await using child = Bun.spawn([VOLT, '--kernel', kernel, '--memory', '32M', ...flags], {
    stdin: 'ignore',
    stdout: 'pipe',
    stderr: 'pipe',
    timeout: 60_000,
    killSignal: 'SIGKILL',
  });
  const reader = child.stdout.getReader();
  const { value } = await reader.read();
  for (const signal of signals) child.kill(signal);
  const stderr = await new Response(child.stderr).text();
  return { first: Buffer.from(value!).toString(), stderr, exitCode: await child.exited };
}

const spin = program(asm.print(UP), asm.spin());
const halt = program(asm.print(UP), asm.halt());
const printing = program(asm.print(UP), asm.forEver(asm.out8(0x3f8, 0x2e)));

describe.skipIf(!kvmOpens)('a guest that never ends (needs /dev/kvm)', () => {
  test.each([
    ['SIGHUP', 129],
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ] as const)('is ended by %s: exit code %d, and nothing on stderr', async (signal, code) => {
    const { stderr, exitCode } = await signalGuest(spin, [signal], ['--cpus', '2']);

    expect(stderr).toBe('');
    expect(exitCode).toBe(code);
  });

  test('is ended while it is halted with interrupts off', async () => {
    const { exitCode } = await signalGuest(halt, ['SIGTERM'], ['--cpus', '1']);

    expect(exitCode).toBe(143);
  });

  test('is ended while it waits for a console that nobody reads', async () => {
    using folder = new TemporaryFolder();
    const fifo = folder.at('fifo');
    Bun.spawnSync(['mkfifo', fifo]);
    // Open for reading too, so that it has a reader, who does not read.
    const fd = openSync(fifo, 'r+');
    const kernel = await folder.write('kernel', buildPvhElf(printing));
    await using child = Bun.spawn([VOLT, '--kernel', kernel, '--memory', '32M', '--cpus', '1'], {
      stdio: ['ignore', fd, 'pipe'],
      timeout: 60_000,
      killSignal: 'SIGKILL',
    });

    // Long enough to fill the pipe and Volt's own ring; on a slower machine the test is easier, not wrong.
    await Bun.sleep(2500);
    child.kill('SIGTERM');
    const exitCode = await child.exited;
    closeSync(fd);

    expect(exitCode).toBe(143);
  });

  test('is ended with 64 vCPUs, of which 63 were never started', async () => {
    const { stderr, exitCode } = await signalGuest(
      spin,
      ['SIGTERM'],
      ['--cpus', '64', '--log-level', 'info'],
    );

    expect(stderr).toContain('volt: guest ended: stopped on vCPU');
    expect(stderr.match(/never started \(waiting for INIT\)/g)).toHaveLength(63);
    expect(exitCode).toBe(143);
  });

  test('is ended once by two signals at the same time', async () => {
    const { exitCode } = await signalGuest(spin, ['SIGINT', 'SIGTERM'], ['--cpus', '2']);

    expect([130, 143]).toContain(exitCode);
  });
});
