/** Small synthetic kernels, built field by field from the formats' own specifications. */
import type { ByteSource } from '../../../src/binary/byte-source.ts';
import { bytesAsSource } from '../../../src/binary/byte-source.ts';
import type { BootInputs } from '../../../src/boot/boot-inputs.ts';
import { MIB } from '../../../src/machine/address.ts';
import { ramRanges } from '../../../src/machine/layout.ts';

export interface ElfSegmentSpec {
  readonly type?: number;
  readonly offset?: number;
  readonly vaddr?: number | bigint;
  readonly paddr?: number;
  readonly fileBytes?: number;
  readonly memoryBytes?: number;
  readonly align?: number;
}

export interface ElfSpec {
  readonly bits?: 32 | 64;
  readonly type?: number;
  readonly machine?: number;
  readonly entry?: number | bigint;
  readonly segments?: readonly ElfSegmentSpec[];
  /** Bytes of a PT_NOTE of its own. */
  readonly notes?: Uint8Array;
  readonly noteAlign?: number;
  /** What lies at file offset 0x1000, where segments are by default. */
  readonly content?: Uint8Array;
  /** A section table behind everything else. */
  readonly sections?: readonly ElfSectionSpec[];
}

export interface ElfSectionSpec {
  readonly type: number;
  readonly flags: number;
  readonly address: number | bigint;
  readonly bytes: number | bigint;
}

export const CONTENT_OFFSET = 0x1000;
const NOTE_OFFSET = 0x800;
const PT_LOAD = 1;
const PT_NOTE = 4;

/** An ELF executable; by default 64-bit for x86-64 with one segment of 256 bytes at 1 MiB, entered at its start. */
export function buildElf(spec: ElfSpec = {}): Uint8Array {
  const bits = spec.bits ?? 64;
  const content = spec.content ?? new Uint8Array(256).fill(0x90);
  const segments = [...(spec.segments ?? [{}])];
  const sections = spec.sections ?? [];
  const sectionBytes = bits === 64 ? 0x40 : 0x28;
  const sectionsAt = CONTENT_OFFSET + content.length;
  const file = new Uint8Array(sectionsAt + sections.length * sectionBytes);
  const view = new DataView(file.buffer);
  file.set(content, CONTENT_OFFSET);
  if (spec.notes) {
    file.set(spec.notes, NOTE_OFFSET);
    const [offset, fileBytes] = [NOTE_OFFSET, spec.notes.length];
    segments.push({ type: PT_NOTE, offset, fileBytes, memoryBytes: 0, align: spec.noteAlign ?? 4 });
  }
  file.set([0x7f, 0x45, 0x4c, 0x46, bits / 32, 1, 1]);
  view.setUint16(0x10, spec.type ?? 2, true);
  view.setUint16(0x12, spec.machine ?? (bits === 64 ? 62 : 3), true);
  view.setUint32(0x14, 1, true);
  const word = (offset: number, value: number | bigint) =>
    bits === 64
      ? view.setBigUint64(offset, BigInt(value), true)
      : view.setUint32(offset, Number(value), true);
  const [headerBytes, entryBytes] = bits === 64 ? [0x40, 0x38] : [0x34, 0x20];
  word(0x18, spec.entry ?? MIB);
  word(bits === 64 ? 0x20 : 0x1c, headerBytes);
  view.setUint16(bits === 64 ? 0x36 : 0x2a, entryBytes, true);
  view.setUint16(bits === 64 ? 0x38 : 0x2c, segments.length, true);
  segments.forEach((segment, i) => {
    const at = headerBytes + i * entryBytes;
    const paddr = segment.paddr ?? MIB;
    const fileBytes = segment.fileBytes ?? content.length;
    const words = [
      segment.offset ?? CONTENT_OFFSET,
      segment.vaddr ?? paddr,
      paddr,
      fileBytes,
      segment.memoryBytes ?? fileBytes,
    ];
    view.setUint32(at, segment.type ?? PT_LOAD, true);
    words.forEach((value, k) => word(at + (bits === 64 ? 8 + 8 * k : 4 + 4 * k), value));
    word(at + (bits === 64 ? 0x30 : 0x1c), segment.align ?? 0x1000);
  });
  if (sections.length > 0) word(bits === 64 ? 0x28 : 0x20, sectionsAt);
  view.setUint16(bits === 64 ? 0x3a : 0x2e, sectionBytes, true);
  view.setUint16(bits === 64 ? 0x3c : 0x30, sections.length, true);
  sections.forEach(({ type, flags, address, bytes }, i) => {
    const at = sectionsAt + i * sectionBytes;
    view.setUint32(at + 4, type, true);
    word(at + 8, flags);
    word(at + (bits === 64 ? 0x10 : 0x0c), address);
    word(at + (bits === 64 ? 0x20 : 0x14), bytes);
  });
  return file;
}

/** One ELF note: sizes, type, owner with its NUL, content, each padded to `align`. */
export function buildNote(owner: string, type: number, content: Uint8Array, align = 4): Uint8Array {
  const pad = (bytes: number) => Math.ceil(bytes / align) * align;
  const contentAt = pad(12 + owner.length + 1);
  const note = new Uint8Array(contentAt + pad(content.length));
  const view = new DataView(note.buffer);
  view.setUint32(0, owner.length + 1, true);
  view.setUint32(4, content.length, true);
  view.setUint32(8, type, true);
  note.set(Buffer.from(owner, 'latin1'), 12);
  note.set(content, contentAt);
  return note;
}

export function u32Bytes(...values: readonly number[]): Uint8Array {
  return new Uint8Array(Uint32Array.from(values).buffer);
}

export const LINUX_NOTE = buildNote('Linux', 0x100, u32Bytes(0));
export const pvhNote = (entry: number) => buildNote('Xen', 18, u32Bytes(entry));

/** A Multiboot header: magic, flags, checksum, then the addresses that follow if there are any. */
export function multibootHeader(flags: number, addresses: readonly number[] = []): Uint8Array {
  return u32Bytes(0x1bad_b002, flags, -(0x1bad_b002 + flags) >>> 0, ...addresses);
}

export interface BzImageSpec {
  readonly setupSects?: number;
  readonly version?: number;
  readonly xloadFlags?: number;
  readonly loadFlags?: number;
  readonly initrdAddrMax?: number;
  readonly cmdlineSize?: number;
  readonly kernelAlignment?: number;
  readonly prefAddress?: number;
  readonly initSize?: number;
  readonly payloadOffset?: number;
  readonly payloadLength?: number;
  readonly codeBytes?: number;
}

/** A bzImage whose setup header looks like that of a Debian kernel. (Linux Documentation/arch/x86/boot.rst) */
export function buildBzImage(spec: BzImageSpec = {}): Uint8Array {
  const setupSects = spec.setupSects ?? 3;
  const setupBytes = ((setupSects || 4) + 1) * 512;
  const codeBytes = spec.codeBytes ?? 0x4000;
  const file = new Uint8Array(setupBytes + codeBytes);
  const view = new DataView(file.buffer);
  file.fill(0xcc, setupBytes);
  file[0x1f1] = setupSects;
  view.setUint16(0x1fe, 0xaa55, true);
  file.set([0xeb, 0x6a], 0x200);
  file.set(Buffer.from('HdrS'), 0x202);
  view.setUint16(0x206, spec.version ?? 0x020f, true);
  view.setUint16(0x20e, 0x300, true);
  file.set(Buffer.from('6.1.0-42-amd64 (debian) #1 SMP\0'), 0x500);
  file[0x211] = spec.loadFlags ?? 0x01;
  view.setUint32(0x22c, spec.initrdAddrMax ?? 0x7fff_ffff, true);
  view.setUint32(0x230, spec.kernelAlignment ?? 0x20_0000, true);
  file[0x234] = 1;
  view.setUint16(0x236, spec.xloadFlags ?? 0x7f, true);
  view.setUint32(0x238, spec.cmdlineSize ?? 2047, true);
  view.setUint32(0x248, spec.payloadOffset ?? 0x300, true);
  view.setUint32(0x24c, spec.payloadLength ?? codeBytes - 0x400, true);
  view.setBigUint64(0x258, BigInt(spec.prefAddress ?? 0x100_0000), true);
  view.setUint32(0x260, spec.initSize ?? 0x100_0000, true);
  return file;
}

/** What boots get by default: 128 MiB, no initrd. */
export function bootInputs(kernel: Uint8Array, changes: Partial<BootInputs> = {}): BootInputs {
  return {
    kernel: bytesAsSource('kernel', kernel),
    initrd: undefined,
    cmdline: 'console=ttyS0',
    ranges: ramRanges(128 * MIB),
    ...changes,
  };
}

export function initrdOf(bytes: number): ByteSource {
  return bytesAsSource('initrd', new Uint8Array(bytes).fill(0x30));
}

/** A source of any size whose bytes are all zero, without the memory for them. */
export function hugeSource(name: string, bytes: number): ByteSource {
  return { name, bytes, read: (_, length) => new Uint8Array(length) };
}
