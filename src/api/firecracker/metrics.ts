/** Counts what Firecracker's metrics count, and writes them to their file or FIFO. */
import { writeSync } from 'node:fs';
import type { VmControl } from '../vm-control.ts';
import { openOutput } from './logger.ts';
import { ActionFault } from './model/fault.ts';
import { formatMetrics, MetricsDelta, type LatencyNames, type SignalCounter } from './model/metrics.ts';
import { describeOsError } from './os-error.ts';
import type { MetricsBody } from './request/bodies.ts';
import type { ApiCounter } from './request/counters.ts';

/** Time between two lines. */
const PERIOD_MS = 60_000;

export class Metrics {
  readonly #id: string;
  readonly #startupUs: { readonly wall: number; readonly cpu: number };
  readonly #counts = new Map<ApiCounter, number>();
  readonly #delta = new MetricsDelta();
  readonly latencies: LatencyNames = {
    full_create_snapshot: 0,
    diff_create_snapshot: 0,
    load_snapshot: 0,
    pause_vm: 0,
    resume_vm: 0,
  };
  readonly #signals: Partial<Record<SignalCounter, number>> = {};
  #fd: number | undefined;
  #emitId = false;
  #properties: Readonly<Record<string, string>> | undefined;
  #control: VmControl | undefined;
  #missed = 0;
  readonly #missedLogs: () => number;

  constructor(
    id: string,
    startupUs: { readonly wall: number; readonly cpu: number },
    missedLogs: () => number,
  ) {
    this.#id = id;
    this.#startupUs = startupUs;
    this.#missedLogs = missedLogs;
  }

  countSignal(counter: SignalCounter): void {
    this.#signals[counter] = (this.#signals[counter] ?? 0) + 1;
  }

  count(counter: ApiCounter): void {
    this.#counts.set(counter, (this.#counts.get(counter) ?? 0) + 1);
  }

  /** Throws ActionFault. */
  configure(body: MetricsBody): void {
    const refuse = (why: string) =>
      new ActionFault(`Metrics error: Cannot initialize the metrics system due to bad user input: ${why}`);
    let fd: number;
    try {
      fd = openOutput(body.metrics_path);
    } catch (error) {
      throw refuse(describeOsError(error));
    }
    if (this.#fd !== undefined) throw refuse('Reinitialization of metrics not allowed.');
    this.#fd = fd;
    this.#emitId = body.emit_id;
    this.#properties = body.properties ?? undefined;
  }

  /** The guest runs: writes the first line, and then one a minute. */
  start(control: VmControl): void {
    this.#control = control;
    this.flush();
    setInterval(() => this.flush(), PERIOD_MS).unref();
  }

  /** Writes a line, if there is a file. */
  flush(): void {
    if (this.#fd === undefined) return;
    const vcpus = this.#control?.vcpus() ?? [];
    const exits: Record<string, number> = {};
    for (const vcpu of vcpus)
      for (const [reason, count] of Object.entries(vcpu.exits)) exits[reason] = (exits[reason] ?? 0) + count;
    const line = formatMetrics(
      {
        timestampMs: Date.now(),
        id: this.#emitId ? this.#id : undefined,
        properties: this.#properties,
        startupUs: this.#startupUs,
        counts: this.#counts,
        latencies: this.latencies,
        missedLogs: this.#missedLogs(),
        missedMetrics: this.#missed,
        devices: this.#control?.devices() ?? [],
        exits,
        signals: this.#signals,
      },
      this.#delta,
    );
    try {
      writeSync(this.#fd, line);
    } catch {
      this.#missed++;
    }
  }
}
