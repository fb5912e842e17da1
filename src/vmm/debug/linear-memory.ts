/** A guest's memory by the linear addresses of one of its vCPUs. Only RAM: nothing here reaches a device. */
import { viewOf } from '../../binary/bytes.ts';
import { guestAddress } from '../../machine/address.ts';
import { translate, type PagingRegisters, type ReadEntry } from '../../gdb/page-walk.ts';
import type { GuestMemory } from '../../memory/guest-memory.ts';

/** A piece of a linear range that is contiguous in RAM. */
interface Piece {
  readonly physical: number;
  /** Where it starts in the range. */
  readonly offset: number;
  readonly bytes: number;
}

/** The physical address behind a linear one; undefined where there is no RAM. */
export function physicalOf(memory: GuestMemory, paging: PagingRegisters, linear: bigint): number | undefined {
  return piecesOf(memory, paging, linear, 1)[0]?.physical;
}

/** Up to `bytes` bytes, as many as are mapped to RAM one after the other. */
export function readLinear(
  memory: GuestMemory,
  paging: PagingRegisters,
  linear: bigint,
  bytes: number,
  patch: (physical: number, data: Uint8Array) => void,
): Uint8Array {
  const pieces = piecesOf(memory, paging, linear, bytes);
  const result = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.bytes, 0));
  for (const piece of pieces) {
    const data = memory.read(guestAddress(piece.physical), piece.bytes);
    patch(piece.physical, data);
    result.set(data, piece.offset);
  }
  return result;
}

/** False, with nothing written, unless all of it is mapped to RAM. */
export function writeLinear(
  memory: GuestMemory,
  paging: PagingRegisters,
  linear: bigint,
  data: Uint8Array,
  patch: (physical: number, data: Uint8Array) => void,
): boolean {
  const pieces = piecesOf(memory, paging, linear, data.length);
  if (pieces.reduce((sum, piece) => sum + piece.bytes, 0) < data.length) return false;
  for (const { physical, offset, bytes } of pieces) {
    const part = data.slice(offset, offset + bytes);
    patch(physical, part);
    memory.write(guestAddress(physical), part);
  }
  return true;
}

function piecesOf(memory: GuestMemory, paging: PagingRegisters, linear: bigint, bytes: number): Piece[] {
  const pieces: Piece[] = [];
  const read = entryReader(memory);
  for (let offset = 0; offset < bytes;) {
    const at = translate(BigInt.asUintN(64, linear + BigInt(offset)), paging, read);
    if (!at) break;
    const size = Math.min(bytes - offset, at.bytesLeft, ramBytesFrom(memory, at.physical));
    if (size <= 0) break;
    pieces.push({ physical: at.physical, offset, bytes: size });
    offset += size;
  }
  return pieces;
}

function entryReader(memory: GuestMemory): ReadEntry {
  return (physical, bytes) => {
    if (ramBytesFrom(memory, physical) < bytes) return undefined;
    const entry = viewOf(memory.read(guestAddress(physical), bytes));
    return bytes === 8 ? entry.getBigUint64(0, true) : BigInt(entry.getUint32(0, true));
  };
}

/** Bytes of RAM from this address to the end of its region; 0: there is none. */
function ramBytesFrom({ regions }: GuestMemory, physical: number): number {
  const region = regions.find(({ address, bytes }) => physical >= address && physical < address + bytes);
  return region ? region.address + region.bytes - physical : 0;
}
