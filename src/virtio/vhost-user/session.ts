/**
 * The front-end of one vhost-user connection: its requests, and checks of the replies. The back-end is not
 * trusted: any reply but the expected one ends the session. (QEMU docs/interop/vhost-user.rst)
 */
import type { QueueSetup } from '../transport/queue.ts';
import {
  encodeMemTable,
  encodeMessage,
  encodeU64,
  encodeVringAddress,
  encodeVringState,
  NO_PAYLOAD,
  replyProblem,
  type FeatureWords,
  type VhostRegion,
} from './message.ts';
import {
  PROTOCOL_FEATURES_BIT,
  VHOST_HEADER,
  VHOST_PROTOCOL_FEATURE,
  VRING_STATE,
  type VhostRequestName,
} from './regs.ts';

/** The back-end failed. `message` is a clause that follows its name, such as "hung up". */
export class VhostUserError extends Error {}

/** A stream to the back-end, with a time limit. All functions throw VhostUserError. */
export interface VhostLink {
  /** Sends `message`; `fds` accompany its first byte. */
  send(message: Uint8Array, fds: readonly number[]): void;
  /** Receives exactly `target.length` bytes. File descriptors that accompany them are discarded. */
  receive(target: Uint8Array): void;
}

/** Result of feature negotiation with the back-end, once per connection. */
export interface VhostAgreement {
  /** Virtio feature bits that the back-end offers. */
  readonly features: FeatureWords;
  /** Whether protocol features were negotiated; rings then start disabled. */
  readonly protocolFeatures: boolean;
  /** Whether the back-end acknowledges every message (REPLY_ACK). */
  readonly acknowledges: boolean;
  /** Most queues that the back-end supports; undefined if it does not say. */
  readonly queues: number | undefined;
}

/** A virtqueue as the driver set it up, and the eventfds of its notifications. */
export interface VhostRing {
  readonly index: number;
  readonly setup: QueueSetup;
  readonly kickFd: number;
  readonly callFd: number;
}

/** A region and the file descriptor to map it from. */
export interface SharedRegion extends VhostRegion {
  readonly fd: number;
}

const PROTOCOL_FEATURES_MASK = 1 << PROTOCOL_FEATURES_BIT;
const MULTI_QUEUE_MASK = 1 << VHOST_PROTOCOL_FEATURE.multiQueue;
const REPLY_ACK_MASK = 1 << VHOST_PROTOCOL_FEATURE.replyAck;
const U64_BYTES = 8;

/** Negotiates features: the first exchange on a connection. */
export function negotiate(link: VhostLink): VhostAgreement {
  const [low, high] = queryU64(link, 'getFeatures');
  const protocolFeatures = (low & PROTOCOL_FEATURES_MASK) !== 0;
  let shared = 0;
  if (protocolFeatures) {
    shared = queryU64(link, 'getProtocolFeatures')[0] & (MULTI_QUEUE_MASK | REPLY_ACK_MASK);
    link.send(encodeMessage('setProtocolFeatures', encodeU64([shared, 0]), false), []);
  }
  const acknowledges = (shared & REPLY_ACK_MASK) !== 0;
  const [queues, more] = shared & MULTI_QUEUE_MASK ? queryU64(link, 'getQueueNum') : [undefined, 0];
  sendRequest(link, acknowledges, 'setOwner', NO_PAYLOAD);
  return {
    features: [low & ~PROTOCOL_FEATURES_MASK, high],
    protocolFeatures,
    acknowledges,
    queues: queues === undefined || more > 0 ? undefined : queues >>> 0,
  };
}

/** Shares RAM with the back-end and starts the rings. It accesses both until `stopRings` returns. */
export function startRings(
  link: VhostLink,
  { protocolFeatures, acknowledges }: VhostAgreement,
  features: FeatureWords,
  regions: readonly SharedRegion[],
  rings: readonly VhostRing[],
): void {
  const send = (name: VhostRequestName, payload: Uint8Array, fds: readonly number[] = []) =>
    sendRequest(link, acknowledges, name, payload, fds);
  const [low, high] = features;
  send('setFeatures', encodeU64([low | (protocolFeatures ? PROTOCOL_FEATURES_MASK : 0), high]));
  send(
    'setMemTable',
    encodeMemTable(regions),
    regions.map(({ fd }) => fd),
  );
  for (const { index, setup, callFd, kickFd } of rings) {
    send('setVringNum', encodeVringState(index, setup.size));
    send('setVringBase', encodeVringState(index, 0));
    send('setVringAddr', encodeVringAddress(index, setup));
    // Some back-ends start a ring on SET_VRING_KICK and need its call eventfd by then.
    send('setVringCall', encodeU64([index, 0]), [callFd]);
    send('setVringKick', encodeU64([index, 0]), [kickFd]);
  }
  if (!protocolFeatures) return;
  for (const { index } of rings) send('setVringEnable', encodeVringState(index, 1));
}

/** Stops rings. Once this returns, the back-end no longer accesses them. */
export function stopRings(link: VhostLink, indexes: readonly number[]): void {
  for (const index of indexes) {
    link.send(encodeMessage('getVringBase', encodeVringState(index, 0), false), []);
    const state = receiveReply(link, 'getVringBase', VRING_STATE.size);
    const found = state.getUint32(VRING_STATE.index, true);
    if (found !== index) throw new VhostUserError(`stopped queue ${found} instead of ${index}`);
  }
}

/** Sends a request that has no reply but the acknowledgement. */
function sendRequest(
  link: VhostLink,
  acknowledges: boolean,
  name: VhostRequestName,
  payload: Uint8Array,
  fds: readonly number[] = [],
): void {
  link.send(encodeMessage(name, payload, acknowledges), fds);
  if (!acknowledges) return;
  const result = receiveReply(link, name, U64_BYTES);
  if (result.getUint32(0, true) !== 0 || result.getUint32(4, true) !== 0)
    throw new VhostUserError(`refused the message ${name}`);
}

/** Sends a request whose reply is a u64. */
function queryU64(link: VhostLink, name: VhostRequestName): FeatureWords {
  link.send(encodeMessage(name, NO_PAYLOAD, false), []);
  const payload = receiveReply(link, name, U64_BYTES);
  return [payload.getUint32(0, true), payload.getUint32(4, true)];
}

/** Receives a reply with exactly `bytes` bytes of payload. */
function receiveReply(link: VhostLink, name: VhostRequestName, bytes: number): DataView {
  const header = new Uint8Array(VHOST_HEADER.size);
  link.receive(header);
  // The length is checked before any byte of the payload is read.
  const problem = replyProblem(name, header, bytes);
  if (problem !== undefined) throw new VhostUserError(problem);
  const payload = new Uint8Array(bytes);
  link.receive(payload);
  return new DataView(payload.buffer);
}
