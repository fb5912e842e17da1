/**
 * Where the first content of guest RAM comes from when a guest is restored. `openMemorySource` has the code, so
 * that a guest that boots does not load it.
 */
import type { HostPointer } from '../ffi/libc.ts';
import type { PageRun } from '../machine/page-runs.ts';

/** An open memory file of a snapshot. Its offsets are those of all regions of RAM one after the other. */
export interface MemoryLayer {
  /** Open for reading. The caller may close it once the source is open. */
  readonly fd: number;
  /** Names the file in errors. */
  readonly name: string;
  /** The pages that the layer holds; undefined: all of RAM, as the first layer does. */
  readonly runs?: readonly PageRun[] | undefined;
}

/** Memory files of a snapshot, oldest first. */
interface LayersSourceConfig {
  readonly kind: 'layers';
  readonly layers: readonly MemoryLayer[];
}

/** Another process, which supplies each page when it is first touched, by Firecracker's handshake. */
export interface UserfaultSourceConfig {
  readonly kind: 'uffd';
  /** Unix socket on which the handler listens. */
  readonly path: string;
  /** Called with a line when the handler has closed its connection. */
  readonly onHandlerGone?: ((line: string) => void) | undefined;
}

export type MemorySource = LayersSourceConfig | UserfaultSourceConfig;

/** A region of RAM that is mapped at `host` and starts at `offset` of all of RAM. */
export interface SourceTarget {
  readonly offset: number;
  readonly bytes: number;
  readonly host: HostPointer;
}

export interface TargetKind {
  /** hugetlb pages. */
  readonly hugepages: boolean;
  /** memfds, which other processes map too. */
  readonly shared: boolean;
}

/** An open source; GuestMemory owns it and disposes of it. SAFETY: the targets are mapped until then. */
export interface OpenMemorySource extends Disposable {
  /** Whether RAM is a private mapping of files; known once it is attached. */
  readonly mapsFiles: boolean;
  /** Puts the content under all of RAM, or prepares that. Called once, when RAM is mapped and untouched. */
  attach(targets: readonly SourceTarget[], kind: TargetKind): void;
  /** Brings what does not come when it is touched, on up to `threads` threads. Called once, before any access. */
  load(threads: number): void;
  /** Pages in [offset, offset + bytes) that may hold data though this process has not touched them. */
  untouchedPages(offset: number, bytes: number): readonly PageRun[];
}
