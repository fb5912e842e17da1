/**
 * Interrupts that Volt sends to vCPUs from outside, as the MSIs that carry them. (Intel SDM 3A §11.11, "Message
 * Signalled Interrupts"; delivery modes: table 11-1 and §11.6.1)
 */
import { LAYOUT } from '../machine/layout.ts';
import type { Msi } from '../machine/msi.ts';
import { VoltError } from '../volt-error.ts';

/** Delivery modes of an interrupt from outside, by their names in requests. */
export const IPI_MODES = ['fixed', 'lowest-priority', 'nmi', 'init', 'sipi', 'extint'] as const;
/** One of IPI_MODES. */
export type IpiMode = (typeof IPI_MODES)[number];

/** An interrupt from outside. Which vectors fit which mode, `checkIpiVector` checks. */
export interface IpiRequest {
  /** Index of a vCPU, all of them, or all but `except`. */
  readonly destination: number | 'all' | 'all-but';
  readonly except?: number;
  readonly mode: IpiMode;
  /** 16–255 for fixed and lowest priority, 0–255 for SIPI, the 8259's input 0–15 for ExtINT; none for NMI and INIT. */
  readonly vector?: number;
  /** Default true, "assert". */
  readonly level?: boolean;
  /** Default 'edge'. */
  readonly trigger?: 'edge' | 'level';
}

const DELIVERY_MODE = { fixed: 0, 'lowest-priority': 1, nmi: 4, init: 5, sipi: 6, extint: 7 } as const;
const DELIVERY_MODE_SHIFT = 8;
const LEVEL_ASSERT_BIT = 1 << 14;
const TRIGGER_LEVEL_BIT = 1 << 15;
const DESTINATION_SHIFT = 12;
/** Vectors below are exceptions; an APIC takes them for an error. (SDM 3A §11.5.2) */
const LOWEST_VECTOR = 16;
const PIC_INPUTS = 16;

/** Which of the vCPUs that are `present` a request goes to. Throws VoltError 'usage' for one that is not there. */
export function ipiTargets(request: IpiRequest, present: readonly number[]): readonly number[] {
  const { destination, except } = request;
  if (destination === 'all') return present;
  if (destination === 'all-but') {
    checkIndex(except, present, 'except');
    return present.filter((index) => index !== except);
  }
  checkIndex(destination, present, 'destination');
  return [destination];
}

/** Throws VoltError 'usage' when the vector does not fit the mode. */
export function checkIpiVector({ mode, vector }: IpiRequest): void {
  const [low, high] = vectorRange(mode);
  if (high === undefined) {
    if (vector === undefined) return;
    throw new VoltError('usage', `Cannot send ${mode}: vector ${vector} was given (expected none)`);
  }
  if (vector === undefined || !Number.isInteger(vector) || vector < low || vector > high) {
    throw new VoltError(
      'usage',
      `Cannot send ${mode}: vector is ${vector ?? 'missing'} (expected ${low} to ${high})`,
    );
  }
}

function vectorRange(mode: IpiMode): readonly [number, number | undefined] {
  switch (mode) {
    case 'fixed':
    case 'lowest-priority':
      return [LOWEST_VECTOR, 255];
    case 'sipi':
      return [0, 255];
    case 'extint':
      return [0, PIC_INPUTS - 1];
    default:
      return [0, undefined];
  }
}

/** The message that delivers a checked request to one APIC by its physical id. */
export function encodeMsi(request: IpiRequest, apicId: number): Msi {
  const level = (request.level ?? true) ? LEVEL_ASSERT_BIT : 0;
  const trigger = request.trigger === 'level' ? TRIGGER_LEVEL_BIT : 0;
  return {
    address: LAYOUT.localApic.address + (apicId & 0xff) * 2 ** DESTINATION_SHIFT,
    // As in an interrupt remapped for x2APIC: the upper 24 bits of the id where they stand. (KVM api.rst, KVM_SIGNAL_MSI)
    addressHigh: (apicId & ~0xff) >>> 0,
    data: (request.vector ?? 0) | (DELIVERY_MODE[request.mode] << DELIVERY_MODE_SHIFT) | level | trigger,
  };
}

function checkIndex(
  index: number | undefined,
  present: readonly number[],
  name: string,
): asserts index is number {
  if (index !== undefined && present.includes(index)) return;
  throw new VoltError(
    'usage',
    `Cannot send an interrupt: ${name} is ${index ?? 'missing'} (expected a vCPU from 0 to ${present.at(-1)})`,
  );
}
