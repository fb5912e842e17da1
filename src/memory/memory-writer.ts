/**
 * Writes guest RAM to a snapshot's memory file: all regions one after the other, and pages of zeroes as holes.
 * The threads of ffi/copy-threads.ts do it while the event loop goes on.
 *
 * Measured on ext4 on two CPUs: one thread writes to the page cache as fast as dd. The file's lock lets no two
 * writes overlap, but a second thread finds the next pages meanwhile; more gain nothing.
 */
import { CopyJob, type CopyChunk } from '../ffi/copy-threads.ts';
import { ERRNO, SyscallError } from '../ffi/errno.ts';
import { MIB, PAGE_BYTES } from '../machine/address.ts';
import { bytesOfRuns, intersectRuns, limitRuns, type PageRun } from '../machine/page-runs.ts';
import { VoltError } from '../volt-error.ts';
import type { GuestMemory } from './guest-memory.ts';
import { usedPages } from './touched-pages.ts';

const CHUNK_BYTES = 4 * MIB;
const WRITE_THREADS = 2;
/** A job has one chunk for each at least; small gaps between them are cheaper to read. */
const MOST_RUNS = 16_384;
const PROGRESS_INTERVAL_MS = 100;

export interface WriteMemoryOptions {
  /** The pages to write; undefined: all of RAM. */
  readonly runs?: readonly PageRun[] | undefined;
  /** Offset in the file at which RAM starts. Default: 0. */
  readonly at?: number;
  /** The file holds older content of these pages: zeroes are written too. */
  readonly overwrite?: boolean;
  /** Called while bytes are written and at the end, with the bytes dealt with, zeroes included, and the total. */
  readonly onProgress?: ((doneBytes: number, totalBytes: number) => void) | undefined;
  /** Ends the writing. The file is of no use then. */
  readonly signal?: AbortSignal | undefined;
}

export interface WrittenMemory {
  /** Bytes that are in the file, the holes not included. */
  readonly bytesWritten: number;
  /** Length of the file: that of RAM. */
  readonly fileBytes: number;
}

/**
 * Writes to `fd`, which is open for writing, and empty unless `overwrite` is set. The last page of RAM is
 * always written, so that the file has RAM's length. Does not flush it. When this settles, no thread reads RAM
 * any more. Throws VoltError 'host' if a write fails, and the signal's reason.
 *
 * `memory` must stay mapped and `fd` open. What a running guest writes meanwhile may or may not be in the file.
 */
export async function writeMemory(
  memory: GuestMemory,
  fd: number,
  { runs, at = 0, overwrite = false, onProgress, signal }: WriteMemoryOptions = {},
): Promise<WrittenMemory> {
  signal?.throwIfAborted();
  const fileBytes = memory.bytes;
  const wanted: readonly PageRun[] = runs ?? [[0, fileBytes]];
  const totalBytes = bytesOfRuns(wanted);
  const pages = overwrite ? wanted : intersectRuns(wanted, limitRuns(usedPages(memory), MOST_RUNS));
  const skipped = totalBytes - bytesOfRuns(pages);
  const file = { fd, at };
  const chunks = splitIntoChunks(memory, file, pages, overwrite);
  if (!overwrite) chunks.push(...chunksOf(memory, file, [fileBytes - PAGE_BYTES, PAGE_BYTES], true));
  using job = new CopyJob(chunks, WRITE_THREADS);
  const report = () => onProgress?.(Math.min(totalBytes, skipped + job.done), totalBytes);
  const timer = onProgress && setInterval(report, PROGRESS_INTERVAL_MS);
  const cancel = () => job.cancel();
  signal?.addEventListener('abort', cancel);
  try {
    await job.finished();
  } finally {
    clearInterval(timer);
    signal?.removeEventListener('abort', cancel);
  }
  if (job.errno !== 0) throw writeError(job.errno);
  signal?.throwIfAborted();
  report();
  return { bytesWritten: job.moved, fileBytes };
}

interface TargetFile {
  readonly fd: number;
  readonly at: number;
}

function splitIntoChunks(
  memory: GuestMemory,
  file: TargetFile,
  runs: readonly PageRun[],
  whole: boolean,
): CopyChunk[] {
  return runs.flatMap(([offset, bytes]) => {
    const chunks: CopyChunk[] = [];
    for (let done = 0; done < bytes; done += CHUNK_BYTES)
      chunks.push(...chunksOf(memory, file, [offset + done, Math.min(CHUNK_BYTES, bytes - done)], whole));
    return chunks;
  });
}

/** One chunk for each region that the run is in. */
function chunksOf(memory: GuestMemory, { fd, at }: TargetFile, run: PageRun, whole: boolean): CopyChunk[] {
  return memory.regions.flatMap((region) =>
    intersectRuns([run], [[region.offset, region.bytes]]).map(([offset, bytes]) => ({
      ...{ host: region.host + (offset - region.offset), bytes, fd, offset: at + offset, whole },
    })),
  );
}

function writeError(errno: number): VoltError {
  const advice =
    errno === ERRNO.ENOSPC || errno === ERRNO.EDQUOT
      ? 'free space there, or choose another directory'
      : errno === ERRNO.EFBIG
        ? 'the file system or ulimit -f allows no file as large as RAM'
        : undefined;
  const { message } = new SyscallError('pwrite', errno, advice);
  return new VoltError('host', `Cannot write the guest's memory: ${message}`);
}
