/**
 * Tiny guests that take interrupts: an IDT, local APICs switched on, a handler for each vector that is expected, and
 * APs that come from real mode at 0x8000 (SIPI vector 8) to the same.
 */
import { viewOf } from '../../src/binary/bytes.ts';
import { SELECTOR } from '../../src/boot/gdt.ts';
import { LAYOUT } from '../../src/machine/layout.ts';
import { copyTo8000 } from './running.ts';
import { asm, LOAD_ADDRESS, u32 } from './tiny-guest.ts';

export const NMI_VECTOR = 2;
const SPURIOUS_VECTOR = 0xff;

/**
 * ret 8: to where the interrupt came from, past CS and EFLAGS, so that interrupts stay off. Not iret, which KVM's
 * emulator does not know in protected mode, and kvm-pvm emulates all of ring 0. NMIs stay blocked after the first.
 */
const RETURN = [0xc2, 0x08, 0x00];

/** Offsets in the image, each a part that the ones before must not reach. */
const PART = { bsp: 0x0000, ap: 0x1000, idt: 0x2000, idtr: 0x2800, handlers: 0x3000, size: 0x4000 } as const;
const HANDLER_BYTES = 0x40;
/** A page each, far behind the image. */
const STACKS = LOAD_ADDRESS + 0x10_0000;

const APIC = {
  id: 0xfee0_0020,
  eoi: 0xfee0_00b0,
  spurious: 0xfee0_00f0,
  timer: 0xfee0_0320,
  count: 0xfee0_0380,
  divide: 0xfee0_03e0,
} as const;
const store = (address: number, value: number) => [0xc7, 0x05, ...u32(address), ...u32(value)]; // mov dword [address], value
const readCpu = [...asm.readEax(APIC.id), 0xc1, 0xe8, 0x18]; // shr eax, 24

export const interruptAsm = {
  /** sti; hlt, again and again */
  idle: [0xfb, 0xf4, 0xeb, 0xfc],
  /** sti; hlt; cli: one interrupt, or more. */
  waitForInterrupt: [0xfb, 0xf4, 0xfa],
  /** Prints one character: `first` on CPU 0, the next one on CPU 1, and so on. */
  printCpu: (first: string) => [...readCpu, 0x04, first.charCodeAt(0), 0xba, ...u32(0x3f8), 0xee], // add al, first; out dx, al
  endOfInterrupt: store(APIC.eoi, 0),
  /** An interrupt from this CPU's own timer, about every millisecond. */
  startTimer: (vector: number) => [
    ...store(APIC.divide, 0b1011),
    ...store(APIC.timer, 0x2_0000 | vector),
    ...store(APIC.count, 1_000_000),
  ],
  /** Both 8259s: inputs 0–7 of the first at `base`, none masked. */
  startPic: (base: number) =>
    (
      [
        [0x20, 0x11],
        [0x21, base],
        [0x21, 4],
        [0x21, 1],
        [0x21, 0],
        [0xa0, 0x11],
        [0xa1, base + 8],
        [0xa1, 2],
        [0xa1, 1],
        [0xa1, 0xff],
      ] as const
    ).flatMap(([port, value]) => asm.out8(port, value)),
} as const;

export interface InterruptGuest {
  /** What the BSP does, with interrupts off until it says otherwise. */
  readonly bsp: readonly number[];
  /** What each AP does once a SIPI with vector 8 has started it. */
  readonly ap?: readonly number[];
  /** Bodies of handlers by vector; registers are saved around them, flags are not. */
  readonly handlers: Readonly<Record<number, readonly number[]>>;
}

export function interruptGuest({ bsp, ap = asm.halt(), handlers }: InterruptGuest): Uint8Array {
  const image = new Uint8Array(PART.size);
  const view = viewOf(image);
  const put = (at: number, end: number, code: readonly number[]) => {
    if (at + code.length > end) throw new RangeError(`Cannot place ${code.length} bytes at ${at}`);
    image.set(code, at);
  };
  const enterInterrupts = [
    0x0f,
    0x01,
    0x1d,
    ...u32(LOAD_ADDRESS + PART.idtr),
    ...store(APIC.spurious, 0x100 | SPURIOUS_VECTOR),
  ]; // lidt
  put(PART.bsp, PART.ap, [...loadStack, ...copyTo8000(trampoline), ...enterInterrupts, ...bsp]);
  put(PART.ap, PART.idt, [...loadSegments, ...loadStack, ...enterInterrupts, ...ap]);
  view.setUint16(PART.idtr, 0x7ff, true);
  view.setUint32(PART.idtr + 2, LOAD_ADDRESS + PART.idt, true);
  Object.entries({ ...handlers, [SPURIOUS_VECTOR]: [] }).forEach(([vector, body], i) => {
    const at = PART.handlers + i * HANDLER_BYTES;
    put(at, at + HANDLER_BYTES, [0x60, ...body, 0x61, ...RETURN]); // pushad; …; popad
    putGate(view, PART.idt + 8 * Number(vector), LOAD_ADDRESS + at);
  });
  return image;
}

/** A 32-bit interrupt gate. (SDM 3A §6.11) */
function putGate(view: DataView, at: number, address: number): void {
  view.setUint16(at, address & 0xffff, true);
  view.setUint16(at + 2, SELECTOR.code, true);
  view.setUint16(at + 4, 0x8e00, true);
  view.setUint16(at + 6, address >>> 16, true);
}

// shl eax, 12; add eax, STACKS + 4096; mov esp, eax
const loadStack = [...readCpu, 0xc1, 0xe0, 0x0c, 0x05, ...u32(STACKS + 0x1000), 0x89, 0xc4];
// mov ax, data; mov ds, ax; mov es, ax; mov ss, ax
const loadSegments = [0x66, 0xb8, SELECTOR.data, 0, 0x8e, 0xd8, 0x8e, 0xc0, 0x8e, 0xd0];

const GDTR = 0x20;
// 16-bit: cli; lgdt cs:[GDTR]; mov eax, cr0; or al, 1; mov cr0, eax; jmp code:ap
const enterProtectedMode = [
  ...[0xfa, 0x2e, 0x66, 0x0f, 0x01, 0x16, GDTR, 0x00],
  ...[0x0f, 0x20, 0xc0, 0x0c, 0x01, 0x0f, 0x22, 0xc0],
  ...[0x66, 0xea, ...u32(LOAD_ADDRESS + PART.ap), SELECTOR.code, 0x00],
];
const trampoline = [
  ...enterProtectedMode,
  ...Array<number>(GDTR - enterProtectedMode.length).fill(0x90),
  ...[0x27, 0x00, ...u32(LAYOUT.gdt.address)],
];
