/**
 * Where Linux guests run in the tests: this machine, if its KVM runs on VMX or SVM; otherwise a nested host, made
 * once for all test files and stopped when the test process ends.
 */
import { resolve } from 'node:path';
import { runsLinuxHere } from '../../scripts/linux-capable.ts';
import { startNestedHost, type NestedHost } from '../../scripts/nested-host.ts';

export const VOLT = resolve(import.meta.dir, '../../volt');

export interface CommandResult {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

let nested: Promise<NestedHost> | undefined;

/** Runs a command where /dev/kvm can run Linux. `timeoutSeconds` only bounds a hang. */
export async function runOnLinuxHost(
  argv: readonly string[],
  timeoutSeconds: number,
): Promise<CommandResult> {
  if (runsLinuxHere()) return runHere(argv, timeoutSeconds);
  nested ??= startNestedHost();
  const { exitCode, stdout, stderr } = await (await nested).run(argv, { timeoutSeconds });
  return { exitCode, stdout, stderr };
}

export async function stopLinuxHost(): Promise<void> {
  const host = nested;
  nested = undefined;
  await host?.then((each) => each.stop());
}

async function runHere(argv: readonly string[], timeoutSeconds: number): Promise<CommandResult> {
  const child = Bun.spawn([...argv], {
    stdin: 'ignore',
    stdout: 'pipe',
    stderr: 'pipe',
    timeout: timeoutSeconds * 1000,
  });
  const [stdout, stderr] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
  ]);
  return { exitCode: await child.exited, stdout, stderr };
}
