/**
 * Where Linux guests run in the tests: this machine, if its KVM runs on VMX or SVM; otherwise a nested host, made
 * once for all test files and stopped when the test process ends.
 */
import { beforeAll as beforeAllTests } from 'bun:test';
import { availableParallelism, loadavg } from 'node:os';
import { resolve } from 'node:path';
import { runsLinuxHere } from '../../scripts/linux-capable.ts';
import { startNestedHost, type NestedHost } from '../../scripts/nested-host.ts';
import { testNeeding } from '../support/needs.ts';

/**
 * On an emulated host a boot takes half a minute: `npm test` makes those that show most (VOLT_TEST_LINUX=short),
 * `npm run test:linux` all of them, plain `bun test` none. On hardware there is nothing to save.
 */
const IS_ASKED = process.env['VOLT_TEST_LINUX'] !== undefined;
export const EVERY_BOOT = IS_ASKED && (runsLinuxHere() || process.env['VOLT_TEST_LINUX'] === 'all');
export const test = testNeeding('VOLT_TEST_LINUX=short', !IS_ASKED);
/** For tests that the short form leaves out, by name. */
export const thorough = testNeeding('VOLT_TEST_LINUX=all', !EVERY_BOOT);

/** Kernels and images are made for tests that run. */
export function beforeAll(prepare: () => unknown, timeoutMs?: number): void {
  if (IS_ASKED) beforeAllTests(prepare as () => Promise<void>, timeoutMs);
}

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
  // One emulated CPU: with two, about one boot in fifteen fell victim to the flaw described below, with one none
  // of twenty. The guests' vCPUs then take turns; that they really run side by side is what test/guest tests.
  nested ??= startNestedHost({ cpus: 1, modules: ['tun', 'loop', 'vhost_net'] });
  try {
    const host = await nested;
    const limit = { timeoutSeconds: hangSeconds(timeoutSeconds) };
    const { exitCode, stdout, stderr } = await host.run(argv, limit);
    return { exitCode, stdout, stderr };
  } catch (error) {
    // The nested host died or hangs: whoever comes next gets a fresh one.
    await stopLinuxHost().catch(() => {});
    throw error;
  }
}

/**
 * Options of a test that boots in the nested host. QEMU 7.2 emulates SVM with a flaw that now and then, whatever
 * VMM runs there, leaks a register of the host into the guest or loses an interrupt; hence a second try, which
 * the test run shows. On hardware there is none.
 *
 * What a test runs has limits that come first. Where Bun's own ends an attempt, it kills the nested host, the
 * second attempt fails at once, and Bun 1.4.5 reports the third as passed while it still runs.
 */
export const LINUX_TEST = { timeout: 3_600_000, retry: runsLinuxHere() ? 0 : 2 } as const;

const MOST_PATIENCE = 4;

/** A limit for a hang on a machine that is not busy, as one for this machine now. */
export function hangSeconds(seconds: number): number {
  const load = (loadavg()[0] ?? 0) / availableParallelism();
  return seconds * Math.min(MOST_PATIENCE, Math.max(1, load));
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
