import { expect, test } from 'bun:test';
import { parseMib } from '../../../src/schema/sizes.ts';

test.each([
  ['512M', 512],
  ['512m', 512],
  ['512MB', 512],
  ['512MiB', 512],
  ['2G', 2048],
  ['2 GiB', 2048],
  ['1.5G', 1536],
  ['1T', 1024 * 1024],
  ['1024K', 1],
  [' 64M ', 64],
  ['0M', 0],
])('%p is %p MiB', (text, mib) => {
  expect(parseMib(text)).toBe(mib);
});

test.each(['', '512', 'M', '-1M', '1e3M', '0x10M', '12X', '1.M', '.5G', '1,5G', '512MM', '5 1M', 'NaNM'])(
  '%p is no size',
  (text) => {
    expect(() => parseMib(text)).toThrow('Expected a size with a unit, such as 512M or 2G.');
  },
);

test.each(['1K', '0.5M', '1.0001G', '1023K'])('%p is no whole number of MiB', (text) => {
  expect(() => parseMib(text)).toThrow('Expected a whole number of MiB.');
});
