/** Kernels and other files, good and bad, built in memory for the tables of bad input. */
import { putAscii, putU64, viewOf } from '../../src/binary/bytes.ts';

const MIB = 0x10_0000;
const PAGE = 0x1000;

export const ELF_TYPE = { relocatable: 1, executable: 2, core: 4 } as const;
export const MACHINE = { i386: 3, powerPc64: 21, x86_64: 62, arm64: 183, riscv: 243 } as const;
export const SEGMENT = { load: 1, interpreter: 3, note: 4 } as const;

export interface Segment {
  readonly type?: number;
  readonly address?: number;
  readonly content?: Uint8Array;
  readonly memoryBytes?: number;
  /** What the header claims, where that is not the truth. */
  readonly fileBytes?: number;
}

export interface Elf {
  readonly bits?: 32 | 64;
  readonly machine?: number;
  readonly type?: number;
  readonly entry?: number;
  readonly bigEndian?: boolean;
  readonly segments?: readonly Segment[];
}

/** Where the content of the first segment lies in the file. */
export const FIRST_CONTENT = PAGE;

const LAYOUT = {
  32: {
    header: { entry: 0x18, phoff: 0x1c, phentsize: 0x2a, phnum: 0x2c, size: 0x34 },
    segment: { type: 0x00, offset: 0x04, vaddr: 0x08, paddr: 0x0c, filesz: 0x10, memsz: 0x14, size: 0x20 },
  },
  64: {
    header: { entry: 0x18, phoff: 0x20, phentsize: 0x36, phnum: 0x38, size: 0x40 },
    segment: { type: 0x00, offset: 0x08, vaddr: 0x10, paddr: 0x18, filesz: 0x20, memsz: 0x28, size: 0x38 },
  },
} as const;

/** Two bytes, `jmp .`, as the whole of a kernel. */
export const SPIN = Uint8Array.from([0xeb, 0xfe]);

/** A well-formed 64-bit kernel with one segment at 1 MiB, unless `elf` says otherwise. */
export function buildElf(elf: Elf = {}): Uint8Array<ArrayBuffer> {
  const { bits = 64, machine = MACHINE.x86_64, type = ELF_TYPE.executable, entry = MIB } = elf;
  const segments = elf.segments ?? [{}];
  const { header, segment: field } = LAYOUT[bits];
  const little = !elf.bigEndian;
  const contents = segments.map((segment) => segment.content ?? SPIN);
  const offsets = contents.map((_, i) => FIRST_CONTENT + i * PAGE);
  const file = new Uint8Array(Math.max(FIRST_CONTENT, ...contents.map((c, i) => offsets[i]! + c.length)));
  const view = viewOf(file);
  const word = (at: number, value: number) =>
    bits === 64 ? putU64(view, at, value) : view.setUint32(at, value, little);
  file.set([0x7f, 0x45, 0x4c, 0x46, bits / 32, little ? 1 : 2, 1]);
  view.setUint16(0x10, type, little);
  view.setUint16(0x12, machine, little);
  view.setUint32(0x14, 1, little);
  word(header.entry, entry);
  word(header.phoff, header.size);
  view.setUint16(header.phentsize, field.size, little);
  view.setUint16(header.phnum, segments.length, little);
  segments.forEach((segment, i) => {
    const at = header.size + i * field.size;
    const content = contents[i]!;
    const fileBytes = segment.fileBytes ?? content.length;
    view.setUint32(at + field.type, segment.type ?? SEGMENT.load, little);
    word(at + field.offset, offsets[i]!);
    word(at + field.vaddr, segment.address ?? MIB);
    word(at + field.paddr, segment.address ?? MIB);
    word(at + field.filesz, fileBytes);
    word(at + field.memsz, segment.memoryBytes ?? fileBytes);
    file.set(content, offsets[i]!);
  });
  return file;
}

/** One ELF note, padded to 4 bytes. */
export function buildNote(owner: string, type: number, content: Uint8Array): Uint8Array {
  const ownerBytes = Math.ceil((owner.length + 1) / 4) * 4;
  const note = new Uint8Array(12 + ownerBytes + Math.ceil(content.length / 4) * 4);
  const view = viewOf(note);
  view.setUint32(0, owner.length + 1, true);
  view.setUint32(4, content.length, true);
  view.setUint32(8, type, true);
  putAscii(note, 12, owner);
  note.set(content, 12 + ownerBytes);
  return note;
}

/** A 32-bit ELF with a PVH note that names `pvhEntry`. */
export function buildPvhKernel(pvhEntry: number): Uint8Array {
  const content = new Uint8Array(4);
  viewOf(content).setUint32(0, pvhEntry, true);
  const note = { type: SEGMENT.note, content: buildNote('Xen', 18, content) };
  return buildElf({ bits: 32, machine: MACHINE.i386, segments: [{}, note] });
}

export interface MultibootFields {
  readonly flags?: number;
  readonly loadAddress?: number;
  readonly loadEndAddress?: number;
  readonly bssEndAddress?: number;
  readonly entryAddress?: number;
}

/** A Multiboot 1 header of 32 bytes for the start of an image at `loadAddress`. Bit 16: it has addresses. */
export function buildMultibootHeader(fields: MultibootFields = {}): Uint8Array {
  const { flags = 0x1_0000, loadAddress = MIB, loadEndAddress = 0, bssEndAddress = 0 } = fields;
  const magic = 0x1bad_b002;
  const header = new Uint8Array(0x20);
  const view = viewOf(header);
  [
    magic,
    flags,
    -(magic + flags),
    loadAddress,
    loadAddress,
    loadEndAddress,
    bssEndAddress,
    fields.entryAddress ?? loadAddress + 0x20,
  ].forEach((word, i) => view.setUint32(4 * i, word >>> 0, true));
  return header;
}

/** A kernel that is no ELF: header, then code. */
export function buildFlatMultiboot(fields: MultibootFields = {}): Uint8Array {
  return concat(buildMultibootHeader(fields), SPIN);
}

export interface BzImage {
  /** 0x20c is 2.12. */
  readonly version?: number;
  /** Bit 0: loaded high. */
  readonly loadFlags?: number;
  /** Bit 0: 64-bit kernel. */
  readonly xloadFlags?: number;
  readonly payloadBytes?: number;
  readonly prefAddress?: number;
  readonly initSize?: number;
  readonly cmdlineSize?: number;
}

export const BZIMAGE_BYTES = 5 * 512 + PAGE;

/** Four setup sectors and a page of protected-mode code, with a setup header that wants 1 MiB at 16 MiB. */
export function buildBzImage(image: BzImage = {}): Uint8Array {
  const file = new Uint8Array(BZIMAGE_BYTES);
  const view = viewOf(file);
  file[0x1f1] = 4;
  view.setUint16(0x1fe, 0xaa55, true);
  file.set([0xeb, 0x66], 0x200);
  putAscii(file, 0x202, 'HdrS');
  view.setUint16(0x206, image.version ?? 0x20f, true);
  file[0x211] = image.loadFlags ?? 1;
  view.setUint32(0x22c, 0x7fff_ffff, true);
  view.setUint32(0x230, 0x20_0000, true);
  view.setUint16(0x236, image.xloadFlags ?? 1, true);
  view.setUint32(0x238, image.cmdlineSize ?? 2047, true);
  view.setUint32(0x24c, image.payloadBytes ?? PAGE, true);
  putU64(view, 0x258, image.prefAddress ?? 16 * MIB);
  view.setUint32(0x260, image.initSize ?? MIB, true);
  return file;
}

/** `text` at `offset` of a file of zeros. Characters stand for bytes. */
export function withText(text: string, offset = 0, bytes = 1024): Uint8Array {
  const file = new Uint8Array(bytes);
  putAscii(file, offset, text);
  return file;
}

/** Bytes at the start of a file of zeros. */
export function withBytes(start: readonly number[], bytes = 1024): Uint8Array {
  const file = new Uint8Array(bytes);
  file.set(start);
  return file;
}

export function concat(...parts: readonly Uint8Array[]): Uint8Array {
  return Uint8Array.from(parts.flatMap((part) => [...part]));
}
