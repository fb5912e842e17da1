import { describe, expect, test } from 'bun:test';
import { describePmem, PmemDevice } from '../../../../src/virtio/pmem/device.ts';
import { MMIO_REGISTER as R } from '../../../../src/virtio/transport/mmio.regs.ts';
import type { RateLimits } from '../../../../src/virtio/transport/rate-limiter.ts';
import { createDeviceBench, createTestClock } from '../device-bench.ts';

const NONE: RateLimits = { bandwidth: undefined, ops: undefined };
const FILE_BYTES = 1000;
const UNKNOWN_TYPE = 1;
const FAILED = 0xffff_ffff;

function createBench({ packed = false, limits = NONE }: { packed?: boolean; limits?: RateLimits } = {}) {
  const clock = createTestClock();
  const file = { errno: 0, flushes: 0 };
  const flush = () => {
    file.flushes++;
    return file.errno;
  };
  const device = new PmemDevice({ flush, now: clock.now, after: clock.after }, FILE_BYTES, limits);
  const description = describePmem({ address: 0x1_0000_0000, bytes: 0x20_0000 });
  const bench = createDeviceBench(description, device, [], { packed });
  const [queue] = bench.start();
  /** The request at a place of its own, by its number. */
  const request = (n: number, type = 0) => {
    const at = bench.buffers + 16 * n;
    bench.view.setUint32(at, type, true);
    bench.view.setUint32(at + 8, 0xaaaa_aaaa, true);
    return [
      { address: at, length: 4 },
      { address: at + 8, length: 4, writable: true },
    ];
  };
  const resultOf = (n: number) => bench.view.getUint32(bench.buffers + 16 * n + 8, true);
  return { ...bench, queue: queue!, clock, file, request, resultOf };
}

test('persistent memory tells where it lies', () => {
  const { read } = createBench();

  expect([0, 4, 8, 12].map((at) => read(R.config + at))).toEqual([0, 1, 0x20_0000, 0]);
});

describe.each([false, true])('persistent memory on a ring that is packed: %p', (packed) => {
  test('is flushed when the guest asks for it', () => {
    const bench = createBench({ packed });

    const id = bench.queue.offer(bench.request(0));

    expect(bench.queue.takeUsed()).toEqual({ id, written: 4 });
    expect([bench.resultOf(0), bench.file.flushes, bench.interrupts()]).toEqual([0, 1, 1]);
  });

  test('tells the guest when it could not be flushed', () => {
    const bench = createBench({ packed });
    bench.file.errno = 5;

    bench.queue.offer(bench.request(0));

    expect(bench.resultOf(0)).toBe(FAILED);
  });

  test('is flushed once for all that asked before', () => {
    const bench = createBench({ packed });
    for (const n of [0, 1, 2]) bench.queue.add(bench.request(n));

    bench.queue.notify();

    expect([0, 1, 2].map(bench.resultOf)).toEqual([0, 0, 0]);
    expect([bench.file.flushes, bench.interrupts()]).toEqual([1, 1]);
  });

  test('does not know what else it may be asked', () => {
    const bench = createBench({ packed });

    bench.queue.offer(bench.request(0, UNKNOWN_TYPE));

    expect([bench.resultOf(0), bench.file.flushes]).toEqual([FAILED, 0]);
  });
});

test('a result in pieces is written to both', () => {
  const bench = createBench();
  bench.file.errno = 5;
  const [request] = bench.request(0);

  bench.queue.offer([
    request!,
    { address: bench.buffers + 100, length: 1, writable: true },
    { address: bench.buffers + 200, length: 3, writable: true },
  ]);

  expect([bench.bytes[bench.buffers + 100], bench.bytes[bench.buffers + 202]]).toEqual([0xff, 0xff]);
});

describe('a driver that breaks the rules', () => {
  test.each([
    ['has no room for the result', (bench: ReturnType<typeof createBench>) => bench.request(0).slice(0, 1)],
    ['has no request', (bench: ReturnType<typeof createBench>) => bench.request(0).slice(1)],
    [
      'has too little room',
      (bench: ReturnType<typeof createBench>) => [
        bench.request(0)[0]!,
        { address: bench.buffers + 8, length: 3, writable: true },
      ],
    ],
  ])('and %s is told that a reset is needed', (_what, chain) => {
    const bench = createBench();

    bench.queue.offer(chain(bench));

    expect(bench.failures).toEqual(['its queue has an invalid ring or a malformed request']);
    expect([bench.needsReset(), bench.file.flushes]).toEqual([true, 0]);
  });
});

test('flushes count as many bytes as the file has, and wait for their limit', () => {
  const limits = { bandwidth: { size: FILE_BYTES, burst: 0, refillMs: 100 }, ops: undefined };
  const bench = createBench({ limits });

  for (const n of [0, 1]) bench.queue.offer(bench.request(n));
  const before = [bench.resultOf(0), bench.resultOf(1)];
  bench.clock.advance(150);

  expect(before).toEqual([0, 0xaaaa_aaaa]);
  expect([bench.resultOf(1), bench.file.flushes]).toEqual([0, 2]);
});

test('a reset takes back what waits for the limit', () => {
  const limits = { bandwidth: undefined, ops: { size: 1, burst: 0, refillMs: 100 } };
  const bench = createBench({ limits });
  for (const n of [0, 1]) bench.queue.offer(bench.request(n));

  bench.write(R.status, 0);
  bench.clock.advance(500);

  expect([bench.file.flushes, bench.clock.pending()]).toEqual([1, 0]);
});

test('persistent memory is durable when the machine is saved', () => {
  const { save, file } = createBench();

  save('pmem');

  expect(file.flushes).toBe(1);
});
