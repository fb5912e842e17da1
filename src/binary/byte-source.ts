/**
 * Bytes that are read in pieces: a file that is not loaded whole, or an array in a test. Readers must check
 * ranges against `bytes` first; `read` throws RangeError outside it.
 */
export interface ByteSource {
  /** What errors call it, usually the path. */
  readonly name: string;
  readonly bytes: number;
  /** Exactly `length` bytes from `offset`. */
  read(offset: number, length: number): Uint8Array;
}

export function bytesAsSource(name: string, content: Uint8Array): ByteSource {
  return {
    name,
    bytes: content.length,
    read(offset, length) {
      if (offset < 0 || length < 0 || offset + length > content.length) {
        throw new RangeError(
          `Cannot read ${length} bytes at ${offset} of ${name} (it has ${content.length})`,
        );
      }
      return content.subarray(offset, offset + length);
    },
  };
}

/** Like `read`, but stops at the end of the source instead of throwing. */
export function readUpTo(source: ByteSource, offset: number, length: number): Uint8Array {
  const start = Math.min(offset, source.bytes);
  return source.read(start, Math.min(length, source.bytes - start));
}
