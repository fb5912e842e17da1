import { expect, setDefaultTimeout, test } from 'bun:test';
import { readFileSync } from 'node:fs';
import { MAP, Mapping, PROT } from '../../../src/ffi/mapping.ts';
import { releaseMemory } from '../../../src/ffi/memory-advice.ts';

/** For hangs only: far above what a test takes on a busy machine. */
setDefaultTimeout(60_000);

const MIB = 2 ** 20;
const residentMib = () =>
  Number(/RssAnon:\s+(\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))![1]) / 1024;

test('released memory goes back to the host, and reads as zeroes', () => {
  const flags = MAP.private | MAP.anonymous;
  using mapping = new Mapping({ bytes: 256 * MIB, prot: PROT.read | PROT.write, flags, what: 'a test' });
  const bytes = new Uint8Array(mapping.view(0, 256 * MIB)).fill(7);
  const before = residentMib();

  releaseMemory(mapping.address + 4096, 255 * MIB);

  expect(before - residentMib()).toBeGreaterThan(200);
  expect([bytes[4095], bytes[4096], bytes[200 * MIB], bytes[256 * MIB - 1]]).toEqual([7, 0, 0, 7]);
});
