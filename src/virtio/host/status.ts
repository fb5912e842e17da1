/** What a virtio device and its driver are at, read from their shared state without disturbing either. */
import {
  DEVICE_WORD,
  driverHasFeature,
  QUEUE_COUNTER,
  QUEUE_WORD,
  queueWord,
  type DeviceState,
} from '../transport/device-state.ts';
import { FEATURE, STATUS } from '../transport/mmio.regs.ts';
import type { MachineDevice } from './device-set.ts';
import { SPECS } from './specs.ts';

export interface QueueStatus {
  readonly index: number;
  /** Entries: as the driver set it up, 0 before that, and at most. */
  readonly size: number;
  readonly maxSize: number;
  /** These are not there for a device that another process serves, past Volt. */
  readonly kicks?: number;
  /** Requests served. */
  readonly chains?: number;
  readonly bytesFromGuest?: number;
  readonly bytesToGuest?: number;
  readonly interrupts?: number;
  /** Requests that were answered with an error, packets that were lost. */
  readonly errors?: number;
}

export interface DeviceStatus {
  readonly id: string;
  readonly kind: string;
  readonly address: number;
  readonly gsi: number;
  /** `reset`: no driver; `starting`: one that is not ready; `failed`: it needs a reset. */
  readonly state: 'reset' | 'starting' | 'running' | 'failed';
  /** Why it failed last. */
  readonly failure?: string;
  readonly failures: number;
  /** Agreed on with the driver, by the names of the specification in camel case. */
  readonly features: readonly string[];
  readonly queues: readonly QueueStatus[];
}

const FEATURE_BITS = 64;

export function describeDevice({ config, placement, state, failure }: MachineDevice): DeviceStatus {
  const { words } = state;
  const names: Readonly<Record<string, number>> = {
    ...FEATURE,
    ...SPECS[config.kind].featureBits,
  };
  const nameOf = new Map(Object.entries(names).map(([name, bit]) => [bit, name]));
  const bits = Array.from({ length: FEATURE_BITS }, (_, bit) => bit);
  return {
    id: config.id,
    kind: config.kind,
    address: placement.address,
    gsi: placement.gsi,
    state: stateOf(Atomics.load(words, DEVICE_WORD.status)),
    ...(failure === undefined ? {} : { failure }),
    failures: Atomics.load(words, DEVICE_WORD.failures),
    features: bits.filter((bit) => driverHasFeature(words, bit)).map((bit) => nameOf.get(bit) ?? `bit${bit}`),
    queues: Array.from({ length: state.queueCount }, (_, index) => {
      return {
        index,
        size: words[queueWord(index, QUEUE_WORD.ready)] ? words[queueWord(index, QUEUE_WORD.size)]! : 0,
        maxSize: words[queueWord(index, QUEUE_WORD.sizeMax)]!,
        ...(words[DEVICE_WORD.servedByBackend] === 0 ? countersOf(state, index) : {}),
      };
    }),
  };
}

function countersOf({ counters }: DeviceState, queue: number) {
  const at = queue * QUEUE_COUNTER.size;
  return {
    kicks: counters[at + QUEUE_COUNTER.kicks]!,
    chains: counters[at + QUEUE_COUNTER.chains]!,
    bytesFromGuest: counters[at + QUEUE_COUNTER.bytesOut]!,
    bytesToGuest: counters[at + QUEUE_COUNTER.bytesIn]!,
    interrupts: counters[at + QUEUE_COUNTER.interrupts]!,
    errors: counters[at + QUEUE_COUNTER.errors]!,
  };
}

function stateOf(status: number): DeviceStatus['state'] {
  if (status === 0) return 'reset';
  if (status & (STATUS.needsResetBit | STATUS.failedBit)) return 'failed';
  return status & STATUS.driverOkBit ? 'running' : 'starting';
}
