/** The three backends of a disk on real files, each against a model: whatever is asked, they agree with an array. */
import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import {
  closeSync,
  constants,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { BLOCK_OP, BlockRequest, type BlockOp } from '../../../../src/virtio/block/request.ts';
import type { BlockBackend } from '../../../../src/virtio/block/device.ts';
import { GuestRam } from '../../../../src/virtio/transport/guest-ram.ts';
import { Chain } from '../../../../src/virtio/transport/queue.ts';
import { setFileLength, writeAllAt } from '../../../../src/ffi/block-file.ts';
import { MAP, Mapping, PROT } from '../../../../src/ffi/mapping.ts';
import { createUring, Uring } from '../../../../src/ffi/uring.ts';
import { FileBackend } from '../../../../src/virtio/block/file-backend.ts';
import { OverlayBackend } from '../../../../src/virtio/block/overlay-backend.ts';
import { UringBackend } from '../../../../src/virtio/block/uring-backend.ts';
import { encodeOverlayHeader, overlayShape } from '../../../../src/virtio/block/overlay-format.ts';
import { seededRandom, type Random } from '../../support/random.ts';

/** For hangs only: far above what a test takes on a busy machine. */
setDefaultTimeout(60_000);

const SECTOR = 512;
/** Not a multiple of the overlay's blocks. */
const DISK_BYTES = 300 * 4096 + 3 * SECTOR;
const RAM_BYTES = 1024 * 1024;
const ROUNDS = 1500;

class Bench implements Disposable {
  readonly folder = mkdtempSync(join(tmpdir(), 'volt-block-'));
  readonly content = seededRandom(7).bytes(DISK_BYTES);
  readonly path = join(this.folder, 'disk');
  readonly #mapping = new Mapping({
    bytes: RAM_BYTES,
    prot: PROT.read | PROT.write,
    flags: MAP.private | MAP.anonymous,
    what: 'a test',
  });
  readonly ramBytes = new Uint8Array(this.#mapping.view(0, RAM_BYTES));
  readonly #ram = new GuestRam([
    {
      address: 0,
      bytes: RAM_BYTES,
      host: this.#mapping.address,
      open: (offset, bytes) => this.ramBytes.subarray(offset, offset + bytes),
    },
  ]);
  readonly #fds: number[] = [];
  readonly #request = new BlockRequest(0);

  constructor() {
    writeFileSync(this.path, this.content);
  }

  open(path: string, flags = 0): number {
    const fd = openSync(path, constants.O_RDWR | flags);
    this.#fds.push(fd);
    return fd;
  }

  openRing(): Uring {
    const ring = createUring(256);
    this.#fds.push(ring.fd);
    return new Uring(ring);
  }

  openOverlay(path: string): OverlayBackend {
    const shape = overlayShape(DISK_BYTES, 1);
    const baseFd = this.open(this.path);
    return new OverlayBackend({ baseFd, overlayFd: this.open(path), shape, writeThrough: false });
  }

  createOverlay(): string {
    const path = join(this.folder, 'overlay');
    writeFileSync(path, '');
    const shape = overlayShape(DISK_BYTES, 1);
    const fd = this.open(path);
    setFileLength(fd, shape.fileBytes);
    writeAllAt(fd, encodeOverlayHeader(shape), 0);
    return path;
  }

  /** Does one request, from or to the start of RAM cut into pieces of `piece` bytes, and returns its errno. */
  run(
    backend: BlockBackend,
    op: BlockOp,
    offset: number,
    bytes: number,
    piece = bytes,
    mayUnmap = false,
  ): number {
    const request = this.#request;
    Object.assign(request, { op, offset, bytes, done: 0, iovecCount: 0, mayUnmap });
    if (op === BLOCK_OP.read || op === BLOCK_OP.write) {
      const chain = new Chain();
      for (let at = 0; at < bytes; at += piece)
        chain.add(this.#ram, at, Math.min(piece, bytes - at), op === BLOCK_OP.read);
      request.setBuffers(chain, 0, chain.count, 0, bytes);
    }
    let result = -1;
    backend.connect((_, errno) => (result = errno));
    backend.start(request);
    backend.commit();
    if (result < 0) backend.drain();
    return result;
  }

  [Symbol.dispose](): void {
    this.#fds.forEach((fd) => closeSync(fd));
    this.#mapping[Symbol.dispose]();
    rmSync(this.folder, { recursive: true });
  }
}

/** Does random requests to the backend and to `model`; returns how many did not agree. */
function compare(
  bench: Bench,
  backend: BlockBackend,
  model: Uint8Array,
  random: Random,
  rounds: number,
): number {
  let wrong = 0;
  for (let i = 0; i < rounds; i++) {
    const bytes = SECTOR * random.int(1, random.pick([1, 8, 9, 64]));
    const offset = SECTOR * random.int(0, (DISK_BYTES - bytes) / SECTOR);
    const op = random.pick([
      BLOCK_OP.read,
      BLOCK_OP.read,
      BLOCK_OP.write,
      BLOCK_OP.write,
      BLOCK_OP.zero,
      BLOCK_OP.flush,
    ]);
    const piece = random.pick([bytes, 512, 700, 4096]);
    const part = model.subarray(offset, offset + bytes);
    if (op === BLOCK_OP.write) part.set(random.bytes(bytes));
    if (op === BLOCK_OP.zero) part.fill(0);
    bench.ramBytes.set(op === BLOCK_OP.write ? part : new Uint8Array(bytes).fill(0xee));
    const errno = bench.run(backend, op, offset, bytes, piece, random.int(0, 1) === 1);
    const agrees = op !== BLOCK_OP.read || Buffer.compare(bench.ramBytes.subarray(0, bytes), part) === 0;
    if (errno !== 0 || !agrees) wrong++;
  }
  return wrong;
}

const BACKENDS: readonly [string, (bench: Bench) => BlockBackend][] = [
  ['preadv and pwritev', (bench) => new FileBackend(bench.open(bench.path))],
  ['io_uring', (bench) => new UringBackend(bench.open(bench.path), bench.openRing())],
  [
    'io_uring, but for writes',
    (bench) => new UringBackend(bench.open(bench.path), bench.openRing(), { writesBlock: true }),
  ],
  [
    'direct pread and pwrite',
    (bench) => new FileBackend(bench.open(bench.path, constants.O_DIRECT), { direct: true }),
  ],
  [
    'direct io_uring',
    (bench) =>
      new UringBackend(bench.open(bench.path, constants.O_DIRECT), bench.openRing(), { direct: true }),
  ],
  ['an overlay', (bench) => bench.openOverlay(bench.createOverlay())],
];

describe.each(BACKENDS)('a disk by %s', (_name, open) => {
  test('agrees with a model, request for request', () => {
    using bench = new Bench();
    const model = bench.content.slice();

    expect(compare(bench, open(bench), model, seededRandom(1), ROUNDS)).toBe(0);
  });

  test('may be discarded, whole and in part', () => {
    using bench = new Bench();
    const backend = open(bench);

    const results = [
      bench.run(backend, BLOCK_OP.discard, 0, DISK_BYTES),
      bench.run(backend, BLOCK_OP.discard, SECTOR, SECTOR),
      bench.run(backend, BLOCK_OP.read, 0, DISK_BYTES / 2 - ((DISK_BYTES / 2) % SECTOR)),
    ];

    expect(results).toEqual([0, 0, 0]);
    expect(bench.ramBytes.subarray(0, 4096).every((byte) => byte === 0)).toBe(true);
  });

  test('fails where its file was cut, and says how far it came', () => {
    using bench = new Bench();
    const backend = open(bench);
    setFileLength(bench.open(bench.path), 4 * 4096);

    expect(bench.run(backend, BLOCK_OP.read, 3 * 4096, 2 * 4096)).toBe(5);
    expect(Buffer.compare(bench.ramBytes.subarray(0, 4096), bench.content.subarray(3 * 4096, 4 * 4096))).toBe(
      0,
    );
  });
});

describe('many requests in flight by io_uring', () => {
  test('all end, more than the ring holds', () => {
    using bench = new Bench();
    const backend = new UringBackend(bench.open(bench.path), bench.openRing());
    const ended = new Set<number>();
    backend.connect((request, errno) => errno === 0 && ended.add(request.index));

    for (let i = 0; i < 1000; i++) {
      const request = new BlockRequest(i);
      request.op = BLOCK_OP.flush;
      backend.start(request);
    }
    backend.commit();
    backend.drain();

    expect(ended.size).toBe(1000);
  });
});

describe('an overlay', () => {
  test('leaves its base as it was, and is found again after a flush', () => {
    using bench = new Bench();
    const model = bench.content.slice();
    const path = bench.createOverlay();
    const first = bench.openOverlay(path);
    compare(bench, first, model, seededRandom(2), ROUNDS);
    bench.run(first, BLOCK_OP.flush, 0, 0);

    const again = bench.openOverlay(path);

    expect(compare(bench, again, model, seededRandom(3), ROUNDS)).toBe(0);
    expect(Buffer.compare(readFileSync(bench.path), bench.content)).toBe(0);
  });

  test('that was not flushed shows the base, never a block without its data', () => {
    using bench = new Bench();
    const path = bench.createOverlay();
    const first = bench.openOverlay(path);
    bench.ramBytes.fill(0x11);
    bench.run(first, BLOCK_OP.write, 0, 4096);
    const before = bench.openOverlay(path);
    bench.run(before, BLOCK_OP.read, 0, 4096);
    const beforeFlush = bench.ramBytes.slice(0, 4096);
    bench.run(first, BLOCK_OP.flush, 0, 0);

    const after = bench.openOverlay(path);
    bench.run(after, BLOCK_OP.read, 0, 4096);

    expect(Buffer.compare(beforeFlush, bench.content.subarray(0, 4096))).toBe(0);
    expect(bench.ramBytes.subarray(0, 4096).every((byte) => byte === 0x11)).toBe(true);
  });

  test('stays small', () => {
    using bench = new Bench();
    const path = bench.createOverlay();
    const overlay = bench.openOverlay(path);
    bench.run(overlay, BLOCK_OP.write, 100 * 4096, 4096);
    bench.run(overlay, BLOCK_OP.flush, 0, 0);

    const { blocks } = statSync(path);

    expect(blocks * 512).toBeLessThan(64 * 1024);
  });
});
