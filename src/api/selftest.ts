/** Boots the embedded kernel with increasing numbers of vCPUs and collects its reports. */
import * as v from 'valibot';
import { ConsolePump } from '../vmm/serial/pump.ts';
import { VmControl } from './vm-control.ts';
import { parseConfig } from '../config/config.ts';
import { VirtualMachine } from '../vmm/virtual-machine.ts';

const REPORT_LIMIT_BYTES = 1024 * 1024;
const MEMORY_MIB = 256;

/** The part of the kernel's JSON report that the table shows. Checked, because a guest wrote it. */
const ReportSchema = v.object({
  verdict: v.picklist(['pass', 'fail']),
  failures: v.array(v.string()),
  cpus: v.object({ online: v.number() }),
  agree: v.boolean(),
  ping: v.object({ roundTrip: v.object({ meanNs: v.number() }) }),
  job: v.object({ speedup: v.number() }),
  /** Missing if the host's KVM does not count steal time. */
  host: v.optional(v.object({ stealUs: v.number() })),
  timeUs: v.object({ done: v.number() }),
});

/** The host counts as busy with other work when vCPU 0 waits for a host CPU for this share of the time. */
const BUSY_HOST_PERCENT = 25;
/** On a busy host a guest may take this many times its timeout. */
const BUSY_HOST_TIMEOUTS = 10;

/** Result of one run of the embedded kernel. */
export interface SelftestRow {
  readonly cpus: number;
  readonly passed: boolean;
  /** Why it did not pass. */
  readonly reason: string | undefined;
  readonly online: number;
  readonly tablesAgree: boolean;
  readonly pingMeanUs: number;
  readonly speedup: number;
  /**
   * Share of the time in which vCPU 0 was ready to run without a host CPU; undefined if the host does not
   * count it.
   */
  readonly stealPercent: number | undefined;
  /** If true, a failure may be due to the host's load. */
  readonly busyHost: boolean;
  /** From the first file opened to the last vCPU stopped. */
  readonly wallMs: number;
}

/** 1, 2, 4, … and `most` itself. */
export function selftestCounts(most: number): number[] {
  const counts: number[] = [];
  for (let count = 1; count < most; count *= 2) counts.push(count);
  return [...counts, most];
}

/** Runs one guest; `quick` shortens its measurements. Stops it after `timeoutMs`, or later on a busy host. */
export async function selftest(cpus: number, quick: boolean, timeoutMs: number): Promise<SelftestRow> {
  const started = performance.now();
  const { config } = parseConfig({
    'boot-source': { boot_args: quick ? 'json quick' : 'json' },
    'machine-config': { vcpu_count: cpus, mem_size_mib: MEMORY_MIB },
  });
  using vm = new VirtualMachine(config);
  const output: Uint8Array[] = [];
  let bytes = 0;
  const sink = (piece: Uint8Array) => {
    bytes += piece.length;
    if (bytes <= REPORT_LIMIT_BYTES) output.push(piece.slice());
    return piece.length;
  };
  const pump = new ConsolePump(vm.shared, sink, () => {});
  void pump.run();
  vm.start();
  const late = await waitForEnd(vm, timeoutMs);
  const end = await vm.ended;
  await pump.finish(() => vm.flushConsole());
  const wallMs = performance.now() - started;
  const counts = { online: 0, tablesAgree: false, pingMeanUs: 0, speedup: 0 };
  const nothing = { cpus, passed: false, ...counts, ...judgeHost(late?.stealPercent), wallMs };
  if (late) return { ...nothing, reason: `no verdict after ${late.afterMs / 1000} s` };
  const report = parseReport(Buffer.concat(output).toString('utf8'));
  if (!report) return { ...nothing, reason: end.lines[0] ?? 'the guest ended without a report' };
  const passed = report.verdict === 'pass' && end.exitCode === 0 && report.cpus.online === cpus;
  return {
    cpus,
    passed,
    reason: passed ? undefined : (report.failures[0] ?? end.lines[0] ?? 'verdict and exit code differ'),
    online: report.cpus.online,
    tablesAgree: report.agree,
    pingMeanUs: report.ping.roundTrip.meanNs / 1000,
    speedup: report.job.speedup,
    ...judgeHost(percentOf(report.host?.stealUs, report.timeUs.done)),
    wallMs,
  };
}

interface Lateness {
  readonly afterMs: number;
  readonly stealPercent: number | undefined;
}

/**
 * Waits for the guest's end. Stops it at the timeout, and returns how long it ran and how busy the host was.
 */
async function waitForEnd(vm: VirtualMachine, timeoutMs: number): Promise<Lateness | undefined> {
  const control = new VmControl(vm);
  let late: Lateness | undefined;
  let afterMs = 0;
  const timer = setInterval(() => {
    afterMs += timeoutMs;
    const stealPercent = percentOf(control.vcpus()[0]?.waitNs, afterMs * 1e6);
    if (judgeHost(stealPercent).busyHost && afterMs < BUSY_HOST_TIMEOUTS * timeoutMs) return;
    late = { afterMs, stealPercent };
    clearInterval(timer);
    void vm.stop();
  }, timeoutMs);
  await vm.ended;
  clearInterval(timer);
  return late;
}

function percentOf(part: number | undefined, whole: number): number | undefined {
  return part === undefined ? undefined : Math.min(Math.round((part / whole) * 100), 100);
}

function judgeHost(stealPercent: number | undefined): Pick<SelftestRow, 'stealPercent' | 'busyHost'> {
  return { stealPercent, busyHost: (stealPercent ?? 0) >= BUSY_HOST_PERCENT };
}

function parseReport(text: string): v.InferOutput<typeof ReportSchema> | undefined {
  const line = text.split('\n').findLast((each) => each.startsWith('{'));
  if (line === undefined) return undefined;
  try {
    const result = v.safeParse(ReportSchema, JSON.parse(line));
    return result.success ? result.output : undefined;
  } catch {
    return undefined;
  }
}
