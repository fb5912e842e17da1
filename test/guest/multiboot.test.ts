/** Multiboot 1 kernels on real vCPUs: they check for themselves what they were handed. */
import { describe, expect, setDefaultTimeout } from 'bun:test';
import { kvmOpens } from '../cli/volt-process.ts';
import { testNeeding } from '../support/needs.ts';
import { runGuest, runKernel } from './guest-run.ts';
import { asm, LOAD_ADDRESS, program, u32 } from './tiny-guest.ts';

/** For hangs only: far above what a test takes on a busy machine. */
setDefaultTimeout(60_000);

const needsKvm = testNeeding('/dev/kvm', !kvmOpens);

const MAGIC = 0x1bad_b002;
const HAS_ADDRESSES = 1 << 16;

function header(flags: number, ...addresses: readonly number[]): number[] {
  return [MAGIC, flags, -(MAGIC + flags) >>> 0, ...addresses].flatMap(u32);
}

/** Ends with status 0 if EAX is the loader's magic and EBX points to information with a memory map; with 1 if not. */
function checkHandOver(): number[] {
  const fail = asm.exit(1);
  const good = [...asm.print('multiboot\n'), ...asm.exit(0)];
  // test dword [ebx], 1 << 6; jz fail
  const mapCheck = [0xf7, 0x03, ...u32(1 << 6), 0x0f, 0x84, ...u32(good.length)];
  // cmp eax, 0x2BADB002; jne fail
  const magicCheck = [0x3d, ...u32(0x2bad_b002), 0x0f, 0x85, ...u32(mapCheck.length + good.length)];
  return [...magicCheck, ...mapCheck, ...good, ...fail];
}

describe('a Multiboot kernel (needs /dev/kvm)', () => {
  needsKvm('that is a flat image is loaded and entered where its header says', async () => {
    const headerBytes = 0x20;
    const addresses = [LOAD_ADDRESS, LOAD_ADDRESS, 0, 0, LOAD_ADDRESS + headerBytes];
    const image = program(header(HAS_ADDRESSES, ...addresses), checkHandOver());

    const { stdout, stderr, exitCode } = await runKernel(image);

    expect(stdout).toBe('multiboot\n');
    expect(stderr).toBe('');
    expect(exitCode).toBe(0);
  });

  needsKvm('that is an ELF gets magic, information and memory map', async () => {
    // jmp over the 12 bytes of the header, which must be aligned to 4
    const code = program([0xeb, 14, 0x90, 0x90], header(0), checkHandOver());

    const { stdout, exitCode } = await runGuest(code, ['--boot', 'multiboot']);

    expect(stdout).toBe('multiboot\n');
    expect(exitCode).toBe(0);
  });

  needsKvm('that asks for a video mode starts without one, and Volt says so', async () => {
    const code = program([0xeb, 14, 0x90, 0x90], header(1 << 2), checkHandOver());

    const { stdout, stderr, exitCode } = await runGuest(code, ['--boot', 'multiboot']);

    expect(stdout).toBe('multiboot\n');
    expect(stderr).toMatch(/^volt: \S+ requests a video mode in its Multiboot header; [^\n]*\n$/);
    expect(exitCode).toBe(0);
  });

  needsKvm('that loads a GDT of its own may keep the segments it has, and load them again', async () => {
    const gdt = LOAD_ADDRESS + 16;
    const tables = [
      ...[0, 0, 0x0000_ffff, 0x00cf_9b00, 0x0000_ffff, 0x00cf_9300].flatMap(u32), // null, code, data
      ...[0x17, 0x00, ...u32(gdt), 0x90, 0x90], // GDT pointer
    ];
    const pushPlace = [0xe8, ...u32(0), 0x83, 0x04, 0x24, 5]; // call next; add dword [esp], 5
    const loadGdt = [0x0f, 0x01, 0x15, ...u32(gdt + 24), 0xbc, ...u32(0x9_0000)]; // lgdt; mov esp, 0x90000
    const returnHere = [0x0e, ...pushPlace, 0xcb]; // push cs; push place; retf, which loads CS as IRET does
    const reloadData = [0x8c, 0xd8, 0x8e, 0xd8, 0x8e, 0xd0]; // mov eax, ds; mov ds, eax; mov ss, eax
    const code = [...loadGdt, ...returnHere, ...reloadData, ...asm.print('returned\n'), ...asm.exit(0)];

    const image = program([0xeb, 14 + tables.length, 0x90, 0x90], header(0), tables, code);
    const { stdout, stderr, exitCode } = await runGuest(image, ['--boot', 'multiboot']);

    expect(stderr).toBe('');
    expect(stdout).toBe('returned\n');
    expect(stderr).toBe('');
    expect(exitCode).toBe(0);
  });

  needsKvm('that is booted by PVH instead finds another hand-over, and says so', async () => {
    const code = program([0xeb, 14, 0x90, 0x90], header(0), checkHandOver());

    const { exitCode } = await runGuest(code, ['--boot', 'pvh']);

    expect(exitCode).toBe(65);
  });
});
