/** Guests for tests of devices inside the sandbox, for the disk at the first place of the bus. */
import { PORT } from '../../src/machine/ports.ts';
import { asm, u32 } from './tiny-guest.ts';
import { AVAIL, DATA, USED, virtioAsm, virtioImage, type GuestBuffer } from './virtio-guest.ts';

export const SECTOR = 512;
const { start, offer, waitUsed, write } = virtioAsm;
export const BLOCK_REQUEST_TYPE = { read: 0, write: 1, flush: 4, discard: 11, zero: 13 } as const;
const HEADER_BYTES = 16;

/** Everything that requests need, one after the other from DATA on. */
export class BlockRequests {
  readonly chains: GuestBuffer[][] = [];
  #data = Buffer.alloc(0);

  /** Bytes at DATA, before the first request. */
  reserve(bytes: number, value: number): void {
    this.#data = Buffer.alloc(bytes, value);
  }

  /** Adds a request whose data, if it has any, lies at `dataAt` or right behind its header. Returns where its status goes. */
  add(type: number, sector: number, bytes: number, dataAt?: number, content?: Uint8Array): number {
    const at = DATA + this.#data.length;
    const header = Buffer.alloc(HEADER_BYTES);
    header.writeUInt32LE(type, 0);
    header.writeUInt32LE(sector, 8);
    const own = dataAt === undefined ? bytes : 0;
    const statusAt = at + HEADER_BYTES + own;
    this.chains.push([
      { address: at, length: HEADER_BYTES },
      ...(bytes > 0
        ? [
            {
              address: dataAt ?? at + HEADER_BYTES,
              length: bytes,
              writable: type === BLOCK_REQUEST_TYPE.read,
            },
          ]
        : []),
      { address: statusAt, length: 1, writable: true },
    ]);
    const body = Buffer.alloc(own);
    if (content) body.set(content);
    this.#data = Buffer.concat([this.#data, header, body, Buffer.of(0xaa)]);
    return statusAt;
  }

  get data(): Uint8Array {
    return this.#data;
  }
}

/**
 * Reads sector 0, adds one to its first byte, writes it, flushes, prints that byte and the three statuses, and resets
 * the machine, until the byte has come to `lives`: then it ends with 0.
 */
export function countingGuest(lives: number): Uint8Array {
  const requests = new BlockRequests();
  const counter = DATA + HEADER_BYTES;
  const statuses = [
    requests.add(BLOCK_REQUEST_TYPE.read, 0, SECTOR),
    requests.add(BLOCK_REQUEST_TYPE.write, 0, SECTOR, counter),
    requests.add(BLOCK_REQUEST_TYPE.flush, 0, 0),
  ];
  const code = [
    [...start(), ...offer(1), ...waitUsed(1)],
    [0xfe, 0x05, ...u32(counter)], // inc byte [counter]
    [...offer(2), ...waitUsed(2), ...offer(3), ...waitUsed(3)],
    [counter, ...statuses].flatMap((at) => asm.printMemory(at, 1)),
    [0x80, 0x3d, ...u32(counter), lives, ...asm.ifZero(asm.exit(0))], // cmp byte [counter], lives
    [...asm.out8(PORT.i8042Command, 0xfe), ...asm.halt()],
  ];
  return virtioImage(code, requests.chains, requests.data);
}

/** Discards sectors 0 to 7 and writes zeroes over 8 to 15, and prints both statuses. */
export function discardingGuest(): Uint8Array {
  const requests = new BlockRequests();
  const segment = (sector: number) => new Uint8Array(Uint32Array.of(sector, 0, 8, 0).buffer);
  const statuses = [
    requests.add(BLOCK_REQUEST_TYPE.discard, 0, 16, undefined, segment(0)),
    requests.add(BLOCK_REQUEST_TYPE.zero, 0, 16, undefined, segment(8)),
  ];
  const features = (1 << 13) | (1 << 14);
  const code = [
    [...start(features), ...offer(1), ...waitUsed(1), ...offer(2), ...waitUsed(2)],
    statuses.flatMap((at) => asm.printMemory(at, 1)),
    asm.exit(0),
  ];
  return virtioImage(code, requests.chains, requests.data);
}

/** Reads and writes sector 1 for ever, one request after the other, and says so once. */
export function busyDiskGuest(): Uint8Array {
  const requests = new BlockRequests();
  requests.add(BLOCK_REQUEST_TYPE.read, 1, SECTOR);
  requests.add(BLOCK_REQUEST_TYPE.write, 1, SECTOR);
  const next = [
    ...[...asm.readEax(AVAIL), 0x05, ...u32(0x1_0000), ...asm.storeEax(AVAIL)], // add eax, 0x10000
    ...write(0x50, 0), // QueueNotify
    ...asm.untilZero([...asm.readEax(USED), 0x2b, 0x05, ...u32(AVAIL)]), // sub eax, [AVAIL]
  ];
  const code = [start(), next, asm.print('busy\n'), asm.forEver(next)];
  const order = Array.from({ length: 8 }, (_, i) => i % 2);
  return virtioImage(code, requests.chains, requests.data, order);
}

/** Takes 16 random bytes, prints the word "up", and resets the machine, for ever. */
export function resettingRandomGuest(): Uint8Array {
  const chains = [[{ address: DATA, length: 16, writable: true }]];
  const code = [
    [...start(), ...offer(1), ...waitUsed(1), ...asm.print('up\n')],
    [...asm.out8(PORT.i8042Command, 0xfe), ...asm.halt()],
  ];
  return virtioImage(code, chains, new Uint8Array(16));
}
