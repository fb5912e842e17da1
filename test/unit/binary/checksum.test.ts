import { expect, test } from 'bun:test';
import { byteSum, checksumByte } from '../../../src/binary/checksum.ts';
import { seededRandom } from '../support/random.ts';

// Seed 2: test_checksum
test('the checksum byte and the bytes it is for add up to 0', () => {
  const data = Uint8Array.of(1, 2, 3, 4);
  const checksum = checksumByte(data);
  expect(checksum).toBe(0xf6);
  expect(byteSum(Uint8Array.of(...data, checksum))).toBe(0);
});

test('bytes that add up to 0 already have checksum 0', () => {
  expect(checksumByte(Uint8Array.of(0x80, 0x80))).toBe(0);
  expect(checksumByte(new Uint8Array())).toBe(0);
});

test('every structure adds up to 0 with its checksum', () => {
  const random = seededRandom(2);
  const sums = Array.from({ length: 500 }, () => {
    const bytes = random.bytes(random.int(1, 300));
    bytes[0] = 0;
    bytes[0] = checksumByte(bytes);
    return byteSum(bytes);
  });
  expect(new Set(sums)).toEqual(new Set([0]));
});
