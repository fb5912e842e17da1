import { expect, test } from 'bun:test';
import { getAscii, getU64, hex, putAscii, putU64, viewOf } from '../../../src/binary/bytes.ts';

test('a view covers exactly the slice it is given', () => {
  const slice = new Uint8Array([1, 2, 3, 4, 5, 6]).subarray(2, 4);
  const view = viewOf(slice);
  expect(view.byteLength).toBe(2);
  expect(view.getUint16(0, true)).toBe(0x0403);
});

test.each([0, 1, 0xffff_ffff, 0x1_0000_0000, 0xfee0_0000, 2 ** 52, Number.MAX_SAFE_INTEGER])(
  'putU64 stores %p little-endian as setBigUint64 would, and getU64 reads it',
  (value) => {
    const view = new DataView(new ArrayBuffer(8));
    putU64(view, 0, value);
    expect(view.getBigUint64(0, true)).toBe(BigInt(value));
    expect(getU64(view, 0)).toBe(value);
  },
);

test('text is stored a byte a character and read back', () => {
  const bytes = new Uint8Array(6).fill(0x20);
  putAscii(bytes, 1, '_MP_');
  expect(getAscii(bytes, 0, 6)).toBe(' _MP_ ');
});

test('hex pads with zeros where digits are asked for', () => {
  expect(hex(0x9_fc00)).toBe('0x9fc00');
  expect(hex(5, 4)).toBe('0x0005');
  expect(hex(0xffff_ffff_8100_0000n)).toBe('0xffffffff81000000');
});
