/** The quick form of the bench: that it works, never how fast anything is. Needs /dev/kvm and the built ./volt. */
import { expect, setDefaultTimeout, test } from 'bun:test';
import { readdirSync } from 'node:fs';
import { resolve } from 'node:path';
import type { Report } from '../../bench/report.ts';
import { kvmOpens, TemporaryFolder } from '../cli/volt-process.ts';

/** For hangs only: it takes about a minute. */
setDefaultTimeout(600_000);

const MAIN = resolve(import.meta.dir, '../../bench/main.ts');

async function runBench(args: readonly string[]) {
  await using child = Bun.spawn([process.execPath, MAIN, ...args], {
    stdin: 'ignore',
    stdout: 'pipe',
    stderr: 'pipe',
    timeout: 500_000,
    killSignal: 'SIGKILL',
  });
  const stderr = await new Response(child.stderr).text();
  return { stderr, exitCode: await child.exited };
}

test.skipIf(!kvmOpens)('every measurement of the quick bench gives numbers (needs /dev/kvm)', async () => {
  using folder = new TemporaryFolder();

  const { stderr, exitCode } = await runBench(['--quick', '--output', folder.path]);

  expect({ stderr: exitCode === 0 ? '' : stderr, exitCode }).toEqual({ stderr: '', exitCode: 0 });
  const report = (await Bun.file(folder.at('report.json')).json()) as Report;
  expect(report.versions[0]?.name).toBe('Volt');
  const ids = report.sections.map(({ measurement }) => measurement.id);
  expect(ids).toEqual([
    'tiny-guest',
    'api-start',
    'start-account',
    'growth',
    'exit-cost',
    'console',
    'kernel-load',
    'ap-bring-up',
    'latency',
    'density',
    'snapshot',
    'linux-boot',
    'linux-smp',
    'linux-disk',
    'linux-net',
  ]);
  const numbers = report.sections.flatMap(({ findings }) => [
    ...findings.comparisons.flatMap(({ ours, theirs, ratio }) => [ours.median, theirs.median, ratio.median]),
    ...findings.figures.filter(({ what }) => !what.includes('per further')).map(({ value }) => value),
  ]);
  expect(numbers.filter((value) => !(value > 0 && value < Infinity))).toEqual([]);
  const charts = readdirSync(folder.path).filter((name) => name.endsWith('.svg'));
  const named = (await Bun.file(folder.at('report.md')).text()).matchAll(/\]\(([\w-]+\.svg)\)/g);
  expect([...named].map((match) => match[1]!).sort()).toEqual(charts.sort());
});

test('the bench refuses a measurement that it does not know', async () => {
  const { stderr, exitCode } = await runBench(['colour']);

  expect(stderr).toBe('bench: Cannot measure colour (expected one of those in --help)\n');
  expect(exitCode).toBe(1);
});
