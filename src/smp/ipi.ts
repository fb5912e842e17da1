/**
 * Interrupts that a user sends to vCPUs, encoded as MSIs. (Intel SDM 3A §11.11, "Message Signalled
 * Interrupts"; delivery modes: §11.6.1)
 */
import { LAYOUT } from '../machine/layout.ts';
import type { Msi } from '../machine/msi.ts';
import { VoltError } from '../volt-error.ts';

/** Delivery modes, as requests name them. */
export const IPI_MODES = ['fixed', 'lowest-priority', 'nmi', 'init', 'sipi', 'extint'] as const;
/** One of IPI_MODES. */
export type IpiMode = (typeof IPI_MODES)[number];

/** A request to send an interrupt. `checkIpiVector` checks that the vector fits the mode. */
export interface IpiRequest {
  /** A vCPU's index, all vCPUs, or all except `except`. */
  readonly destination: number | 'all' | 'all-but';
  readonly except?: number;
  readonly mode: IpiMode;
  /**
   * 16–255 for fixed and lowest priority, 0–255 for SIPI, IRQ 0–15 of the 8259 for ExtINT; none for NMI and
   * INIT.
   */
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
/** Lower vectors are illegal for an APIC, and reported as an error. (SDM 3A §11.5.2) */
const LOWEST_VECTOR = 16;
const PIC_INPUTS = 16;

/** Indices of the vCPUs a request goes to. Throws VoltError 'usage' for one that is not in `present`. */
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

/** Throws VoltError 'usage' if the vector does not fit the delivery mode. */
export function checkIpiVector({ mode, vector }: IpiRequest): void {
  const [low, high] = vectorRange(mode);
  if (high === undefined) {
    if (vector === undefined) return;
    throw new VoltError(
      'usage',
      `Cannot send ${mode}: it takes no vector, but vector ${vector} is given; leave it out`,
    );
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

/** Encodes a checked request for one local APIC, in physical destination mode. */
export function encodeMsi(request: IpiRequest, apicId: number): Msi {
  const level = (request.level ?? true) ? LEVEL_ASSERT_BIT : 0;
  const trigger = request.trigger === 'level' ? TRIGGER_LEVEL_BIT : 0;
  return {
    address: LAYOUT.localApic.address + (apicId & 0xff) * 2 ** DESTINATION_SHIFT,
    // Bits 31–8 of the destination id. (KVM api.rst, KVM_CAP_X2APIC_API)
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
