/** Landlock's structures and the handler's page against what the kernel's headers say. */
import { describe, expect, test } from 'bun:test';
import { allFsRights, encodePathRule, encodeRuleset, FS_RIGHT } from '../../../src/sandbox/landlock.ts';
import { SYSCALL_NAMES, syscallNumber } from '../../../src/sandbox/syscalls.ts';
import { prebuiltTrapPage } from '../../../src/sandbox/prebuilt.ts';
import { buildTrapPage } from '../../../src/sandbox/trap-handler.ts';
import { TRAP_PAGE } from '../../../src/sandbox/trap-page.ts';

describe('numbers of system calls', () => {
  test.each([
    ['read', 0],
    ['ioctl', 16],
    ['seccomp', 317],
    ['rseq', 334],
    ['pidfd_send_signal', 424],
    ['clone3', 435],
    ['landlock_restrict_self', 446],
    ['futex_waitv', 449],
    ['mseal', 462],
  ])('%s is %d', (name, number) => {
    expect(syscallNumber(name)).toBe(number);
    expect(SYSCALL_NAMES[number]).toBe(name);
  });

  test('what is no system call is an error', () => {
    expect(() => syscallNumber('frobnicate')).toThrow('Cannot find the system call frobnicate');
  });
});

describe('Landlock', () => {
  test.each([
    [1, 0x1fff, 8],
    [2, 0x3fff, 8],
    [3, 0x7fff, 8],
    [4, 0x7fff, 16],
    [5, 0xffff, 16],
    [6, 0xffff, 24],
    [7, 0xffff, 24],
  ])('ABI %d takes away the rights 0x%x in a ruleset of %d bytes', (abi, rights, bytes) => {
    expect(allFsRights(abi)).toBe(rights);
    expect(encodeRuleset(abi)).toHaveLength(bytes);
    expect(new DataView(encodeRuleset(abi).buffer).getUint32(0, true)).toBe(rights);
  });

  test('ABI 6 takes TCP and abstract sockets away too, but leaves signals between threads', () => {
    const view = new DataView(encodeRuleset(6).buffer);

    expect(view.getBigUint64(8, true)).toBe(3n);
    expect(view.getBigUint64(16, true)).toBe(1n);
  });

  test('a rule names only rights that the ABI knows', () => {
    const rights = FS_RIGHT.readFile | FS_RIGHT.ioctlDevice;

    expect([...encodePathRule(4, rights, 7)]).toEqual([4, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0]);
    expect([...encodePathRule(5, rights, 7)]).toEqual([4, 0x80, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0]);
  });
});

describe("the handler's page", () => {
  const address = 0x7f12_3456_7000;
  const page = buildTrapPage(address, { before: 'before ', after: ' after', exitCode: 1 });
  const view = new DataView(page.buffer);

  test('its code ends before its data, and its texts fit', () => {
    expect(page.subarray(0x200, TRAP_PAGE.data).every((byte) => byte === 0)).toBe(true);
    expect(page.at(-1)).toBe(0);
  });

  test('finds the name of each call', () => {
    const nameOf = (number: number) => {
      const at = TRAP_PAGE.names + view.getUint32(TRAP_PAGE.names + 8 * number, true);
      const length = view.getUint32(TRAP_PAGE.names + 8 * number + 4, true);
      return Buffer.from(page.subarray(at, at + length)).toString();
    };

    expect([0, 41, 435].map(nameOf)).toEqual(['read', 'socket', 'clone3']);
    expect(nameOf(400)).toBe('of an unknown number');
  });

  test('made while Volt is built and moved to its address, is the same', () => {
    const prebuilt = prebuiltTrapPage('before ', ' after', 1);
    const moved = Buffer.from(prebuilt.base64, 'base64');
    for (const at of prebuilt.addresses)
      moved.writeBigUInt64LE(moved.readBigUInt64LE(at) + BigInt(address), at);

    expect(prebuilt.addresses.length).toBeGreaterThan(5);
    expect(Buffer.compare(moved, page)).toBe(0);
  });

  test('points to the words around it', () => {
    const first = Number(view.getBigUint64(TRAP_PAGE.message, true)) - address;
    const last = Number(view.getBigUint64(TRAP_PAGE.message + 32, true)) - address;

    expect(Buffer.from(page.subarray(first, first + 13)).toString()).toBe('before  after');
    expect(last).toBe(first + 7);
  });
});
