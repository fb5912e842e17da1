/** Builds the configuration space of a function as it is at reset, with the bits that software can write. */
import { viewOf } from '../binary/bytes.ts';
import { MAX_VECTORS, type FunctionShape } from './function-state.ts';
import {
  BAR_MEMORY_64,
  CAPABILITY_ID,
  COMMAND,
  CONFIG,
  MSIX_CAPABILITY,
  MSIX_CONTROL,
  STATUS,
} from './regs.ts';

export interface FunctionIdentity {
  readonly vendorId: number;
  readonly deviceId: number;
  readonly revision: number;
  /** Base class, sub-class and programming interface as one number of 24 bits. */
  readonly classCode: number;
  readonly subsystemVendorId?: number;
  readonly subsystemId?: number;
}

/** A capability behind its two header bytes, and the bytes of it that software can write. */
export interface Capability {
  readonly id: number;
  /** Without the bytes for id and next pointer. */
  readonly body: Uint8Array;
  /** Writable bits of `body`. */
  readonly writable?: Uint8Array;
}

export interface FunctionInputs {
  readonly identity: FunctionIdentity;
  /** Size of BAR 0, a 64-bit memory BAR; a power of two. undefined: no BAR. */
  readonly barBytes?: number;
  readonly capabilities?: readonly Capability[];
  /** Entries of the MSI-X table. */
  readonly vectors?: number;
  /** Interrupt pin, 1 for INTA#; 0: the function uses none. */
  readonly interruptPin?: number;
}

export interface BuiltFunction extends FunctionShape {
  /** Offset of each capability, in their order. */
  readonly capabilityOffsets: readonly number[];
}

export function buildFunction({
  identity,
  barBytes,
  capabilities = [],
  vectors = 0,
  interruptPin = 0,
}: FunctionInputs): BuiltFunction {
  const initial = new Uint8Array(CONFIG.size);
  const writable = new Uint8Array(CONFIG.size);
  const [space, masks] = [viewOf(initial), viewOf(writable)];
  space.setUint16(CONFIG.vendorId, identity.vendorId, true);
  space.setUint16(CONFIG.deviceId, identity.deviceId, true);
  space.setUint32(CONFIG.revisionId, ((identity.classCode << 8) | identity.revision) >>> 0, true);
  space.setUint16(CONFIG.subsystemVendorId, identity.subsystemVendorId ?? 0, true);
  space.setUint16(CONFIG.subsystemId, identity.subsystemId ?? 0, true);
  masks.setUint16(CONFIG.command, COMMAND.parityResponseBit | COMMAND.serrEnableBit, true);
  masks.setUint8(CONFIG.cacheLineSize, 0xff);
  masks.setUint8(CONFIG.interruptLine, 0xff);
  space.setUint8(CONFIG.interruptPin, interruptPin);
  if (barBytes !== undefined) {
    space.setUint32(CONFIG.bar0, BAR_MEMORY_64, true);
    masks.setUint32(CONFIG.bar0, ~(barBytes - 1) >>> 0, true);
    masks.setUint32(CONFIG.bar0 + 4, 0xffff_ffff, true);
    const bits = COMMAND.memorySpaceBit | COMMAND.busMasterBit | COMMAND.interruptDisableBit;
    masks.setUint16(CONFIG.command, masks.getUint16(CONFIG.command, true) | bits, true);
  }
  const capabilityOffsets = placeCapabilities(capabilities, initial, writable);
  return {
    initial: new Uint32Array(initial.buffer),
    writable: new Uint32Array(writable.buffer),
    vectors,
    capabilityOffsets,
  };
}

/** Links the capabilities, each aligned to a double word. (PCI 3.0 §6.7) */
function placeCapabilities(
  capabilities: readonly Capability[],
  initial: Uint8Array,
  writable: Uint8Array,
): number[] {
  let at: number = CONFIG.header;
  let pointer: number = CONFIG.capabilities;
  const offsets = capabilities.map(({ id, body, writable: bits }) => {
    const end = at + 2 + body.length;
    if (end > CONFIG.size)
      throw new RangeError(
        `Cannot place a PCI capability of ${body.length + 2} bytes at ${at} (expected at most ${CONFIG.size} bytes)`,
      );
    initial[pointer] = at;
    initial[at] = id;
    initial.set(body, at + 2);
    if (bits) writable.set(bits, at + 2);
    const offset = at;
    pointer = at + 1;
    at = (end + 3) & ~3;
    return offset;
  });
  if (capabilities.length > 0) initial[CONFIG.status] = STATUS.capabilitiesListBit;
  return offsets;
}

/** The MSI-X capability, with table and PBA at these offsets of BAR 0. (PCI Express 5.0 §7.7.2) */
export function msixCapability(vectors: number, tableOffset: number, pbaOffset: number): Capability {
  if (vectors < 1 || vectors > MAX_VECTORS)
    throw new RangeError(`Cannot build an MSI-X table of ${vectors} vectors (expected 1 to ${MAX_VECTORS})`);
  const body = new Uint8Array(MSIX_CAPABILITY.size - 2);
  const writable = new Uint8Array(body.length);
  const view = viewOf(body);
  view.setUint16(MSIX_CAPABILITY.control - 2, vectors - 1, true);
  view.setUint32(MSIX_CAPABILITY.table - 2, tableOffset, true);
  view.setUint32(MSIX_CAPABILITY.pba - 2, pbaOffset, true);
  const bits = MSIX_CONTROL.functionMaskBit | MSIX_CONTROL.enableBit;
  viewOf(writable).setUint16(MSIX_CAPABILITY.control - 2, bits, true);
  return { id: CAPABILITY_ID.msix, body, writable };
}
