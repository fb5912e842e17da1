/** Runs a program to its end and says what it cost. */
import { readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';

export interface ProcessRun {
  /** From before the spawn until the exit was seen. */
  readonly wallMs: number;
  /** User and system, of the process and those it waited for. */
  readonly cpuMs: number;
  readonly stdout: Uint8Array;
  readonly stderr: string;
  readonly exitCode: number;
}

/** For hangs only. */
const HANG_MS = 60_000;

/** Output of the program goes to a file: QEMU loses bytes of a guest that prints faster than a pipe is read. */
export async function runProcess(argv: readonly string[]): Promise<ProcessRun> {
  const output = join(tmpdir(), `volt-bench-${process.pid}-output`);
  const start = performance.now();
  await using child = Bun.spawn([...argv], {
    stdin: 'ignore',
    stdout: Bun.file(output),
    stderr: 'pipe',
    timeout: HANG_MS,
    killSignal: 'SIGKILL',
  });
  const exitCode = await child.exited;
  const wallMs = performance.now() - start;
  const stderr = await new Response(child.stderr).text();
  const cpuMs = Number(child.resourceUsage()!.cpuTime.total) / 1000;
  const stdout = new Uint8Array(readFileSync(output));
  rmSync(output);
  return { wallMs, cpuMs, stdout, stderr, exitCode };
}

/** Runs it and throws unless it printed exactly `expected` (or what it accepts). */
export async function runExpecting(
  argv: readonly string[],
  expected: string | ((stdout: Uint8Array) => boolean),
): Promise<ProcessRun> {
  const run = await runProcess(argv);
  const text = () => Buffer.from(run.stdout).toString('latin1');
  if (typeof expected === 'string' ? text() === expected : expected(run.stdout)) return run;
  const said = run.stderr.trim().split('\n').at(-1) ?? '';
  throw new Error(
    `Cannot measure ${basename(argv[0]!)}: exit code ${run.exitCode}, ${run.stdout.length} bytes on stdout, "${said}" (expected what the guest prints)`,
  );
}

/**
 * Peak resident set in MiB, by GNU time: a process that Bun spawned itself would start with Bun's own peak, which
 * Linux carries over an exec after vfork.
 */
export async function peakMemoryMib(argv: readonly string[], folder: string): Promise<number> {
  const file = join(folder, 'peak');
  await runProcess(['time', '--quiet', '-f', '%M', '-o', file, ...argv]);
  const text = readFileSync(file, 'utf8');
  rmSync(file);
  const kib = Number(text.trim());
  if (!(kib > 0))
    throw new Error(`Cannot read the peak memory of ${basename(argv[0]!)}: "${text}" (expected KiB)`);
  return kib / 1024;
}

export const hasGnuTime = Bun.which('time') !== null;
