/**
 * The real-mode interrupt vector table, and BIOS interrupt handlers that fail every service. Xen and many
 * smaller kernels return to real mode while they boot, to query memory, disks and video modes. They cope with
 * an error, but not with a missing handler. (SeaBIOS sets the same vectors.)
 */
import { viewOf } from '../binary/bytes.ts';
import { LAYOUT } from '../machine/layout.ts';

/** Real-mode segment of the handlers. */
const SEGMENT = 0xf000;
const VECTORS = 256;

/** IRQ 0–7 and 8–15, as a PC's firmware maps them. The first eight are exceptions as well. */
const FIRST_IRQ_VECTOR = 0x08;
const SECOND_IRQ_VECTOR = 0x70;
const IRQS_OF_A_PIC = 8;
/** Video, disk, serial, system, keyboard, printer, clock. */
const SERVICE_VECTORS = [0x10, 0x13, 0x14, 0x15, 0x16, 0x17, 0x1a];

interface Handler {
  /** Offset in SEGMENT. */
  readonly offset: number;
  readonly vectors: readonly number[];
  readonly code: readonly number[];
}

const HANDLERS: readonly Handler[] = [
  {
    // CF: the service failed; ZF: INT 16h has no key; AH 0x86: there is no such function.
    offset: 0xff00,
    vectors: SERVICE_VECTORS,
    code: [
      ...[0x55, 0x89, 0xe5], // push bp; mov bp, sp
      ...[0x80, 0x4e, 0x06, 0x41], // or byte [bp + 6], CF | ZF: the caller's FLAGS
      ...[0x5d, 0xb4, 0x86, 0xcf], // pop bp; mov ah, 0x86; iret
    ],
  },
  { offset: 0xff10, vectors: [0x11], code: readBiosData(0x10) },
  { offset: 0xff20, vectors: [0x12], code: readBiosData(0x13) },
  {
    // push ax; mov al, EOI; out 0x20, al; pop ax; iret
    offset: 0xff30,
    vectors: range(FIRST_IRQ_VECTOR),
    code: [0x50, 0xb0, 0x20, 0xe6, 0x20, 0x58, 0xcf],
  },
  {
    // The second PIC is cascaded, so both need an EOI: out 0xa0, al; out 0x20, al
    offset: 0xff40,
    vectors: range(SECOND_IRQ_VECTOR),
    code: [0x50, 0xb0, 0x20, 0xe6, 0xa0, 0xe6, 0x20, 0x58, 0xcf],
  },
];
/** The "dummy handler", a single IRET. Some programs rely on its address. */
const IRET = { offset: 0xff53, code: 0xcf } as const;
/** INT 18h, ROM BASIC, and INT 19h, bootstrap: there is nothing to boot, so they reset the machine. */
const RESET_VECTORS = [0x18, 0x19];

/** INT 11h and 12h return a word of the BIOS data area in AX. */
function readBiosData(offset: number): number[] {
  return [
    ...[0x1e, 0x6a, 0x40, 0x1f], // push ds; push 0x40; pop ds
    ...[0xa1, offset, 0x00], // mov ax, [offset]
    ...[0x1f, 0xcf], // pop ds; iret
  ];
}

function range(first: number): number[] {
  return Array.from({ length: IRQS_OF_A_PIC }, (_, i) => first + i);
}

/** 256 far pointers for address 0. */
export function buildInterruptVectors(): Uint8Array {
  const table = new Uint8Array(LAYOUT.interruptVectors.bytes);
  const view = viewOf(table);
  const point = (vector: number, offset: number) => {
    view.setUint16(4 * vector, offset, true);
    view.setUint16(4 * vector + 2, SEGMENT, true);
  };
  for (let vector = 0; vector < VECTORS; vector++) point(vector, IRET.offset);
  for (const { vectors, offset } of HANDLERS) for (const vector of vectors) point(vector, offset);
  for (const vector of RESET_VECTORS) point(vector, LAYOUT.resetVector.address - SEGMENT * 16);
  return table;
}

/** The code that the vectors point to. */
export function buildRealModeHandlers(): Uint8Array {
  const { address, bytes } = LAYOUT.realModeHandlers;
  const code = new Uint8Array(bytes);
  const start = address - SEGMENT * 16;
  for (const handler of HANDLERS) code.set(handler.code, handler.offset - start);
  code[IRET.offset - start] = IRET.code;
  return code;
}
