/**
 * Records what a guest's vCPUs do: their threads note each exit in a ring (trace/ring.layout.ts), which the main thread
 * empties, and the main thread samples counters of threads and devices.
 */
import { TWO_POW_32 } from '../../binary/bytes.ts';
import { MAP, Mapping, PROT } from '../../ffi/mapping.ts';
import { readThreadStat } from '../../ffi/thread-stat.ts';
import {
  takeEvents,
  TRACE_EVENT,
  TRACE_RING,
  viewTraceRing,
  type TraceRing,
} from '../../trace/ring.layout.ts';
import type { TraceCounter, TraceInput, TracePhase, TracedVcpu } from '../../trace/trace-input.ts';
import { describeDevice } from '../../virtio/host/status.ts';
import { now, VCPU_MOMENT, VCPU_WORD, VM_MOMENT } from '../bus/shared-state.ts';
import { exitName } from '../vcpu/exit-report.ts';
import { kick } from '../vcpu/control.ts';
import type { VirtualMachine } from '../virtual-machine.ts';

const PERIOD_MS = 50;
/** A counter is sampled each so many periods. */
const COUNTER_PERIODS = 2;
/** About 60 MB of JSON. */
const MAX_EVENTS = 400_000;

interface Lane {
  readonly index: number;
  readonly ring: TraceRing;
  head: number;
  readonly pieces: Float64Array[];
  runtimeNs: number;
  waitNs: number;
}

/** Of one machine; one recorder at a time. */
export class TraceRecorder implements Disposable {
  readonly #vm: VirtualMachine;
  readonly #startedAt = now();
  readonly #lanes: Lane[];
  readonly #counters: TraceCounter[] = [];
  readonly #chains = new Map<string, number>();
  readonly #timer: ReturnType<typeof setInterval>;
  #events = 0;
  #lost = 0;
  #ticks = 0;
  #sampledAt = now();

  /** May be made before the machine starts, and then sees every exit of vCPUs that have a Worker. */
  constructor(vm: VirtualMachine) {
    this.#vm = vm;
    const { vcpuCount } = vm.shared;
    const mapping = new Mapping({
      bytes: vcpuCount * TRACE_RING.bytes,
      prot: PROT.read | PROT.write,
      flags: MAP.private | MAP.anonymous | MAP.noReserve,
      what: 'the trace of exits',
    });
    // SAFETY: unmapped with the machine, when its threads have left.
    vm.machine.owned.use(mapping);
    this.#lanes = Array.from({ length: vcpuCount }, (_, index) => {
      const ring = viewTraceRing(mapping.view(index * TRACE_RING.bytes, TRACE_RING.bytes));
      this.#tell(index, mapping.address + index * TRACE_RING.bytes);
      return { index, ring, head: 0, pieces: [], runtimeNs: 0, waitNs: 0 };
    });
    // Their threads look at the words after a kick, or when they start.
    for (const vcpu of vm.vcpus) kick(vcpu);
    this.#timer = setInterval(() => this.#tick(), PERIOD_MS);
    this.#timer.unref();
    this.#sample();
    this.#counters.length = 0;
  }

  /** Ends the recording; what was recorded so far stays. */
  [Symbol.dispose](): void {
    clearInterval(this.#timer);
    for (const { index } of this.#lanes) this.#tell(index, 0);
    for (const vcpu of this.#vm.vcpus) kick(vcpu);
    this.#drain();
  }

  /** What was recorded from `from`, or from the recorder's beginning, until now. `phases`: of the machine's boot. */
  result(phases: readonly TracePhase[] = [], from: number = this.#startedAt): TraceInput {
    this.#drain();
    const { config, plan, shared } = this.#vm;
    const vcpus = this.#lanes
      .filter(({ index }) => this.#vm.machine.vcpus.all[index] !== undefined)
      .map(({ index, pieces }): TracedVcpu => {
        const moments = shared.vcpuMoments(index);
        return {
          index,
          apicId: plan.cpus[index]!.apicId,
          isBsp: index === config.bootCpu,
          enteredAt: moments[VCPU_MOMENT.entered]!,
          initAt: moments[VCPU_MOMENT.init]!,
          sipiAt: moments[VCPU_MOMENT.started]!,
          exits: joinPieces(pieces),
        };
      });
    return {
      ...{ from, until: now(), phases, vcpus, counters: this.#counters, lost: this.#lost, exitName },
      firstConsoleByteAt: shared.moments[VM_MOMENT.firstConsoleByte]!,
    };
  }

  #tell(index: number, address: number): void {
    const words = this.#vm.shared.vcpuWords(index);
    Atomics.store(words, VCPU_WORD.trace, (address % TWO_POW_32) | 0);
    Atomics.store(words, VCPU_WORD.trace + 1, Math.floor(address / TWO_POW_32) | 0);
  }

  #tick(): void {
    this.#drain();
    if (++this.#ticks % COUNTER_PERIODS === 0) this.#sample();
  }

  #drain(): void {
    for (const lane of this.#lanes) {
      const { events, lost, head } = takeEvents(lane.ring, lane.head);
      lane.head = head;
      this.#lost += lost;
      const room = MAX_EVENTS - this.#events;
      const kept = events.subarray(0, room * TRACE_EVENT.size);
      this.#lost += (events.length - kept.length) / TRACE_EVENT.size;
      this.#events += kept.length / TRACE_EVENT.size;
      if (kept.length > 0) lane.pieces.push(kept);
    }
  }

  /** How much of a host CPU each vCPU had and waited for, and what each device processed, since the last time. */
  #sample(): void {
    const at = now();
    const elapsedNs = (at - this.#sampledAt) * 1e6;
    this.#sampledAt = at;
    for (const { index, words } of this.#vm.vcpus) {
      const lane = this.#lanes[index]!;
      const stat = readThreadStat(Atomics.load(words, VCPU_WORD.threadId));
      if (!stat) continue;
      const { runtimeNs, waitNs = 0 } = stat;
      const percent = (ns: number) => Math.max(0, Math.min(100, Math.round((100 * ns) / elapsedNs)));
      const values = { cpu: percent(runtimeNs - lane.runtimeNs), steal: percent(waitNs - lane.waitNs) };
      Object.assign(lane, { runtimeNs, waitNs });
      this.#counters.push({ at, name: `vCPU ${index} %`, values });
    }
    for (const device of this.#vm.devices) {
      const { id, queues } = describeDevice(device);
      const chains = queues.reduce((sum, queue) => sum + (queue.chains ?? 0), 0);
      const before = this.#chains.get(id) ?? chains;
      this.#chains.set(id, chains);
      this.#counters.push({ at, name: `${id} requests`, values: { requests: Math.max(0, chains - before) } });
    }
  }
}

function joinPieces(pieces: readonly Float64Array[]): Float64Array {
  const all = new Float64Array(pieces.reduce((sum, piece) => sum + piece.length, 0));
  let at = 0;
  for (const piece of pieces) {
    all.set(piece, at);
    at += piece.length;
  }
  return all;
}
