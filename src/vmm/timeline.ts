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

export class Timeline {
  readonly #start = origin;
  readonly #rows: TimelineRow[] = [{ phase: 'process start', atMs: 0 }];

  mark(phase: string): void {
    this.#rows.push({ phase, atMs: now() - this.#start });
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
      add(`vCPU ${i} started`, moments[VCPU_MOMENT.started]);
    }
    add('first console byte', shared.moments[VM_MOMENT.firstConsoleByte]);
    return rows.sort((a, b) => a.atMs - b.atMs);
  }
}
