/** Real-mode code on a real vCPU: a Multiboot kernel goes back to real mode and calls firmware, as Xen does. */
import { describe, expect, setDefaultTimeout } from 'bun:test';
import { kvmOpens } from '../cli/volt-process.ts';
import { testNeeding } from '../support/needs.ts';
import { runKernel } from './guest-run.ts';
import { program, u32 } from './tiny-guest.ts';

/** For hangs only: far above what a test takes on a busy machine. */
setDefaultTimeout(60_000);

const needsKvm = testNeeding('/dev/kvm', !kvmOpens);

/** Below 1 MiB, where real-mode code runs: segment 0x1000. */
const BASE = 0x1_0000;
const HEADER_BYTES = 0x20;
const TABLES_BYTES = 0x28;
const CARRY = 0x01;
const ZERO = 0x40;

const u16 = (value: number) => [value & 0xff, value >>> 8];

/** Magic, HAS_ADDRESSES and checksum; where the header is, load, ends, entry. */
function header(entry: number): number[] {
  const flags = 1 << 16;
  return [0x1bad_b002, flags, -(0x1bad_b002 + flags) >>> 0, BASE, BASE, 0, 0, entry].flatMap(u32);
}

/** GDT with 16-bit code (8) and data (0x10) at BASE, its pointer, and a pointer to the vectors at 0. */
function tables(): number[] {
  const segment = (access: number) => [...u16(0xffff), ...u16(BASE & 0xffff), BASE >>> 16, access, 0, 0];
  const gdt = [...u32(0), ...u32(0), ...segment(0x9b), ...segment(0x93)];
  return [...gdt, ...u16(gdt.length - 1), ...u32(BASE + HEADER_BYTES), ...u16(0x3ff), ...u32(0), 0, 0, 0, 0];
}

/** Leaves protected mode and runs `code`, which is 16-bit, with CS = SS = 0x1000. */
function inRealMode(code: readonly number[]): Uint8Array {
  const gdtPointer = HEADER_BYTES + 24;
  const entry = HEADER_BYTES + TABLES_BYTES;
  const to16 = entry + 14;
  const real = to16 + 18;
  const enter = [
    ...[0x0f, 0x01, 0x15, ...u32(BASE + gdtPointer)], // lgdt
    ...[0xea, ...u32(to16), ...u16(8)], // jmp 8:to16
    ...[0xb8, ...u16(0x10), 0x8e, 0xd0], // mov ax, 0x10; mov ss, ax: 16-bit stack
    ...[0x0f, 0x20, 0xc0, 0x24, 0xfe, 0x0f, 0x22, 0xc0], // mov eax, cr0; and al, ~PE; mov cr0, eax
    ...[0xea, ...u16(real), ...u16(BASE >>> 4)], // jmp 0x1000:real
  ];
  const settle = [
    ...[0x2e, 0x0f, 0x01, 0x1e, ...u16(gdtPointer + 6)], // lidt [cs:…]
    ...[0x8c, 0xc8, 0x8e, 0xd0, 0xbc, ...u16(0xfff0)], // mov ax, cs; mov ss, ax; mov sp, 0xfff0
  ];
  return program(header(BASE + entry), tables(), enter, settle, code);
}

/** int `vector` with AX, then AX and FLAGS on COM1, lowest byte first, three bytes in all. */
function call(vector: number, ax = 0): number[] {
  return [
    ...[0xf8, 0xb8, ...u16(ax), 0xcd, vector], // clc; mov ax, …; int
    ...[0x9c, 0xba, ...u16(0x3f8), 0xee, 0x88, 0xe0, 0xee], // pushf; mov dx, COM1; out dx, al; mov al, ah; out dx, al
    ...[0x58, 0xee], // pop ax; out dx, al
  ];
}

/** out 0xf4, eax with EAX = 0 */
const END = [0x66, 0x31, 0xc0, 0x66, 0xe7, 0xf4];

async function outcomesOf(...calls: readonly (readonly number[])[]) {
  const { bytes, stderr, exitCode } = await runKernel(inRealMode([...calls.flat(), ...END]));
  const outcomes = calls.map((_, i) => {
    const [low, high, flags] = bytes.subarray(3 * i);
    return { ax: low! | (high! << 8), flags: flags! & (CARRY | ZERO) };
  });
  return { outcomes, stderr, exitCode };
}

describe('interrupts in real mode (needs /dev/kvm)', () => {
  needsKvm('services of a firmware fail with CF and AH = 0x86, as unknown functions do', async () => {
    const services = [call(0x15, 0xe820), call(0x15, 0xec00), call(0x13, 0x0200), call(0x16, 0x0100)];

    const { outcomes, stderr, exitCode } = await outcomesOf(...services);

    expect(outcomes).toEqual([
      { ax: 0x8620, flags: CARRY | ZERO },
      { ax: 0x8600, flags: CARRY | ZERO },
      { ax: 0x8600, flags: CARRY | ZERO },
      { ax: 0x8600, flags: CARRY | ZERO },
    ]);
    expect(stderr).toBe('');
    expect(exitCode).toBe(0);
  });

  needsKvm('INT 11h and 12h tell of one serial port and 639 KiB of base memory', async () => {
    const { outcomes } = await outcomesOf(call(0x11), call(0x12));
    expect(outcomes.map(({ ax }) => ax)).toEqual([0x0202, 639]);
  });

  needsKvm('others return with everything as it was', async () => {
    const { outcomes } = await outcomesOf(
      call(0x03, 0x1234),
      call(0x08, 0x2345),
      call(0x70, 0x3456),
      call(0x7f, 1),
    );
    expect(outcomes.map(({ ax }) => ax)).toEqual([0x1234, 0x2345, 0x3456, 1]);
    expect(outcomes.map(({ flags }) => flags & CARRY)).toEqual([0, 0, 0, 0]);
  });

  needsKvm('INT 19h, the bootstrap loader, resets', async () => {
    const { stderr, exitCode } = await runKernel(inRealMode([0xcd, 0x19]), ['--log-level', 'error']);
    expect(stderr).toBe('');
    expect(exitCode).toBe(0);
  });
});
