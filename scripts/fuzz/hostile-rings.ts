/**
 * Random rings against the virtio queues and the block device: whatever a driver does, the device must either serve
 * it or give up on it (NEEDS_RESET), and must never touch what is not RAM or not the disk.
 */
import { BLOCK_OP, type BlockRequest } from '../../src/virtio/block/request.ts';
import { BlockDevice, type BlockBackend } from '../../src/virtio/block/device.ts';
import { describeBlock } from '../../src/virtio/block/description.ts';
import { createDeviceState, DEVICE_WORD } from '../../src/virtio/transport/device-state.ts';
import { GuestRam } from '../../src/virtio/transport/guest-ram.ts';
import { readMmio, writeMmio, type MmioDevice } from '../../src/virtio/transport/mmio.ts';
import { MMIO_REGISTER as R } from '../../src/virtio/transport/mmio.regs.ts';
import { DeviceRunner } from '../../src/virtio/transport/runner.ts';

const RAM_BYTES = 0x1_0000;
const HOST = 0x7000_0000_0000;
const SECTORS = 64;
const TABLE = 0x1000;
const DRIVER = 0x2000;
const DEVICE = 0x3000;
const BUFFERS = 0x4000;
const NEEDS_RESET = 0x40;

/** xorshift32: fast, and the same on every machine. */
function fuzzRandom(seed: number): (limit: number) => number {
  let state = seed >>> 0 || 1;
  return (limit) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % limit;
  };
}

export interface FuzzCounts {
  rounds: number;
  /** Rounds in which the device set DEVICE_NEEDS_RESET. */
  gaveUp: number;
  /** Requests that reached the backend, and chains that came back. */
  requests: number;
  served: number;
}

interface Bench {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly mmio: MmioDevice;
  readonly backend: CheckingBackend;
  readonly counts: FuzzCounts;
}

/** A backend that does nothing but check that it is asked for nothing but RAM and disk. */
class CheckingBackend implements BlockBackend {
  requests = 0;
  /** Started requests that end later, in another order. */
  readonly #pending: BlockRequest[] = [];
  readonly #random: (limit: number) => number;
  readonly #bytes: Uint8Array;
  #finish: (request: BlockRequest, errno: number) => void = () => {};

  constructor(random: (limit: number) => number, bytes: Uint8Array) {
    this.#random = random;
    this.#bytes = bytes;
  }

  connect(finish: (request: BlockRequest, errno: number) => void): void {
    this.#finish = finish;
  }

  start(request: BlockRequest): void {
    this.requests++;
    if (request.offset < 0 || request.offset + request.bytes > SECTORS * 512)
      throw new Error(`asked for ${request.bytes} bytes at ${request.offset} of the disk`);
    let total = 0;
    for (let i = 0; i < request.iovecCount; i++) {
      const at = request.iovecAddress(i) - HOST;
      const length = request.iovecLength(i);
      if (at < 0 || at + length > RAM_BYTES || length === 0)
        throw new Error(`asked for ${length} bytes at guest address ${at}`);
      // As real I/O would: the rings may be among the buffers.
      if (request.op === BLOCK_OP.read) this.#bytes[at + this.#random(length)] = this.#random(256);
      total += length;
    }
    const transfers = request.op === BLOCK_OP.read || request.op === BLOCK_OP.write;
    if (transfers && total !== request.bytes)
      throw new Error(`${total} bytes of buffers for ${request.bytes}`);
    if (this.#random(3) === 0) this.#pending.push(request);
    else this.#finish(request, this.#random(8) === 0 ? 5 : 0);
  }

  commit(): void {
    if (this.#random(2) === 0) this.drain();
  }

  flush(): number {
    return 0;
  }

  drain(): void {
    while (this.#pending.length > 0) this.#finish(this.#pending.pop()!, 0);
  }
}

/** `from`: a seed, or who makes the choices. */
export function createFuzzer(from: number | ((limit: number) => number)): {
  round(): void;
  readonly counts: FuzzCounts;
} {
  const random = typeof from === 'number' ? fuzzRandom(from) : from;
  const bytes = new Uint8Array(RAM_BYTES);
  const view = new DataView(bytes.buffer);
  const open = (offset: number, length: number) => bytes.subarray(offset, offset + length);
  const ram = new GuestRam([{ address: 0, bytes: RAM_BYTES, host: HOST, open }]);
  const shape = { id: 'fuzz', sectors: SECTORS, readOnly: false, queues: 2, blockBytes: 512, flush: true };
  const backend = new CheckingBackend(random, bytes);
  const effects = { now: () => 0, after: () => () => {} };
  const device = new BlockDevice(shape, backend, effects, { bandwidth: undefined, ops: undefined });
  const state = createDeviceState(describeBlock(shape));
  const runner = new DeviceRunner(device, state, ram, { interrupt: () => {}, now: () => 0 });
  const sync = () => {
    Atomics.add(state.words, DEVICE_WORD.syncWanted, 1);
    runner.sync();
  };
  const mmio: MmioDevice = {
    state,
    effects: { requestSync: sync, sync, notify: (queue) => runner.handleNotification(queue) },
  };
  const counts: FuzzCounts = { rounds: 0, gaveUp: 0, requests: 0, served: 0 };
  const bench: Bench = { bytes, view, mmio, backend, counts };
  return { round: () => runRound(bench, random), counts };
}

/** One life of a driver: reset, negotiation, a ring, some notifications with more changes between them. */
function runRound({ bytes, view, mmio, backend, counts }: Bench, random: (limit: number) => number): void {
  const write = (register: number, value: number) => writeMmio(mmio, register, 4, value);
  const packed = random(2) === 1;
  const size = packed ? 1 + random(16) : 1 << random(5);
  write(R.status, 0);
  write(R.status, 3);
  write(R.driverFeaturesSel, 0);
  write(R.driverFeatures, (random(4) << 28) >>> 0);
  write(R.driverFeaturesSel, 1);
  write(R.driverFeatures, packed ? 5 : 1);
  write(R.status, 11);
  bytes.fill(0, DRIVER, DRIVER + 64);
  bytes.fill(0, DEVICE, DEVICE + 256);
  for (let i = 0; i < size; i++) putDescriptor(view, TABLE + 16 * i, size, packed, random);
  // Most drivers begin decently.
  const decent = random(4) > 0;
  if (decent) for (let i = 0; i + 3 <= size; i += 3) putChain(view, i, packed, random);
  for (let i = 0; i < 4; i++) putRequest(view, BUFFERS + 32 * i, random);
  setUpQueue(write, size, random);
  write(R.status, 15);
  for (let round = 0; round < 3; round++) {
    if (!packed) offer(view, size, decent, random);
    write(R.queueNotify, random(8) === 0 ? random(4) : 0);
    misbehave(view, mmio, size, random);
  }
  backend.drain();
  counts.rounds++;
  if (readMmio(mmio, R.status, 4) & NEEDS_RESET) counts.gaveUp++;
  counts.requests += backend.requests;
  backend.requests = 0;
  if (!packed) counts.served += view.getUint16(DEVICE + 2, true);
}

function setUpQueue(
  write: (register: number, value: number) => void,
  size: number,
  random: (limit: number) => number,
): void {
  const wild = random(32) === 0;
  write(R.queueSel, 0);
  write(R.queueNum, wild ? random(0x2_0000) : size);
  write(R.queueDescLow, wild ? random(0xffff_ffff) : TABLE);
  write(R.queueDescHigh, wild && random(2) === 0 ? random(0xffff_ffff) : 0);
  write(R.queueDriverLow, wild && random(2) === 0 ? random(RAM_BYTES) : DRIVER);
  write(R.queueDeviceLow, wild && random(2) === 0 ? random(RAM_BYTES) : DEVICE);
  write(R.queueReady, 1);
}

/** Header, data and status in three descriptors from `first` on. */
function putChain(view: DataView, first: number, packed: boolean, random: (limit: number) => number): void {
  const toDevice = random(2);
  const lengths = [16 + 8 * random(3), random(3) === 0 ? 0 : 512 * (1 + random(8)), 1 + random(20)];
  lengths.forEach((length, i) => {
    const at = TABLE + 16 * (first + i);
    const address = i === 0 ? BUFFERS + 32 * random(4) : BUFFERS + random(0x8000);
    const flags = (i < 2 ? 1 : 0) | (i === 2 || (i === 1 && toDevice === 0) ? 2 : 0);
    const wild = random(40);
    view.setUint32(at, wild === 0 ? RAM_BYTES - random(600) : address, true);
    view.setUint32(at + 4, wild === 1 ? 1 + random(0xffff_fffe) : 0, true);
    view.setUint32(at + 8, length, true);
    view.setUint16(at + 12, packed ? first : flags, true);
    view.setUint16(at + 14, packed ? flags | 0x80 : first + i + 1, true);
  });
}

function offer(view: DataView, size: number, decent: boolean, random: (limit: number) => number): void {
  const start = view.getUint16(DRIVER + 2, true);
  if (decent && random(8) > 0) {
    const chains = Math.floor(size / 3);
    for (let i = 0; i < size; i++)
      view.setUint16(DRIVER + 4 + 2 * i, 3 * ((start + i) % (chains || 1)), true);
    view.setUint16(DRIVER + 2, start + 1 + random(2), true);
    return;
  }
  const index =
    (view.getUint16(DRIVER + 2, true) + (random(16) === 0 ? random(0x1_0000) : 1 + random(3))) & 0xffff;
  for (let i = 0; i < size; i++)
    view.setUint16(DRIVER + 4 + 2 * i, random(size + (random(16) === 0 ? 40 : 0)), true);
  view.setUint16(DRIVER + 2, index, true);
}

/** What a driver must not do while its device runs. */
function misbehave(view: DataView, mmio: MmioDevice, size: number, random: (limit: number) => number): void {
  switch (random(20)) {
    case 0:
      view.setUint32(TABLE + 4 * random(4 * size), random(0xffff_ffff), true);
      break;
    case 1:
      writeMmio(mmio, 4 * random(0x50), 4, random(0xffff_ffff));
      break;
    case 2:
      writeMmio(mmio, R.status, 4, 0);
      break;
    case 3:
      writeMmio(mmio, R.queueReady, 4, 0);
      break;
    case 4:
      view.setUint32(DRIVER + 4 * random(16), random(0xffff_ffff), true);
      break;
    case 5:
    case 6:
      view.setUint32(TABLE + 16 * random(size) + 12, random(0xffff_ffff), true);
  }
}

function putDescriptor(
  view: DataView,
  at: number,
  size: number,
  packed: boolean,
  random: (limit: number) => number,
): void {
  const wild = random(24);
  const address =
    wild === 0 ? random(0xffff_ffff) : random(4) === 0 ? BUFFERS + 32 * random(4) : BUFFERS + random(0x8000);
  const length = wild === 1 ? random(0xffff_ffff) : random(3) === 0 ? 512 * (1 + random(8)) : 1 + random(64);
  view.setUint32(at, address, true);
  view.setUint32(at + 4, wild === 2 ? random(0xffff_ffff) : 0, true);
  const indirect = random(6) === 0;
  view.setUint32(at + 8, indirect ? 16 * (1 + random(4)) : length, true);
  const flags = (random(3) === 0 ? 1 : 0) | (random(2) === 0 ? 2 : 0) | (indirect ? 4 : 0);
  const turn = random(8) === 0 ? random(4) * 0x40 : 0x80;
  view.setUint16(at + 12, packed ? random(size + 1) : flags, true);
  view.setUint16(at + 14, packed ? flags | turn : random(size + (wild === 3 ? 100 : 0)), true);
  // An indirect table where it may be looked for.
  if (indirect && address + 64 < RAM_BYTES) {
    for (let i = 0; i < 4; i++) {
      view.setUint32(address + 16 * i, BUFFERS + random(0x8000), true);
      view.setUint32(address + 16 * i + 4, random(40) === 0 ? 1 : 0, true);
      view.setUint32(address + 16 * i + 8, random(2) === 0 ? 16 : 512, true);
      view.setUint32(address + 16 * i + 12, random(8) | (random(5) << 16), true);
    }
  }
}

/** A header that is right as a rule. */
function putRequest(view: DataView, at: number, random: (limit: number) => number): void {
  const types = [0, 1, 4, 8, 11, 13, 99, 2];
  view.setUint32(at, types[random(types.length)]!, true);
  view.setUint32(at + 8, random(random(4) === 0 ? 0xffff_ffff : SECTORS), true);
  view.setUint32(at + 12, random(16) === 0 ? random(0xffff_ffff) : 0, true);
  view.setUint32(at + 16, random(SECTORS), true);
  view.setUint32(at + 20, 0, true);
  view.setUint32(at + 24, random(4), true);
  view.setUint32(at + 28, random(2), true);
}
