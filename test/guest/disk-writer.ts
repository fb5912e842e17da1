/** A driver's load on a disk of a device machine. */
import { seededRandom } from '../unit/support/random.ts';
import { BUFFERS, RING_SIZE, type DeviceMachine, type DriverQueue } from './device-machine.ts';

export const SECTOR = 512;
export const SECTORS = 256;
/** Each request has its header, one sector of data and its status in so many bytes. */
const REQUEST_SPACE = 0x400;
const CHAIN_SLOTS = 3;
const MOST_REQUESTS = Math.floor(RING_SIZE / CHAIN_SLOTS);

/** Writes sectors, and checks that each request comes back once and well. */
export class DiskWriter {
  readonly expected = new Uint8Array(SECTORS * SECTOR);
  done = 0;
  offered = 0;
  readonly #queue: DriverQueue;
  readonly #random = seededRandom(7);
  readonly #free = Array.from({ length: MOST_REQUESTS }, (_, i) => BUFFERS + i * REQUEST_SPACE);
  readonly #busy = new Map<number, number>();

  constructor(queue: DriverQueue) {
    this.#queue = queue;
  }

  /** Makes a request available, if there is room, and notifies the device. */
  offer({ view, bytes }: DeviceMachine): void {
    const at = this.#free.pop();
    if (at === undefined) return;
    // Of two requests in flight for one sector anyone may be the last: each place has sectors of its own.
    const place = (at - BUFFERS) / REQUEST_SPACE;
    const sector = MOST_REQUESTS * this.#random.int(0, Math.floor(SECTORS / MOST_REQUESTS) - 1) + place;
    const data = this.#random.bytes(SECTOR);
    view.setUint32(at, 1, true);
    view.setUint32(at + 8, sector, true);
    bytes.set(data, at + 16);
    bytes[at + 0x300] = 0xaa;
    this.expected.set(data, sector * SECTOR);
    const id = this.#queue.add([
      { address: at, length: 16 },
      { address: at + 16, length: SECTOR },
      { address: at + 0x300, length: 1, writable: true },
    ]);
    this.offered++;
    this.#busy.set(id, at);
    this.#queue.notify();
  }

  collect({ bytes }: DeviceMachine): void {
    for (let used = this.#queue.takeUsed(); used; used = this.#queue.takeUsed()) {
      const at = this.#busy.get(used.id);
      if (at === undefined) throw new Error(`chain ${used.id} comes back, which is not out`);
      if (bytes[at + 0x300] !== 0) throw new Error(`status ${bytes[at + 0x300]}`);
      this.#busy.delete(used.id);
      this.#free.push(at);
      this.done++;
    }
  }
}
