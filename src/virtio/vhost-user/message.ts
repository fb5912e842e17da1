/** Messages of the vhost-user protocol as bytes. (QEMU docs/interop/vhost-user.rst) */
import { putU64 } from '../../binary/bytes.ts';
import type { QueueSetup } from '../transport/queue.ts';
import {
  DEVICE_CONFIG,
  INFLIGHT,
  LOG_REGION,
  MAX_VHOST_REGIONS,
  MEM_REGION,
  MEM_TABLE,
  VHOST_FLAG,
  VHOST_HEADER,
  VHOST_REQUEST,
  VRING_ADDRESS,
  VRING_LOG,
  VRING_STATE,
  type VhostRequestName,
} from './regs.ts';

/** A u64 of feature bits as two words, as in the transport's registers. */
export type FeatureWords = readonly [low: number, high: number];

/** A region of guest RAM that the back-end maps from a file descriptor sent with the message. */
export interface VhostRegion {
  readonly address: number;
  readonly bytes: number;
  readonly fileOffset: number;
}

/**
 * The protocol gives ring addresses in the front-end's address space, which the back-end translates by the
 * memory table. Any consistent numbers work. Guest addresses plus this base do not disclose Volt's own
 * address space.
 */
const USER_BASE = 2 ** 44;

/** One message: header and payload. */
export function encodeMessage(
  name: VhostRequestName,
  payload: Uint8Array,
  needsReply: boolean,
): Uint8Array<ArrayBuffer> {
  const message = new Uint8Array(VHOST_HEADER.size + payload.length);
  const view = new DataView(message.buffer);
  view.setUint32(VHOST_HEADER.request, VHOST_REQUEST[name], true);
  view.setUint32(VHOST_HEADER.flags, VHOST_FLAG.version | (needsReply ? VHOST_FLAG.needReplyBit : 0), true);
  view.setUint32(VHOST_HEADER.bytes, payload.length, true);
  message.set(payload, VHOST_HEADER.size);
  return message;
}

export const NO_PAYLOAD = new Uint8Array(0);

export function encodeU64([low, high]: FeatureWords): Uint8Array {
  return new Uint8Array(Uint32Array.of(low, high).buffer);
}

export function encodeVringState(index: number, num: number): Uint8Array {
  const payload = new Uint8Array(VRING_STATE.size);
  const view = new DataView(payload.buffer);
  view.setUint32(VRING_STATE.index, index, true);
  view.setUint32(VRING_STATE.num, num, true);
  return payload;
}

export function encodeVringAddress(index: number, setup: QueueSetup, logged = false): Uint8Array {
  const payload = new Uint8Array(VRING_ADDRESS.size);
  const view = new DataView(payload.buffer);
  view.setUint32(VRING_ADDRESS.index, index, true);
  putU64(view, VRING_ADDRESS.descriptors, USER_BASE + setup.descriptors);
  putU64(view, VRING_ADDRESS.used, USER_BASE + setup.device);
  putU64(view, VRING_ADDRESS.available, USER_BASE + setup.driver);
  if (logged) {
    view.setUint32(VRING_ADDRESS.flags, VRING_LOG, true);
    putU64(view, VRING_ADDRESS.log, setup.device);
  }
  return payload;
}

/** Asks for `bytes` bytes from the start of the configuration space; the reply has the same length. */
export function encodeConfigRequest(bytes: number): Uint8Array {
  const payload = new Uint8Array(DEVICE_CONFIG.content + bytes);
  new DataView(payload.buffer).setUint32(DEVICE_CONFIG.bytes, bytes, true);
  return payload;
}

/** A region for the log of written pages, from the start of its file. */
export function encodeLogRegion(bytes: number): Uint8Array {
  const payload = new Uint8Array(LOG_REGION.size);
  putU64(new DataView(payload.buffer), LOG_REGION.bytes, bytes);
  return payload;
}

/** A region in which the back-end notes the requests in flight, from the start of its file. */
export function encodeInflightRegion(bytes: number, queues: number, queueSize: number): Uint8Array {
  const payload = new Uint8Array(INFLIGHT.size);
  const view = new DataView(payload.buffer);
  putU64(view, INFLIGHT.bytes, bytes);
  view.setUint16(INFLIGHT.queues, queues, true);
  view.setUint16(INFLIGHT.queueSize, queueSize, true);
  return payload;
}

/** The memory table: all guest RAM. The regions' file descriptors accompany the message in the same order. */
export function encodeMemTable(regions: readonly VhostRegion[]): Uint8Array {
  if (regions.length > MAX_VHOST_REGIONS)
    throw new RangeError(
      `Cannot encode a memory table: it has ${regions.length} regions (expected at most ${MAX_VHOST_REGIONS})`,
    );
  const payload = new Uint8Array(MEM_TABLE.regions + regions.length * MEM_REGION.size);
  const view = new DataView(payload.buffer);
  view.setUint32(MEM_TABLE.count, regions.length, true);
  regions.forEach(({ address, bytes, fileOffset }, i) => {
    const at = MEM_TABLE.regions + i * MEM_REGION.size;
    putU64(view, at + MEM_REGION.guestAddress, address);
    putU64(view, at + MEM_REGION.bytes, bytes);
    putU64(view, at + MEM_REGION.userAddress, USER_BASE + address);
    putU64(view, at + MEM_REGION.mapOffset, fileOffset);
  });
  return payload;
}

/** Why `header` is not that of a reply to `name` with `bytes` bytes of payload; undefined if it is. */
export function replyProblem(name: VhostRequestName, header: Uint8Array, bytes: number): string | undefined {
  const view = new DataView(header.buffer, header.byteOffset, VHOST_HEADER.size);
  const request = view.getUint32(VHOST_HEADER.request, true);
  if (request !== VHOST_REQUEST[name]) return `answered ${VHOST_REQUEST[name]} with a message ${request}`;
  const flags = view.getUint32(VHOST_HEADER.flags, true);
  if ((flags & VHOST_FLAG.versionMask) !== VHOST_FLAG.version || !(flags & VHOST_FLAG.replyBit))
    return `answered ${request} with flags 0x${flags.toString(16)}`;
  const found = view.getUint32(VHOST_HEADER.bytes, true);
  return found === bytes ? undefined : `answered ${request} with ${found} bytes instead of ${bytes}`;
}
