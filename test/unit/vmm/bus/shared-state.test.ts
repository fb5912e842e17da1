import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import {
  createSharedState,
  lockBus,
  now,
  ringDoorbell,
  unlockBus,
  viewSharedState,
  VM_WORD,
} from '../../../../src/vmm/bus/shared-state.ts';

/** For hangs only: far above what a test takes on a busy machine. */
setDefaultTimeout(60_000);

describe('the shared state', () => {
  test.each([1, 2, 3, 254])('of %p vCPUs gives each part bytes of its own, up to the end', (count) => {
    const shared = createSharedState(count);
    const cpus = Array.from({ length: count }, (_, i) => i);
    const parts = [
      shared.moments,
      ...cpus.map(shared.vcpuMoments),
      shared.words,
      shared.uart,
      shared.i8042,
      shared.cmos,
      shared.imcr,
      shared.textCursor,
      shared.cpuHotplug,
      ...cpus.map(shared.vcpuWords),
      shared.received,
      shared.transmitted,
    ];
    const ends = parts.map((part) => part.byteOffset + part.byteLength);
    expect(parts.map((part) => part.byteOffset)).toEqual([0, ...ends.slice(0, -1)]);
    expect(ends.at(-1)).toBe(shared.buffer.byteLength);
  });

  test('starts as zero', () => {
    expect(new Uint8Array(createSharedState(2).buffer).some((byte) => byte !== 0)).toBe(false);
  });

  test('is the same in every view', () => {
    const shared = createSharedState(3);
    const other = viewSharedState(shared.buffer, 3);
    shared.vcpuWords(2)[1] = 77;
    shared.vcpuMoments(1)[0] = 1.5;
    expect([other.vcpuWords(2)[1], other.vcpuMoments(1)[0]]).toEqual([77, 1.5]);
  });

  test('has rings whose sizes are powers of two', () => {
    const { received, transmitted } = createSharedState(1);
    expect([received.length, transmitted.length].map((bytes) => bytes & (bytes - 1))).toEqual([0, 0]);
  });
});

describe('the bus lock', () => {
  test('is free, held, and free again', () => {
    const { words } = createSharedState(1);
    lockBus(words);
    const held = words[VM_WORD.busLock];
    unlockBus(words);
    expect([held, words[VM_WORD.busLock]]).toEqual([1, 0]);
  });

  test('lets one worker in at a time', async () => {
    const shared = createSharedState(1);
    const counter = new Int32Array(new SharedArrayBuffer(4));
    const rounds = 2000;
    const workers = [0, 1, 2].map(() => new Worker(new URL('./lock-worker.ts', import.meta.url).href));
    const done = workers.map((worker) => new Promise((resolve) => (worker.onmessage = resolve)));
    for (const worker of workers) worker.postMessage({ buffer: shared.buffer, counter, rounds });
    await Promise.all(done);
    for (const worker of workers) worker.terminate();
    expect(counter[0]).toBe(3 * rounds);
    expect(shared.words[VM_WORD.busLock]).toBe(0);
  });
});

test('the doorbell stays rung until it is answered', () => {
  const { words } = createSharedState(1);
  ringDoorbell(words);
  ringDoorbell(words);
  expect(words[VM_WORD.doorbell]).toBe(1);
});

test('moments are milliseconds since 1970 and go forward', () => {
  const first = now();
  const second = now();
  expect(second).toBeGreaterThanOrEqual(first);
  expect(Math.abs(first - Date.now())).toBeLessThan(3_600_000);
});
