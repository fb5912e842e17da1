/** Guest RAM over plain memory, and drivers of both kinds of ring, for tests. */
import { viewOf } from '../../../src/binary/bytes.ts';
import type { DirtyPages } from '../../../src/machine/dirty-pages.ts';
import { GuestRam } from '../../../src/virtio/transport/guest-ram.ts';
import type { QueueSetup } from '../../../src/virtio/transport/queue.ts';

export const HOST_BASE = 0x7000_0000_0000;

export interface TestRam {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly ram: GuestRam;
}

/** RAM from guest address 0. */
export function createTestRam(length: number): TestRam {
  return ramAt(new Uint8Array(length), HOST_BASE);
}

/** The same over memory that is there; `host` is what devices take for its address. */
export function ramAt(bytes: Uint8Array, host: number, dirty?: DirtyPages): TestRam {
  const open = (offset: number, size: number) => bytes.subarray(offset, offset + size);
  return {
    bytes,
    view: viewOf(bytes),
    ram: new GuestRam([{ address: 0, bytes: bytes.length, host, open }], dirty),
  };
}

export interface TestBuffer {
  readonly address: number;
  readonly length: number;
  readonly writable?: boolean;
}

/** Where the drivers below put their rings, for up to 256 entries; buffers and tables may start at 0x10000. */
export const DESCRIPTORS = 0x1000;
export const DRIVER_AREA = 0x3000;
export const DEVICE_AREA = 0x4000;
export const BUFFERS = 0x1_0000;

export function setupFor(size: number): QueueSetup {
  return { size, descriptors: DESCRIPTORS, driver: DRIVER_AREA, device: DEVICE_AREA };
}

export interface TestDriver {
  /** Makes a chain available and returns its id; `indirect` puts it into a table at that address. */
  add(buffers: readonly TestBuffer[], indirect?: number): number;
  /** The next chain that came back. */
  takeUsed(): { id: number; written: number } | undefined;
}

/** A driver of a split ring, which takes descriptors in order and reuses none. `base`: where the room for the ring begins. */
export function splitDriver({ view }: Pick<TestRam, 'view'>, size: number, base = 0): TestDriver {
  const [descriptors, driverArea, deviceArea] = [base + DESCRIPTORS, base + DRIVER_AREA, base + DEVICE_AREA];
  let [nextDescriptor, availIndex, usedIndex] = [0, 0, 0];
  return {
    add(buffers, indirect) {
      const head = nextDescriptor % size;
      if (indirect !== undefined) {
        buffers.forEach((buffer, i) => putSplit(view, indirect, i, buffer, i + 1, i + 1 < buffers.length));
        putWords(view, descriptors + 16 * head, indirect, 16 * buffers.length, 4, 0);
        nextDescriptor += 1;
      } else {
        buffers.forEach((buffer, i) =>
          putSplit(
            view,
            descriptors,
            (head + i) % size,
            buffer,
            (head + i + 1) % size,
            i + 1 < buffers.length,
          ),
        );
        nextDescriptor += buffers.length;
      }
      view.setUint16(driverArea + 4 + 2 * (availIndex % size), head, true);
      availIndex = (availIndex + 1) & 0xffff;
      view.setUint16(driverArea + 2, availIndex, true);
      return head;
    },
    takeUsed() {
      if (view.getUint16(deviceArea + 2, true) === usedIndex) return undefined;
      const entry = deviceArea + 4 + 8 * (usedIndex % size);
      usedIndex = (usedIndex + 1) & 0xffff;
      return { id: view.getUint32(entry, true), written: view.getUint32(entry + 4, true) };
    },
  };
}

/** A driver of a packed ring that gives ids 0, 1, 2, …, modulo the size. */
export function packedDriver({ view }: Pick<TestRam, 'view'>, size: number, base = 0): TestDriver {
  const descriptors = base + DESCRIPTORS;
  let [nextId, at, wrap, usedAt, usedWrap] = [0, 0, 1, 0, 1];
  const slotsOf = new Map<number, number>();
  const put = (address: number, length: number, flags: number, id: number) => {
    const turn = wrap === 1 ? 0x80 : 0x8000;
    putWords(view, descriptors + 16 * at, address, length, id, flags | turn);
    at++;
    if (at === size) [at, wrap] = [0, wrap ^ 1];
  };
  return {
    add(buffers, indirect) {
      const id = nextId++ % size;
      slotsOf.set(id, indirect === undefined ? buffers.length : 1);
      if (indirect !== undefined) {
        buffers.forEach((buffer, i) =>
          putWords(view, indirect + 16 * i, buffer.address, buffer.length, 0, buffer.writable ? 2 : 0),
        );
        put(indirect, 16 * buffers.length, 4, id);
      } else {
        buffers.forEach((buffer, i) =>
          put(
            buffer.address,
            buffer.length,
            (buffer.writable ? 2 : 0) | (i + 1 < buffers.length ? 1 : 0),
            id,
          ),
        );
      }
      return id;
    },
    takeUsed() {
      const flags = view.getUint16(descriptors + 16 * usedAt + 14, true);
      const [avail, used] = [(flags >> 7) & 1, (flags >> 15) & 1];
      if (avail !== usedWrap || used !== usedWrap) return undefined;
      const id = view.getUint16(descriptors + 16 * usedAt + 12, true);
      const written = view.getUint32(descriptors + 16 * usedAt + 8, true);
      usedAt += slotsOf.get(id)!;
      if (usedAt >= size) [usedAt, usedWrap] = [usedAt - size, usedWrap ^ 1];
      return { id, written };
    },
  };
}

function putSplit(
  view: DataView,
  table: number,
  index: number,
  buffer: TestBuffer,
  next: number,
  more: boolean,
) {
  const flags = (more ? 1 : 0) | (buffer.writable ? 2 : 0);
  putWords(view, table + 16 * index, buffer.address, buffer.length, flags, more ? next : 0);
}

/** u64, u32, u16, u16: a descriptor of either kind. */
export function putWords(
  view: DataView,
  at: number,
  address: number,
  length: number,
  a: number,
  b: number,
): void {
  view.setUint32(at, address % 2 ** 32, true);
  view.setUint32(at + 4, Math.floor(address / 2 ** 32), true);
  view.setUint32(at + 8, length, true);
  view.setUint16(at + 12, a, true);
  view.setUint16(at + 14, b, true);
}
