/**
 * Measures Volt against its peers, all in the same run, and writes a report.
 *
 * Usage: npx bun bench/main.ts [--quick] [--output DIR] [--keep] [ID...]
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { availableParallelism, cpus, loadavg, release, tmpdir, totalmem } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import type { Context, Findings, Measurement } from './measurement.ts';
import { readSections, replaceSections, writeReport, type Section } from './report.ts';
import { apBringUp } from './rows/ap-bring-up.ts';
import { apiStart } from './rows/api-start.ts';
import { consoleOutput } from './rows/console.ts';
import { density } from './rows/density.ts';
import { exitCost } from './rows/exit-cost.ts';
import { growth } from './rows/growth.ts';
import { kernelLoad } from './rows/kernel-load.ts';
import { latency } from './rows/latency.ts';
import { linuxBoot } from './rows/linux-boot.ts';
import { linuxDisk } from './rows/linux-disk.ts';
import { linuxNet } from './rows/linux-net.ts';
import { linuxSmp } from './rows/linux-smp.ts';
import { startAccount } from './rows/start-account.ts';
import { snapshot } from './rows/snapshot.ts';
import { tiny } from './rows/tiny-guest.ts';
import { findVmms } from './vmms.ts';

const MEASUREMENTS: readonly Measurement[] = [
  tiny,
  apiStart,
  startAccount,
  growth,
  exitCost,
  consoleOutput,
  kernelLoad,
  apBringUp,
  latency,
  density,
  snapshot,
  linuxBoot,
  linuxSmp,
  linuxDisk,
  linuxNet,
];

const HELP = `Usage: npm run bench -- [--quick] [--output DIR] [--keep] [ID...]

  --quick       few runs, under two minutes: shows that the bench works, not who is faster
  --output DIR  where report.md, report.json and the charts go (default: build/bench)
  --keep        with IDs: the report in DIR keeps its other measurements
  ID            measure only these: ${MEASUREMENTS.map(({ id }) => id).join(', ')}

Peers are found on the PATH; VOLT_BENCH_QEMU, VOLT_BENCH_FIRECRACKER, VOLT_BENCH_CLOUD_HYPERVISOR and
VOLT_BENCH_KVMTOOL name others. VOLT_BENCH_VOLT names another build of Volt, VOLT_BENCH_BASELINE one to compare with.
`;

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    options: {
      quick: { type: 'boolean', default: false },
      keep: { type: 'boolean', default: false },
      output: { type: 'string', default: resolve(import.meta.dir, '../build/bench') },
      help: { type: 'boolean', default: false },
    },
    allowPositionals: true,
  });
  if (values.help) {
    process.stdout.write(HELP);
    return 0;
  }
  const unknown = positionals.find((id) => !MEASUREMENTS.some((measurement) => measurement.id === id));
  if (unknown !== undefined) throw new Error(`Cannot measure ${unknown} (expected one of those in --help)`);
  const chosen = MEASUREMENTS.filter(({ id }) => positionals.length === 0 || positionals.includes(id));

  const { vmms, missing } = findVmms();
  if (vmms[0]?.id !== 'volt') throw new Error('Cannot find ./volt: it is not built; run: npm run build');
  const log = (line: string) => process.stderr.write(`${line}\n`);
  const date = new Date().toISOString().slice(0, 16).replace('T', ' ');
  const folder = mkdtempSync(join(tmpdir(), 'volt-bench-'));
  const loadAtStart = loadavg()[0]!;
  const sections: Section[] = [];
  let broken = 0;
  try {
    for (const measurement of chosen) {
      log(`== ${measurement.title}`);
      const findings = await runOne(measurement, { vmms, quick: values.quick, folder, log });
      if (findings.broken) broken++;
      const { id, title, method, whenMissed } = measurement;
      sections.push({ date, measurement: { id, title, method, whenMissed }, findings });
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  const page = writeReport(
    {
      date,
      quick: values.quick,
      host: {
        cpu: cpus()[0]?.model ?? 'unknown',
        cpus: availableParallelism(),
        memoryGib: Math.round(totalmem() / 2 ** 30),
        kernel: release(),
        load: [loadAtStart, loadavg()[0]!],
      },
      versions: vmms.map(({ name, version }) => ({ name, version })),
      missing,
      sections: values.keep ? replaceSections(readSections(resolve(values.output)), sections) : sections,
    },
    resolve(values.output),
  );
  log(`report: ${page}`);
  return broken === 0 ? 0 : 1;
}

/** A measurement that fails is reported as failed; the others are kept. */
async function runOne(measurement: Measurement, context: Context): Promise<Findings & { broken: boolean }> {
  try {
    return { ...(await measurement.run(context)), broken: false };
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    context.log(`bench: ${reason}`);
    return { comparisons: [], figures: [], skipped: [`it broke: ${reason}`], broken: true };
  }
}

try {
  process.exit(await main());
} catch (error) {
  process.stderr.write(`bench: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exit(1);
}
