/** Overlay files: their headers, and whole files behind the disk that they make. */
import { closeSync, existsSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { BLOCK_OP, BlockRequest } from '../../../src/virtio/block/request.ts';
import { GuestRam } from '../../../src/virtio/transport/guest-ram.ts';
import { Chain } from '../../../src/virtio/transport/queue.ts';
import { setFileLength } from '../../../src/ffi/block-file.ts';
import { readAt } from '../../../src/ffi/file.ts';
import { MAP, Mapping, PROT } from '../../../src/ffi/mapping.ts';
import { OverlayBackend } from '../../../src/virtio/block/overlay-backend.ts';
import {
  checkOverlay,
  encodeOverlayHeader,
  OVERLAY_BLOCK_BYTES,
  OVERLAY_HEADER,
  overlayShape,
} from '../../../src/virtio/block/overlay-format.ts';
import { seededRandom } from '../../../test/unit/support/random.ts';
import { choicesOf, kindOf, type FuzzTarget } from '../target.ts';

const SECTOR = 512;
/** No whole number of the overlay's blocks. */
const DISK_BYTES = 40 * OVERLAY_BLOCK_BYTES + 3 * SECTOR;
const SHAPE = overlayShape(DISK_BYTES, 1_700_000_000_000);
const HEADER = encodeOverlayHeader(SHAPE);

export const overlayTarget: FuzzTarget = {
  name: 'overlay',
  what: 'headers of overlay files',
  seeds: () => [HEADER.slice(), HEADER.slice(0, 0x40)],
  words: ['VOLTOVL\n'],
  run: (input) => {
    const header = new Uint8Array(OVERLAY_HEADER.size);
    header.set(input.subarray(0, header.length));
    const problem = checkOverlay(header, SHAPE.fileBytes - (input.length % 2), SHAPE);
    const same = Buffer.compare(header, HEADER) === 0 && input.length % 2 === 0;
    if (same !== (problem === undefined))
      throw new Error(`${same ? 'a good header' : 'a bad one'}: ${problem}`);
    return kindOf(problem ?? 'taken');
  },
};

/** Where a flush costs nothing. */
const IN_MEMORY = '/dev/shm';
const RAM_BYTES = 0x1_0000;
/** Where the bitmap's bits end: those behind stand for no block. */
const BITMAP_BYTES = 64;

/** Files that stay open while the process fuzzes, with a disk of a known byte everywhere. */
class Bench {
  readonly baseFd: number;
  readonly overlayFd: number;
  readonly #ram: GuestRam;
  readonly #bytes: Uint8Array;
  readonly #request = new BlockRequest(0);

  constructor() {
    const folder = mkdtempSync(join(existsSync(IN_MEMORY) ? IN_MEMORY : tmpdir(), 'volt-fuzz-'));
    this.baseFd = openSync(join(folder, 'base'), 'w+');
    this.overlayFd = openSync(join(folder, 'overlay'), 'w+');
    // Both live on by their descriptors.
    rmSync(folder, { recursive: true });
    writeSync(this.baseFd, new Uint8Array(DISK_BYTES).fill(BASE_BYTE));
    const mapping = new Mapping({
      bytes: RAM_BYTES,
      prot: PROT.read | PROT.write,
      flags: MAP.private | MAP.anonymous,
      what: 'a fuzzer',
    });
    this.#bytes = new Uint8Array(mapping.view(0, RAM_BYTES));
    const open = (offset: number, bytes: number) => this.#bytes.subarray(offset, offset + bytes);
    this.#ram = new GuestRam([{ address: 0, bytes: RAM_BYTES, host: mapping.address, open }]);
    process.on('exit', () => [this.baseFd, this.overlayFd].forEach((fd) => closeSync(fd)));
  }

  /** An overlay whose bitmap begins with `bits`. */
  prepare(bits: Uint8Array): OverlayBackend {
    setFileLength(this.overlayFd, 0);
    setFileLength(this.overlayFd, SHAPE.fileBytes);
    writeSync(this.overlayFd, HEADER, 0, HEADER.length, 0);
    writeSync(this.overlayFd, bits, 0, bits.length, SHAPE.bitmapOffset);
    const files = { baseFd: this.baseFd, overlayFd: this.overlayFd, shape: SHAPE, writeThrough: false };
    return new OverlayBackend(files);
  }

  /** One request; returns its errno. Its data is all `value`, or what was read. */
  perform(backend: OverlayBackend, op: number, offset: number, bytes: number, value: number): number {
    let result = -1;
    backend.connect((_, errno) => (result = errno));
    const request = this.#request;
    if (op === BLOCK_OP.write) this.#bytes.fill(value, 0, bytes);
    Object.assign(request, { op, offset, bytes, done: 0, iovecCount: 0, mayUnmap: value % 2 === 0 });
    if (op !== BLOCK_OP.zero) {
      const chain = new Chain();
      chain.add(this.#ram, 0, bytes, op === BLOCK_OP.read);
      request.setBuffers(chain, 0, chain.count, 0, bytes);
    }
    backend.start(request);
    return result;
  }

  get data(): Uint8Array {
    return this.#bytes;
  }
}

const BASE_BYTE = 0x5a;
let bench: Bench | undefined;

export const overlayFileTarget: FuzzTarget = {
  name: 'overlay-file',
  what: 'overlay files with any bitmap, read, written, zeroed and opened again, against a model',
  seeds: () => Array.from({ length: 32 }, (_, i) => seededRandom(i).bytes(BITMAP_BYTES + 100)),
  run: (input) => {
    bench ??= new Bench();
    const choose = choicesOf(input.subarray(BITMAP_BYTES));
    const bits = input.slice(0, BITMAP_BYTES);
    const backend = bench.prepare(bits);
    // Blocks that the bitmap gives to the overlay are holes there.
    const sectors = DISK_BYTES / SECTOR;
    const model = Uint8Array.from({ length: sectors }, (_, sector) => {
      const block = Math.floor(sector / 8);
      return ((bits[block >> 3] ?? 0) >> (block & 7)) & 1 ? 0 : BASE_BYTE;
    });
    const done = new Set<string>();
    for (let i = choose(6) + 1; i > 0; i--) {
      const op = [BLOCK_OP.read, BLOCK_OP.write, BLOCK_OP.zero, BLOCK_OP.read][choose(4)]!;
      const first = choose(sectors);
      const count = 1 + choose(Math.min(sectors - first, RAM_BYTES / SECTOR));
      const value = choose(256);
      const errno = bench.perform(backend, op, first * SECTOR, count * SECTOR, value);
      if (errno !== 0)
        throw new Error(`request ${op} of ${count} sectors at ${first} failed: errno ${errno}`);
      done.add(`${op}${count % 8 === 0 && first % 8 === 0}`);
      if (op === BLOCK_OP.write) model.fill(value, first, first + count);
      if (op === BLOCK_OP.zero) model.fill(0, first, first + count);
      if (op === BLOCK_OP.read) compare(bench.data, model, first, count);
    }
    backend.drain();
    const header = new Uint8Array(OVERLAY_HEADER.size);
    readAt(bench.overlayFd, header, 0);
    if (checkOverlay(header, SHAPE.fileBytes, SHAPE) !== undefined) throw new Error('the header was changed');
    return [...done].sort().join(' ');
  },
};

function compare(data: Uint8Array, model: Uint8Array, first: number, count: number): void {
  for (let i = 0; i < count; i++) {
    const sector = data.subarray(i * SECTOR, (i + 1) * SECTOR);
    const found = sector.findIndex((byte) => byte !== model[first + i]);
    if (found >= 0)
      throw new Error(`sector ${first + i} holds ${sector[found]} (expected ${model[first + i]})`);
  }
}
