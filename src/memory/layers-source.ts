/**
 * The memory files of a snapshot under guest RAM. Private memory is mapped from the files: a page is read when
 * it is first touched, clones share it in the page cache, and the guest's first write to it makes a copy.
 * Memory of hugetlb pages and of memfds cannot be a private mapping of another file; it is read.
 *
 * No madvise(2): measured with 512 MiB on ext4, MADV_RANDOM made a cold file fifty times slower to read in order
 * and saved little elsewhere, and MADV_HUGEPAGE changed nothing that could be told from noise. Copies of pages are
 * made 4 KiB at a time whatever is advised.
 */
import { fstatSync } from 'node:fs';
import { guardMappedFile } from '../ffi/bus-error.ts';
import { CopyJob, type CopyChunk } from '../ffi/copy-threads.ts';
import { errnoName } from '../ffi/errno.ts';
import { duplicateFd, readToAddress, type OwnedFd } from '../ffi/file.ts';
import type { HostPointer } from '../ffi/libc.ts';
import { MAP, mapMemory, PROT } from '../ffi/mapping.ts';
import { MIB } from '../machine/address.ts';
import {
  flattenLayers,
  intersectRuns,
  uniteRuns,
  type LayerPiece,
  type PageRun,
} from '../machine/page-runs.ts';
import { VoltError } from '../volt-error.ts';
import type { MemoryLayer, OpenMemorySource, SourceTarget, TargetKind } from './memory-source.ts';
import { dataPages } from './touched-pages.ts';

/**
 * Mappings of layers above the first. A process may have 65,530 (vm.max_map_count), and each costs the kernel
 * memory and time; the shortest pieces beyond that are read instead.
 */
const MOST_MAPPED_PIECES = 4096;
const CHUNK_BYTES = 4 * MIB;
const LOST =
  'volt: Cannot continue the guest: a memory file of its snapshot was truncated or cannot be read; restore it from a whole snapshot';
const MOST_THREADS = 8;

export class LayersSource implements OpenMemorySource {
  readonly #layers: readonly MemoryLayer[];
  /** Duplicates of the layers' descriptors. */
  readonly #files: OwnedFd[] = [];
  #pieces: readonly LayerPiece[] = [];
  /** What `load` reads. */
  #unread: readonly SourceTarget[] = [];
  readonly #guards: (() => void)[] = [];
  #mapsFiles = false;

  /** Throws SyscallError for a bad descriptor. */
  constructor(layers: readonly MemoryLayer[]) {
    this.#layers = layers;
    try {
      for (const { fd } of layers) this.#files.push(duplicateFd(fd));
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  get mapsFiles(): boolean {
    return this.#mapsFiles;
  }

  /**
   * Maps the files over RAM where it can be a mapping of them. Throws VoltError 'image' for a file that is too
   * short, and SyscallError.
   */
  attach(targets: readonly SourceTarget[], { hugepages, shared }: TargetKind): void {
    const ramBytes = targets.reduce((sum, { bytes }) => sum + bytes, 0);
    this.#layers.forEach(({ name }, layer) => checkSize(this.#files[layer]!.fd, name, ramBytes));
    this.#pieces = flattenLayers(ramBytes, this.#layers);
    if (hugepages || shared) this.#unread = targets;
    else for (const target of targets) this.#map(target);
    if (this.#unread.length > 0) return;
    this.#mapsFiles = true;
    for (const { host, bytes } of targets) this.#guards.push(guardMappedFile(host, bytes, LOST));
  }

  /** Throws VoltError 'image'. */
  load(threads: number): void {
    const chunks = this.#unread.flatMap((target) => this.#chunksOf(target));
    this.#unread = [];
    if (chunks.length === 0) return;
    using job = new CopyJob(chunks, Math.min(threads, MOST_THREADS));
    job.wait();
    if (job.errno === 0) return;
    const names = this.#layers.map(({ name }) => name).join(', ');
    throw new VoltError(
      'image',
      `Cannot restore the guest's memory: reading ${names} failed: ${errnoName(job.errno)}`,
    );
  }

  #map(target: SourceTarget): void {
    const inTarget = this.#piecesIn(target);
    const above = inTarget.filter(({ layer }) => layer > 0);
    const mapped = longest(above, MOST_MAPPED_PIECES);
    if (inTarget.length > above.length || mapped.size < above.length)
      this.#mapPiece(target, { layer: 0, offset: target.offset, bytes: target.bytes });
    for (const piece of above) {
      if (mapped.has(piece)) this.#mapPiece(target, piece);
      else this.#readPiece(target, piece);
    }
  }

  /** Throws SyscallError. */
  untouchedPages(offset: number, bytes: number): PageRun[] {
    return this.#files
      .map((_, layer) => this.#dataOf(layer, offset, bytes))
      .reduce((all, pages) => uniteRuns(all, pages));
  }

  [Symbol.dispose](): void {
    for (const release of this.#guards.splice(0)) release();
    for (const file of this.#files.splice(0)) file.close();
  }

  #piecesIn({ offset, bytes }: SourceTarget): LayerPiece[] {
    return this.#pieces.flatMap((piece) =>
      intersectRuns([[piece.offset, piece.bytes]], [[offset, bytes]]).map(([start, length]) => ({
        layer: piece.layer,
        offset: start,
        bytes: length,
      })),
    );
  }

  #mapPiece(target: SourceTarget, { layer, offset, bytes }: LayerPiece): void {
    // SAFETY: inside the caller's mapping, which MAP_FIXED replaces.
    mapMemory({
      bytes,
      prot: PROT.read | PROT.write,
      flags: MAP.private | MAP.noReserve | MAP.fixed,
      fd: this.#files[layer]!.fd,
      fileOffset: offset,
      at: (target.host + (offset - target.offset)) as HostPointer,
      what: 'guest RAM of a snapshot',
    });
  }

  #readPiece(target: SourceTarget, { layer, offset, bytes }: LayerPiece): void {
    const host = (target.host + (offset - target.offset)) as HostPointer;
    if (readToAddress(this.#files[layer]!.fd, host, bytes, offset) < bytes)
      throw new VoltError(
        'image',
        `Cannot restore the guest's memory: ${this.#layers[layer]!.name} was truncated meanwhile`,
      );
  }

  #chunksOf(target: SourceTarget): CopyChunk[] {
    return this.#files.flatMap(({ fd }, layer) =>
      this.#dataOf(layer, target.offset, target.bytes).flatMap(([start, length]) =>
        Array.from({ length: Math.ceil(length / CHUNK_BYTES) }, (_, i) => ({
          read: true,
          fd,
          host: target.host + (start - target.offset) + i * CHUNK_BYTES,
          offset: start + i * CHUNK_BYTES,
          bytes: Math.min(CHUNK_BYTES, length - i * CHUNK_BYTES),
        })),
      ),
    );
  }

  /** Pages in [offset, offset + bytes) that come from this layer and are no holes in it. */
  #dataOf(layer: number, offset: number, bytes: number): PageRun[] {
    const held = this.#pieces
      .filter((piece) => piece.layer === layer)
      .map((piece): PageRun => [piece.offset, piece.bytes]);
    const wanted = intersectRuns(held, [[offset, bytes]]);
    if (wanted.length === 0) return [];
    return intersectRuns(wanted, dataPages(this.#files[layer]!.fd, offset, bytes, offset));
  }
}

function checkSize(fd: number, name: string, ramBytes: number): void {
  const { size } = fstatSync(fd);
  if (size === ramBytes) return;
  throw new VoltError(
    'image',
    `Cannot restore the guest's memory: ${name} has ${size} bytes (expected ${ramBytes}, as RAM has)`,
  );
}

/** The `most` longest of `pieces`. */
function longest(pieces: readonly LayerPiece[], most: number): ReadonlySet<LayerPiece> {
  if (pieces.length <= most) return new Set(pieces);
  return new Set(pieces.toSorted((a, b) => b.bytes - a.bytes).slice(0, most));
}
