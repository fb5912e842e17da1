/** When each phase of a boot happened, for --timeline. */
import { now, VCPU_MOMENT, VM_MOMENT, type SharedState } from './bus/shared-state.ts';

/** A phase of a boot and when it happened. */
export interface TimelineRow {
  readonly phase: string;
  /** Milliseconds since the process started. */
  readonly atMs: number;
}

let origin = performance.timeOrigin;

/** A process of a pool starts when it is taken. */
export function restartTimelines(): void {
  origin = now();
}

/** Milliseconds since the process started, by the vCPU's way into the guest. */
export interface VcpuTimeline {
  readonly index: number;
  readonly bsp: boolean;
  /** In KVM_RUN: the BSP runs, an AP waits for its INIT. */
  readonly readyMs?: number;
  readonly initMs?: number;
  /** The SIPI was processed: the AP executes its first instruction. */
  readonly sipiMs?: number;
  /** First exit to Volt after that: the AP's code has reached a device. */
  readonly firstExitMs?: number;
}

export class Timeline {
  readonly #start = origin;
  readonly #rows: TimelineRow[] = [{ phase: 'process start', atMs: 0 }];

  /** Milliseconds since 1970. */
  get startedAt(): number {
    return this.#start;
  }

  /** What was marked, by name and milliseconds since 1970. */
  phases(): { name: string; at: number }[] {
    return this.#rows.map(({ phase, atMs }) => ({ name: phase, at: this.#start + atMs }));
  }

  mark(phase: string): void {
    this.#rows.push({ phase, atMs: now() - this.#start });
  }

  /** When each vCPU came up, as far as it was noted: INIT and SIPI only with --timeline. */
  vcpus(shared: SharedState, bootCpu: number): VcpuTimeline[] {
    return Array.from({ length: shared.vcpuCount }, (_, index) => {
      const moments = shared.vcpuMoments(index);
      const at = (moment: number) => (moments[moment] ? { atMs: moments[moment] - this.#start } : undefined);
      const noted = {
        readyMs: at(VCPU_MOMENT.entered)?.atMs,
        initMs: at(VCPU_MOMENT.init)?.atMs,
        sipiMs: at(VCPU_MOMENT.started)?.atMs,
        firstExitMs: at(VCPU_MOMENT.firstExit)?.atMs,
      };
      const known = Object.entries(noted).filter(([, ms]) => ms !== undefined);
      return { index, bsp: index === bootCpu, ...Object.fromEntries(known) };
    });
  }

  /** All rows in time order, those that vCPU threads noted in the shared state included. */
  rows(shared: SharedState, bootCpu: number): TimelineRow[] {
    const rows = [...this.#rows];
    const add = (phase: string, moment: number | undefined) => {
      if (moment) rows.push({ phase, atMs: moment - this.#start });
    };
    for (let i = 0; i < shared.vcpuCount; i++) {
      const moments = shared.vcpuMoments(i);
      add(`worker of vCPU ${i} up`, moments[VCPU_MOMENT.workerUp]);
      add(
        i === bootCpu ? 'first guest instruction' : `vCPU ${i} waits for SIPI`,
        moments[VCPU_MOMENT.entered],
      );
      add(`vCPU ${i} received INIT`, moments[VCPU_MOMENT.init]);
      add(`vCPU ${i} started`, moments[VCPU_MOMENT.started]);
    }
    add('first console byte', shared.moments[VM_MOMENT.firstConsoleByte]);
    return rows.sort((a, b) => a.atMs - b.atMs);
  }
}
