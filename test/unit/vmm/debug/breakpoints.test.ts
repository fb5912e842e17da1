/** INT3s in guest memory, which a debugger neither sees nor overwrites, and the four debug registers. */
import { afterEach, describe, expect, test } from 'bun:test';
import { GUESTDBG } from '../../../../src/kvm/debug-abi.ts';
import { guestAddress } from '../../../../src/machine/address.ts';
import { GuestMemory } from '../../../../src/memory/guest-memory.ts';
import { Breakpoints } from '../../../../src/vmm/debug/breakpoints.ts';
import { readLinear, writeLinear } from '../../../../src/vmm/debug/linear-memory.ts';

const NO_PAGING = { cr0: 1n, cr3: 0n, cr4: 0n, efer: 0n };
const NOP = 0x90;
const INT3 = 0xcc;
let memory: GuestMemory | undefined;

function makeGuest() {
  memory = new GuestMemory([{ address: guestAddress(0), bytes: 0x10_0000 }] as never);
  memory.write(guestAddress(0x1000), new Uint8Array(16).fill(NOP));
  return { memory, breakpoints: new Breakpoints(memory) };
}

afterEach(() => memory?.[Symbol.dispose]());

describe('software breakpoints', () => {
  test('are in memory, and hidden from whoever reads it through the debugger', () => {
    const { memory, breakpoints } = makeGuest();

    const isIn = breakpoints.insert('software', 0x1001n, 1, 0x1001);

    expect(isIn).toBe(true);
    expect([...memory.read(guestAddress(0x1000), 3)]).toEqual([NOP, INT3, NOP]);
    expect([...readLinear(memory, NO_PAGING, 0x1000n, 3, breakpoints.hide)]).toEqual([NOP, NOP, NOP]);
    expect(breakpoints.hasSoftware(0x1001n)).toBe(true);
    expect(breakpoints.guestDebug.control).toBe(GUESTDBG.enable | GUESTDBG.useSoftwareBreakpoints);
  });

  test('stay when the debugger writes over them, and what it wrote comes out when they go', () => {
    const { memory, breakpoints } = makeGuest();
    breakpoints.insert('software', 0x1001n, 1, 0x1001);

    writeLinear(memory, NO_PAGING, 0x1000n, Uint8Array.of(1, 2, 3), breakpoints.keep);
    const during = [...memory.read(guestAddress(0x1000), 3)];
    breakpoints.remove('software', 0x1001n, 1);

    expect(during).toEqual([1, INT3, 3]);
    expect([...memory.read(guestAddress(0x1000), 3)]).toEqual([1, 2, 3]);
    expect(breakpoints.guestDebug.control).toBe(0);
  });

  test('leave alone what the guest has put in their place', () => {
    const { memory, breakpoints } = makeGuest();
    breakpoints.insert('software', 0x1001n, 1, 0x1001);
    memory.write(guestAddress(0x1001), Uint8Array.of(7));

    breakpoints.removeAll();

    expect(memory.read(guestAddress(0x1001), 1)[0]).toBe(7);
  });

  test('of two linear addresses with one physical byte, the last one gives it back', () => {
    const { memory, breakpoints } = makeGuest();
    breakpoints.insert('software', 0x1001n, 1, 0x1001);
    breakpoints.insert('software', 0xffff_8000_0000_1001n, 1, 0x1001);

    breakpoints.remove('software', 0x1001n, 1);
    const between = memory.read(guestAddress(0x1001), 1)[0];
    breakpoints.remove('software', 0xffff_8000_0000_1001n, 1);

    expect(between).toBe(INT3);
    expect(memory.read(guestAddress(0x1001), 1)[0]).toBe(NOP);
  });

  test('go into a debug register where nothing is mapped yet', () => {
    const { breakpoints } = makeGuest();

    const isIn = breakpoints.insert('software', 0xffff_ffff_8100_0000n, 1, undefined);

    expect(isIn).toBe(true);
    expect(breakpoints.guestDebug).toMatchObject({ addresses: [0xffff_ffff_8100_0000n], dr7: 0x602n });
    expect(breakpoints.inRegisters(0xffff_0ff1n)).toMatchObject({ type: 'software' });
  });
});

describe('debug registers', () => {
  test('are four: a fifth breakpoint is refused, and one that is removed makes room', () => {
    const { breakpoints } = makeGuest();
    const addresses = [0x10n, 0x20n, 0x30n, 0x40n, 0x50n];

    const inserted = addresses.map((address) => breakpoints.insert('hardware', address, 1, undefined));
    breakpoints.remove('hardware', 0x20n, 1);
    const again = breakpoints.insert('write', 0x50n, 8, undefined);

    expect(inserted).toEqual([true, true, true, true, false]);
    expect(again).toBe(true);
    expect(breakpoints.guestDebug.addresses).toEqual([0x10n, 0x30n, 0x40n, 0x50n]);
  });

  test('watch a range that is not aligned in pieces, all or none', () => {
    const { breakpoints } = makeGuest();

    const wide = breakpoints.insert('write', 0x1001n, 16, undefined);
    const narrow = breakpoints.insert('write', 0x1002n, 4, undefined);

    expect([wide, narrow]).toEqual([false, true]);
    expect(breakpoints.inRegisters(0xffff_0ff2n)).toEqual({ type: 'write', address: 0x1002n, bytes: 4 });
  });
});

describe('memory by linear addresses', () => {
  test('ends where RAM ends, and is not written in part', () => {
    const { memory, breakpoints } = makeGuest();

    const read = readLinear(memory, NO_PAGING, 0xf_fffen, 16, breakpoints.hide);
    const outside = readLinear(memory, NO_PAGING, 0xfec0_0000n, 4, breakpoints.hide);
    const written = writeLinear(memory, NO_PAGING, 0xf_fffen, new Uint8Array(4).fill(1), breakpoints.keep);

    expect([read.length, outside.length, written]).toEqual([2, 0, false]);
    expect([...memory.read(guestAddress(0xf_fffe), 2)]).toEqual([0, 0]);
  });
});
