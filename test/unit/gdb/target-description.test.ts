/** The registers that gdb is told of. test/guest/gdb.test.ts has a real gdb read the description. */
import { expect, test } from 'bun:test';
import { describeTarget, GDB_REGISTERS, GDB_REGISTERS_BYTES } from '../../../src/gdb/target-description.ts';

test('the core registers have the numbers that every gdb for x86-64 expects', () => {
  const numberOf = (name: string) => GDB_REGISTERS.findIndex((register) => register.name === name);

  expect(['rax', 'rbx', 'rsp', 'rip', 'eflags', 'gs', 'st0', 'fop', 'xmm0', 'mxcsr'].map(numberOf)).toEqual([
    0, 1, 7, 16, 17, 23, 24, 39, 40, 56,
  ]);
});

test('registers follow each other without gaps, and each is described once', () => {
  const names = GDB_REGISTERS.map(({ name }) => name);
  const described = [...describeTarget().matchAll(/<reg name="(\w+)"/g)].map((match) => match[1]!);
  const ends = GDB_REGISTERS.map(({ offset, bytes }) => offset + bytes);

  expect(GDB_REGISTERS.slice(1).map(({ offset }) => offset)).toEqual(ends.slice(0, -1));
  expect(ends.at(-1)).toBe(GDB_REGISTERS_BYTES);
  expect(described).toEqual(names);
  expect(new Set(names).size).toBe(names.length);
});
