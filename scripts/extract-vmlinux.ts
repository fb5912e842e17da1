/**
 * The ELF kernel inside a bzImage.
 *
 * Header: Linux Documentation/arch/x86/boot.rst, "The Real-Mode Kernel Header". LZ4 block format:
 * lz4 doc/lz4_Block_format.md; the kernel's payload is the "legacy frame" of doc/lz4_Frame_format.md.
 */

const setupHeader = {
  setupSectors: 0x1f1,
  magic: 0x202,
  payloadOffset: 0x248,
  payloadLength: 0x24c,
  size: 0x250,
} as const;

const setupMagic = 0x48647253; // "HdrS", read big-endian
const xzMagic = 0xfd377a58;
const lz4LegacyMagic = 0x02214c18;

/** Unpacks the kernel. Throws when the image is no bzImage or its payload is neither XZ nor LZ4 (Debian uses both). */
export function extractVmlinux(bzImage: Uint8Array): Uint8Array {
  const image = Buffer.from(bzImage.buffer, bzImage.byteOffset, bzImage.byteLength);
  if (image.length < setupHeader.size || image.readUInt32BE(setupHeader.magic) !== setupMagic) {
    throw new Error('Cannot unpack the kernel: no "HdrS" magic (expected a bzImage)');
  }
  const protectedModeStart = (image.readUInt8(setupHeader.setupSectors) + 1) * 512;
  const start = protectedModeStart + image.readUInt32LE(setupHeader.payloadOffset);
  const payload = image.subarray(start, start + image.readUInt32LE(setupHeader.payloadLength));
  const magic = payload.readUInt32BE(0);
  if (magic === xzMagic) return unpackXz(payload);
  if (magic === lz4LegacyMagic) return unpackLz4(payload);
  throw new Error(`Cannot unpack the kernel: payload starts 0x${magic.toString(16)} (expected XZ or LZ4)`);
}

/** The trailing u32 of the unpacked size is no part of the XZ stream; --single-stream leaves it alone. */
function unpackXz(payload: Buffer): Uint8Array {
  const xz = Bun.spawnSync(['xz', '-dc', '--single-stream'], {
    stdin: payload,
    stdout: 'pipe',
    stderr: 'pipe',
  });
  if (xz.exitCode !== 0) throw new Error(`Cannot unpack the kernel: ${xz.stderr.toString().trim()}`);
  return xz.stdout;
}

/** Magic, then blocks of (u32 packed length, data), then the u32 of the unpacked size. */
function unpackLz4(payload: Buffer): Uint8Array {
  const end = payload.length - 4;
  const output = Buffer.alloc(payload.readUInt32LE(end));
  let from = 4;
  let to = 0;
  while (from < end) {
    const blockEnd = from + 4 + payload.readUInt32LE(from);
    to = unpackLz4Block(payload.subarray(from + 4, blockEnd), output, to);
    from = blockEnd;
  }
  if (to !== output.length)
    throw new Error(`Cannot unpack the kernel: ${to} bytes (expected ${output.length})`);
  return output;
}

/** Writes one block at `to` and returns the offset after it; matches may reach back into earlier bytes. */
function unpackLz4Block(block: Buffer, output: Buffer, to: number): number {
  let from = 0;
  const readLength = (nibble: number): number => {
    let length = nibble;
    if (nibble < 15) return length;
    let byte: number;
    do {
      byte = block.readUInt8(from++);
      length += byte;
    } while (byte === 255);
    return length;
  };
  while (from < block.length) {
    const token = block.readUInt8(from++);
    const literals = readLength(token >> 4);
    block.copy(output, to, from, from + literals);
    from += literals;
    to += literals;
    if (from >= block.length) break; // the last sequence has literals only
    const distance = block.readUInt16LE(from);
    from += 2;
    const length = readLength(token & 15) + 4;
    // Byte by byte: a match may overlap what it produces.
    for (let index = 0; index < length; index++, to++) output[to] = output[to - distance] ?? 0;
  }
  return to;
}
