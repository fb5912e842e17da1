/**
 * Random read access to bytes, such as a file that is not loaded as a whole, or an array in a test. Readers
 * check their ranges against `bytes` first.
 */
export interface ByteSource {
  /** For error messages, usually the path. */
  readonly name: string;
  /** Total size. */
  readonly bytes: number;
  /** Exactly `length` bytes at `offset`. Throws RangeError outside [0, bytes). */
  read(offset: number, length: number): Uint8Array;
}

/** `content` as a source. `read` returns views, not copies. */
export function bytesAsSource(name: string, content: Uint8Array): ByteSource {
  return {
    name,
    bytes: content.length,
    read(offset, length) {
      if (offset < 0 || length < 0 || offset + length > content.length) {
        throw new RangeError(
          `Cannot read ${length} bytes at ${offset} of ${name} (expected a range within ${content.length} bytes)`,
        );
      }
      return content.subarray(offset, offset + length);
    },
  };
}

/** Up to `length` bytes at `offset`, fewer at the end of the source. */
export function readUpTo(source: ByteSource, offset: number, length: number): Uint8Array {
  const start = Math.min(offset, source.bytes);
  return source.read(start, Math.min(length, source.bytes - start));
}
