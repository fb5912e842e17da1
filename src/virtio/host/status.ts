/** Status of a virtio device, read from its shared state without stopping the device or its driver. */
import { nameOfSlot } from '../../pci/address.ts';
import {
  DEVICE_WORD,
  QUEUE_COUNTER,
  QUEUE_WORD,
  queueWord,
  type DeviceState,
} from '../transport/device-state.ts';
import { STATUS } from '../transport/mmio.regs.ts';
import type { MachineDevice } from './device-set.ts';
import { featureNames } from './feature-names.ts';

export interface QueueStatus {
  readonly index: number;
  /** Entries as the driver set the queue up; 0 before that. */
  readonly size: number;
  readonly maxSize: number;
  /** Available buffer notifications. A device with a vhost back-end has no counters. */
  readonly kicks?: number;
  /** Descriptor chains processed. */
  readonly chains?: number;
  readonly bytesFromGuest?: number;
  readonly bytesToGuest?: number;
  readonly interrupts?: number;
  /** Requests answered with an error, and lost packets. */
  readonly errors?: number;
}

export interface DeviceStatus {
  readonly id: string;
  readonly kind: string;
  readonly address: number;
  /** Bus, device and function, as lspci writes them; undefined: on MMIO. */
  readonly pci?: string;
  readonly gsi: number;
  /** `reset`: no driver; `starting`: no DRIVER_OK yet; `failed`: DEVICE_NEEDS_RESET or FAILED is set. */
  readonly state: 'reset' | 'starting' | 'running' | 'failed';
  /** Reason of the last failure. */
  readonly failure?: string;
  readonly failures: number;
  /** Negotiated features by the specification's names, in camel case. */
  readonly features: readonly string[];
  readonly queues: readonly QueueStatus[];
}

export function describeDevice({ config, placement, state, failure }: MachineDevice): DeviceStatus {
  const { words } = state;
  return {
    id: config.id,
    kind: config.kind,
    address: placement.address,
    gsi: placement.gsi,
    ...(placement.pciSlot === undefined ? {} : { pci: nameOfSlot(placement.pciSlot) }),
    state: stateOf(Atomics.load(words, DEVICE_WORD.status)),
    ...(failure === undefined ? {} : { failure }),
    failures: Atomics.load(words, DEVICE_WORD.failures),
    features: featureNames(config.kind, [words[DEVICE_WORD.driverLow]!, words[DEVICE_WORD.driverHigh]!]),
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
