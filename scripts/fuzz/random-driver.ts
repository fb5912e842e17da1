/**
 * A driver that makes random choices, behind the real transport and real rings. It is honest for a while:
 * then the device has to serve it, answer each chain once, and never give up on it. When it has done what no
 * driver does, the device may give up on it, until it is reset; but it must never reach what is not RAM.
 */
import type { DeviceDescription, VirtioDevice } from '../../src/virtio/transport/device.ts';
import type { DeviceKind } from '../../src/virtio/host/specs.ts';
import { FEATURE, MMIO_REGISTER as R } from '../../src/virtio/transport/mmio.regs.ts';
import { choicesOf } from './target.ts';
import { createDeviceBench, RING_SPACE, type BenchQueue } from '../../test/unit/virtio/device-bench.ts';
import {
  createTestRam,
  DESCRIPTORS,
  DEVICE_AREA,
  DRIVER_AREA,
  HOST_BASE,
  type TestBuffer,
} from '../../test/unit/virtio/test-ram.ts';

export type Choose = (limit: number) => number;

/**
 * Says at each step whether the machine is to move now. Half of all inputs never do; none spends a choice on it, so that
 * inputs mean what they meant.
 */
export function movesOf(input: Uint8Array): () => boolean {
  const hash = Bun.hash.xxHash32(input);
  if (hash % 2 === 0) return () => false;
  const choose = choicesOf(Uint8Array.of(hash & 0xff, (hash >>> 8) & 0xff, hash >>> 24));
  return () => choose(16) === 0;
}

const RAM_BYTES = 0x10_0000;
/** Made once: a new one for each input would take longer than the input. */
const memory = createTestRam(RAM_BYTES);
const DESCRIPTOR_BYTES = 16;

interface Chain {
  readonly buffers: readonly TestBuffer[];
  readonly slots: number;
}

/** A chain that came back. */
export interface UsedChain {
  readonly buffers: readonly TestBuffer[];
  readonly written: number;
}

export class RandomDriver {
  readonly choose: Choose;
  readonly ringSize: number;
  queues: BenchQueue[] = [];
  honest = true;
  /** What is known of the life before is over. */
  onRestart = () => {};
  /** How often the device gave up on it, and chains came back. */
  gaveUp = 0;
  served = 0;
  readonly #bench: ReturnType<typeof createDeviceBench>;
  readonly #queueCount: number;
  readonly #indirect: boolean;
  readonly #sizes: readonly number[];
  readonly #notifiesSeldom: boolean;
  #outstanding: Map<number, Chain>[] = [];
  #nextBuffer = 0;

  constructor(description: DeviceDescription, device: VirtioDevice, choose: Choose) {
    this.choose = choose;
    const features = description.features.filter(() => choose(4) > 0);
    if (choose(2) === 0) features.push(FEATURE.ringIndirectDesc);
    if (choose(4) === 0) features.push(FEATURE.ringEventIdx);
    this.#indirect = features.includes(FEATURE.ringIndirectDesc);
    this.#queueCount = description.queueSizes.length;
    this.ringSize = 8 << choose(6);
    this.#sizes = description.queueSizes.map((most) => Math.min(most, this.ringSize));
    this.#notifiesSeldom = choose(4) === 0;
    memory.bytes.fill(0);
    const packed = choose(2) === 0;
    this.#bench = createDeviceBench(description, device, features, {
      packed,
      ringSize: this.ringSize,
      memory,
    });
    this.features = new Set(features);
    this.restart();
  }

  /** Device features that it has agreed on. */
  readonly features: ReadonlySet<number>;

  get bytes(): Uint8Array {
    return memory.bytes;
  }

  get view(): DataView {
    return memory.view;
  }

  /** Resets the device and begins anew. */
  restart(): void {
    this.queues = this.#bench.start();
    this.#outstanding = this.queues.map(() => new Map<number, Chain>());
    this.#nextBuffer = this.#bench.buffers;
    this.honest = true;
    this.onRestart();
  }

  /** So many bytes of RAM that no chain has had in this life. A life that has used all up is over. */
  allocate(bytes: number): number {
    if (this.#nextBuffer + bytes > RAM_BYTES) this.restart();
    const at = this.#nextBuffer;
    this.#nextBuffer += bytes;
    return at;
  }

  /** `bytes` bytes in 1 to 4 buffers. */
  buffers(bytes: number, writable: boolean): TestBuffer[] {
    const pieces: TestBuffer[] = [];
    for (let left = bytes; left > 0;) {
      const length = pieces.length === 3 ? left : 1 + this.choose(left);
      pieces.push({ address: this.allocate(length), length, writable });
      left -= length;
    }
    return pieces;
  }

  /** Writes bytes over buffers, as far as they reach. */
  put(buffers: readonly TestBuffer[], bytes: Uint8Array): void {
    let done = 0;
    for (const { address, length } of buffers) {
      const piece = bytes.subarray(done, done + length);
      memory.bytes.set(piece, address);
      done += piece.length;
    }
  }

  /** The first bytes of buffers. */
  get(buffers: readonly TestBuffer[], bytes: number): Uint8Array {
    const all = buffers.map(({ address, length }) => memory.bytes.slice(address, address + length));
    return Buffer.concat(all).subarray(0, bytes);
  }

  /** How often a step is to be done: many times now and then. */
  times(): number {
    return this.choose(40) === 0 ? 1 + this.choose(300) : 1;
  }

  /** Makes a chain available and usually notifies the device. Returns false if the ring is full. */
  offer(queue: number, buffers: readonly TestBuffer[]): boolean {
    const pending = this.#outstanding[queue]!;
    const table = this.#indirect && this.choose(3) === 0 ? this.#table(buffers.length) : undefined;
    const slots = table === undefined ? buffers.length : 1;
    let used = 0;
    for (const chain of pending.values()) used += chain.slots;
    const size = this.#sizes[queue]!;
    if (slots === 0 || used + slots > size || pending.size >= size) return false;
    const id = this.queues[queue]!.add(buffers, table);
    pending.set(id, { buffers, slots });
    if (this.#notifiesSeldom ? this.choose(100) === 0 : this.choose(8) > 0) this.notify(queue);
    return true;
  }

  notify(queue: number): void {
    this.queues[queue]?.notify();
  }

  /** What came back of a queue, in order. Throws for what an honest driver must not see. */
  collect(queue: number): UsedChain[] {
    const pending = this.#outstanding[queue]!;
    const came: UsedChain[] = [];
    while (this.honest) {
      const used = this.queues[queue]!.takeUsed();
      if (!used) break;
      const chain = pending.get(used.id);
      if (!chain) throw new Error(`queue ${queue} gives back chain ${used.id}, which it does not have`);
      pending.delete(used.id);
      const room = chain.buffers.reduce((sum, { length, writable }) => sum + (writable ? length : 0), 0);
      if (used.written > room) throw new Error(`${used.written} bytes were written to ${room}`);
      came.push({ buffers: chain.buffers, written: used.written });
      this.served++;
    }
    return came;
  }

  /** How many chains of a queue have not come back. */
  pending(queue: number): number {
    return this.#outstanding[queue]!.size;
  }

  /** After each step: an honest driver is not given up on; others begin anew, sooner or later. */
  check(): void {
    if (!this.#bench.needsReset()) return;
    if (this.honest) throw new Error(`gave up on an honest driver: ${this.#bench.failures.at(-1)}`);
    if (this.choose(3) > 0) return;
    this.gaveUp++;
    this.restart();
  }

  /** What no driver does. */
  misbehave(): void {
    this.honest = false;
    const { choose } = this;
    const queue = choose(this.#queueCount);
    const ring = queue * RING_SPACE;
    const value = choose(4) === 0 ? choose(0xffff_ffff) : choose(0x100);
    switch (choose(8)) {
      case 0:
        return memory.view.setUint32(ring + DESCRIPTORS + 4 * choose(4 * this.ringSize), value, true);
      case 1:
        return memory.view.setUint32(ring + DRIVER_AREA + 4 * choose(this.ringSize), value, true);
      case 2:
        return memory.view.setUint16(ring + DEVICE_AREA + 2 * choose(2), value & 0xffff, true);
      case 3:
        return this.#bench.write(4 * choose(0x50), value);
      case 4:
        return this.#bench.write(R.status, 0);
      case 5:
        return this.#bench.write(R.config + choose(16), value, [1, 2, 4][choose(3)]);
      case 6:
        for (let i = 0; i < 16; i++) memory.bytes[choose(RAM_BYTES)] = choose(256);
        return;
      case 7:
        return this.#offerNonsense(queue);
    }
  }

  /** Goes on in another machine, where `device` serves it; its state goes there as the text of a snapshot. */
  move(kind: DeviceKind, device: VirtioDevice): void {
    this.#bench.move(kind, device);
  }

  /** At the end of its life. */
  stop(): void {
    this.#bench.runner.stop();
  }

  /** Keys of a device's configuration that its driver may write. */
  writeConfig(offset: number, value: number): void {
    this.#bench.write(R.config + offset, value);
  }

  readConfig(offset: number, size: 1 | 2 | 4): number {
    return this.#bench.read(R.config + offset, size);
  }

  get words(): string {
    const reasons = this.#bench.failures.map((reason) => reason.replace(/\d+/g, '#'));
    return [...new Set(reasons)].sort().join('; ');
  }

  /** Room for an indirect table; undefined where there is none left. */
  #table(entries: number): number | undefined {
    const bytes = DESCRIPTOR_BYTES * entries;
    const start = Math.ceil(this.#nextBuffer / DESCRIPTOR_BYTES) * DESCRIPTOR_BYTES;
    if (start + bytes > RAM_BYTES) return undefined;
    this.#nextBuffer = start + bytes;
    return start;
  }

  #offerNonsense(queue: number): void {
    const { choose } = this;
    const count = 1 + choose(4);
    const buffers = Array.from({ length: count }, (): TestBuffer => ({
      address: choose(3) === 0 ? choose(0xffff_ffff) : choose(RAM_BYTES),
      length: choose(8) === 0 ? choose(0xffff_ffff) : choose(3) === 0 ? 0 : choose(0x1000),
      writable: choose(2) === 0,
    }));
    this.queues[queue]!.offer(buffers);
  }
}

/** Throws unless this many bytes at a host address are RAM. Returns their guest address. */
export function guestAddressOf(host: number, bytes: number): number {
  const at = host - HOST_BASE;
  if (!(Number.isInteger(at) && at >= 0 && bytes > 0 && at + bytes <= RAM_BYTES))
    throw new Error(`asked for ${bytes} bytes at guest address ${at}`);
  return at;
}
