/**
 * The beginning of a core file: header, segments, notes. All of RAM follows it, region by region, with holes where a page
 * is zero. Pure.
 */
import { alignUp, PAGE_BYTES } from '../machine/address.ts';
import { putAscii, putU64, viewOf } from '../binary/bytes.ts';
import {
  CORE_HEADER,
  CORE_IDENT,
  CORE_MACHINE,
  CORE_TYPE,
  MAX_SEGMENTS,
  NOTE,
  SEGMENT_FLAGS,
  SEGMENT_HEADER,
  SEGMENT_TYPE,
} from './core.layout.ts';
import type { Mapping } from './mappings.ts';

/** A range of RAM, and where it starts in all of RAM. */
export interface CoreRegion {
  readonly address: number;
  readonly bytes: number;
  readonly offset: number;
}

export interface CoreNote {
  readonly name: string;
  readonly type: number;
  readonly data: Uint8Array;
}

export interface CoreFile {
  /** What the file begins with; RAM follows at this length. */
  readonly head: Uint8Array;
  readonly segments: number;
}

interface CoreSegment {
  readonly linear: bigint;
  readonly physical: number;
  readonly bytes: number;
  /** In all of RAM. */
  readonly offset: number;
}

/**
 * One segment for each piece of a mapping that is in RAM, and for each region of RAM of which no byte is mapped. With no
 * mappings, without paging, linear addresses are physical.
 */
export function buildCore(
  regions: readonly CoreRegion[],
  mappings: readonly Mapping[] | undefined,
  notes: readonly CoreNote[],
): CoreFile {
  const segments = segmentsOf(regions, mappings);
  const encoded = Buffer.concat(notes.map(encodeNote));
  const notesAt = CORE_HEADER.size + (segments.length + 1) * SEGMENT_HEADER.size;
  const head = new Uint8Array(alignUp(notesAt + encoded.length, PAGE_BYTES));
  const view = viewOf(head);
  putHeader(view, segments.length + 1);
  const note = { type: SEGMENT_TYPE.note, flags: 0, offset: notesAt, bytes: encoded.length };
  putSegment(view, 0, { ...note, linear: 0n, physical: 0, align: 4 });
  segments.forEach((segment, i) =>
    putSegment(view, i + 1, {
      ...segment,
      ...{ type: SEGMENT_TYPE.load, flags: SEGMENT_FLAGS, align: PAGE_BYTES },
      offset: head.length + segment.offset,
    }),
  );
  head.set(encoded, notesAt);
  return { head, segments: segments.length };
}

function segmentsOf(
  regions: readonly CoreRegion[],
  mappings: readonly Mapping[] | undefined,
): readonly CoreSegment[] {
  const identity = (each: CoreRegion) => ({ ...each, linear: BigInt(each.address), physical: each.address });
  if (!mappings) return regions.map(identity);
  const mapped = mappings.flatMap((mapping) => piecesIn(regions, mapping));
  // Whoever reads by physical addresses, as crash does, finds all of RAM.
  const whole = regions.filter((region) => !isCovered(region, mapped)).map(identity);
  return [...whole, ...longest(mapped, MAX_SEGMENTS - 1 - whole.length)];
}

function piecesIn(regions: readonly CoreRegion[], { linear, physical, bytes }: Mapping): CoreSegment[] {
  return regions.flatMap((region) => {
    const start = Math.max(physical, region.address);
    const end = Math.min(physical + bytes, region.address + region.bytes);
    if (end <= start) return [];
    const offset = region.offset + (start - region.address);
    return [{ linear: linear + BigInt(start - physical), physical: start, bytes: end - start, offset }];
  });
}

/** Whether one segment has all of the region, as Linux's direct map has. */
function isCovered({ address, bytes }: CoreRegion, segments: readonly CoreSegment[]): boolean {
  return segments.some(
    ({ physical, bytes: size }) => physical <= address && address + bytes <= physical + size,
  );
}

/** In their order, but without the shortest if there are more than `most`. */
function longest(segments: readonly CoreSegment[], most: number): readonly CoreSegment[] {
  if (segments.length <= most) return segments;
  const kept = new Set(segments.toSorted((a, b) => b.bytes - a.bytes).slice(0, most));
  return segments.filter((segment) => kept.has(segment));
}

function putHeader(view: DataView, segments: number): void {
  CORE_IDENT.forEach((byte, i) => view.setUint8(i, byte));
  view.setUint16(CORE_HEADER.type, CORE_TYPE, true);
  view.setUint16(CORE_HEADER.machine, CORE_MACHINE, true);
  view.setUint32(CORE_HEADER.version, 1, true);
  putU64(view, CORE_HEADER.phoff, CORE_HEADER.size);
  view.setUint16(CORE_HEADER.ehsize, CORE_HEADER.size, true);
  view.setUint16(CORE_HEADER.phentsize, SEGMENT_HEADER.size, true);
  view.setUint16(CORE_HEADER.phnum, segments, true);
}

interface SegmentFields extends CoreSegment {
  readonly type: number;
  readonly flags: number;
  readonly align: number;
}

function putSegment(view: DataView, index: number, segment: SegmentFields): void {
  const at = CORE_HEADER.size + index * SEGMENT_HEADER.size;
  view.setUint32(at + SEGMENT_HEADER.type, segment.type, true);
  view.setUint32(at + SEGMENT_HEADER.flags, segment.flags, true);
  putU64(view, at + SEGMENT_HEADER.offset, segment.offset);
  view.setBigUint64(at + SEGMENT_HEADER.vaddr, BigInt.asUintN(64, segment.linear), true);
  putU64(view, at + SEGMENT_HEADER.paddr, segment.physical);
  putU64(view, at + SEGMENT_HEADER.filesz, segment.bytes);
  putU64(view, at + SEGMENT_HEADER.memsz, segment.type === SEGMENT_TYPE.load ? segment.bytes : 0);
  putU64(view, at + SEGMENT_HEADER.align, segment.align);
}

/** Name and descriptor are padded to four bytes each. */
function encodeNote({ name, type, data }: CoreNote): Uint8Array {
  const nameBytes = alignUp(name.length + 1, 4);
  const bytes = new Uint8Array(NOTE.size + nameBytes + alignUp(data.length, 4));
  const view = viewOf(bytes);
  view.setUint32(NOTE.namesz, name.length + 1, true);
  view.setUint32(NOTE.descsz, data.length, true);
  view.setUint32(NOTE.type, type, true);
  putAscii(bytes, NOTE.size, name);
  bytes.set(data, NOTE.size + nameBytes);
  return bytes;
}
