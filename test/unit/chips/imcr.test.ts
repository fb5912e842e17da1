import { expect, test } from 'bun:test';
import { IMCR_WORD, imcrRead, imcrSelect, imcrWrite } from '../../../src/chips/imcr.ts';

function createImcr(): Int32Array {
  return new Int32Array(IMCR_WORD.size);
}

test('the IMCR selects PIC mode after reset', () => {
  const words = createImcr();
  imcrSelect(words, 0x70);
  expect(imcrRead(words)).toBe(0);
});

test('the IMCR reads as it was written, bit by bit', () => {
  const words = createImcr();
  imcrSelect(words, 0x70);
  imcrWrite(words, imcrRead(words) | 1);
  expect(imcrRead(words)).toBe(1);
  imcrWrite(words, 0);
  expect(imcrRead(words)).toBe(0);
});

test('other addresses read as all ones, and writes to them leave the IMCR as it is', () => {
  const words = createImcr();
  imcrWrite(words, 1);
  imcrSelect(words, 0x71);
  imcrWrite(words, 1);
  expect(imcrRead(words)).toBe(0xff);
  imcrSelect(words, 0x70);
  expect(imcrRead(words)).toBe(0);
});
