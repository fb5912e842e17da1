/** Traces of guests with real vCPUs, by the real binary in its sandbox. */
import { expect, setDefaultTimeout } from 'bun:test';
import { readdirSync } from 'node:fs';
import { kvmOpens, runVolt, TemporaryFolder } from '../cli/volt-process.ts';
import { testNeeding } from '../support/needs.ts';
import { BeatingVolt } from './volt-child.ts';

/** For hangs only. */
setDefaultTimeout(120_000);
const needsKvm = testNeeding('/dev/kvm', !kvmOpens);

interface Trace {
  readonly traceEvents: readonly { ph: string; name: string; tid: number; ts?: number; dur?: number }[];
  readonly otherData: { readonly lostExits: number };
}

needsKvm(
  '--timeline=FILE has the boot, each AP from INIT to its first exit, and every exit; volt report reads it',
  async () => {
    using folder = new TemporaryFolder();
    const file = folder.at('boot.json');

    const { exitCode, stderr } = await runVolt(['--cpus', '3', '--memory', '64M', `--timeline=${file}`]);
    const report = await runVolt(['report', file]);

    const { traceEvents, otherData } = (await Bun.file(file).json()) as Trace;
    const names = (ph: string, tid: number) =>
      traceEvents.filter((event) => event.ph === ph && event.tid === tid).map(({ name }) => name);
    expect([exitCode, stderr]).toEqual([0, '']);
    expect(otherData.lostExits).toBe(0);
    expect(names('X', 1)).toContain('vCPUs made');
    for (const lane of [11, 12]) expect(names('i', lane)).toEqual(['INIT', 'SIPI', 'online: first exit']);
    expect(names('X', 10).filter((name) => name === 'io out 0x3f8').length).toBeGreaterThan(100);
    expect(traceEvents.some(({ ph, name }) => ph === 'C' && name === 'vCPU 0 %')).toBe(true);
    expect(report.exitCode).toBe(0);
    expect(report.stdout).toMatch(
      /PHASES\n[^]*kernel loaded\n[^]*APS .*FIRST EXIT\nvCPU 1 [^]*EXITS\n[^]*io out 0x3f8/,
    );
  },
);

needsKvm('volt ctl trace records a guest that runs, which goes on, twice at the same time', async () => {
  await using guest = await new BeatingVolt(['--cpus', '2']).beating();
  const file = await guest.folder.write('run.json', 'an older one');
  const other = guest.folder.at('other.json');

  const [first, second] = await Promise.all([
    guest.ctl('trace', '3', file, '--json'),
    guest.ctl('trace', '2', other, '--json'),
  ]);
  const status = await guest.ctl('status', '--json');

  const { traceEvents } = (await Bun.file(file).json()) as Trace;
  const beats = traceEvents.filter(({ name }) => name === 'io out 0x3f8');
  expect([first.exitCode, second.exitCode]).toEqual([0, 0]);
  expect((JSON.parse(first.stdout) as { exits: number }).exits).toBeGreaterThan(0);
  expect(beats.length).toBeGreaterThan(10);
  expect(((await Bun.file(other).json()) as Trace).traceEvents.length).toBeGreaterThan(0);
  expect(readdirSync(guest.folder.path).filter((name) => name.includes('tmp-'))).toEqual([]);
  expect(JSON.parse(status.stdout)).toMatchObject({ state: 'running' });
});

needsKvm('what cannot be traced or reported on is refused in one line', async () => {
  const unwritable = await runVolt(['--timeline=/proc/nothing/x.json', '--memory', '64M']);
  const missing = await runVolt(['report', '/nonexistent']);

  expect(unwritable.stderr).toMatch(
    /^volt: Cannot write --timeline=\/proc\/nothing\/x\.json: ENOENT; [^\n]+\n$/,
  );
  expect(missing.stderr).toMatch(/^volt: Cannot report on \/nonexistent: [^\n]+\n$/);
});
