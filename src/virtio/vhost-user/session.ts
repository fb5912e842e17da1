/**
 * The front-end's side of one vhost-user connection: what is asked, and what may come back. The other process is not
 * trusted: an answer that is not the expected one, to the byte, ends the session. (QEMU docs/interop/vhost-user.rst)
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

/** The other process is of no use: `message` says what it did, and fits behind its name. */
export class VhostUserError extends Error {}

/** A stream to the other process that waits, but not for ever. All throw VhostUserError. */
export interface VhostLink {
  /** Descriptors go along with the first byte. */
  send(message: Uint8Array, fds: readonly number[]): void;
  /** Fills `target`. Descriptors that come along are dropped unseen. */
  receive(target: Uint8Array): void;
}

/** What both sides can do, settled once for the life of a connection. */
export interface VhostAgreement {
  /** Virtio's feature bits that the other side offers. */
  readonly features: FeatureWords;
  /** Whether rings are enabled by message. */
  readonly protocolFeatures: boolean;
  /** Whether every message can be acknowledged. */
  readonly acknowledges: boolean;
  /** Most queues it takes; undefined where it does not say. */
  readonly queues: number | undefined;
}

/** A ring as the driver set it up, and the eventfds that stand for its notifications. */
export interface VhostRing {
  readonly index: number;
  readonly setup: QueueSetup;
  readonly kickFd: number;
  readonly callFd: number;
}

/** A region, and the descriptor to map it from. */
export interface SharedRegion extends VhostRegion {
  readonly fd: number;
}

const PROTOCOL_FEATURES_MASK = 1 << PROTOCOL_FEATURES_BIT;
const MULTI_QUEUE_MASK = 1 << VHOST_PROTOCOL_FEATURE.multiQueue;
const REPLY_ACK_MASK = 1 << VHOST_PROTOCOL_FEATURE.replyAck;
const U64_BYTES = 8;

/** First of all on a new connection. */
export function negotiate(link: VhostLink): VhostAgreement {
  const [low, high] = askU64(link, 'getFeatures');
  const protocolFeatures = (low & PROTOCOL_FEATURES_MASK) !== 0;
  let shared = 0;
  if (protocolFeatures) {
    shared = askU64(link, 'getProtocolFeatures')[0] & (MULTI_QUEUE_MASK | REPLY_ACK_MASK);
    link.send(encodeMessage('setProtocolFeatures', encodeU64([shared, 0]), false), []);
  }
  const acknowledges = (shared & REPLY_ACK_MASK) !== 0;
  const [queues, more] = shared & MULTI_QUEUE_MASK ? askU64(link, 'getQueueNum') : [undefined, 0];
  tell(link, acknowledges, 'setOwner', NO_PAYLOAD);
  return {
    features: [low & ~PROTOCOL_FEATURES_MASK, high],
    protocolFeatures,
    acknowledges,
    queues: queues === undefined || more > 0 ? undefined : queues >>> 0,
  };
}

/** Hands rings and RAM over. The other side touches both from now on, until `stopRings` returns. */
export function startRings(
  link: VhostLink,
  { protocolFeatures, acknowledges }: VhostAgreement,
  features: FeatureWords,
  regions: readonly SharedRegion[],
  rings: readonly VhostRing[],
): void {
  const say = (name: VhostRequestName, payload: Uint8Array, fds: readonly number[] = []) =>
    tell(link, acknowledges, name, payload, fds);
  const [low, high] = features;
  say('setFeatures', encodeU64([low | (protocolFeatures ? PROTOCOL_FEATURES_MASK : 0), high]));
  say(
    'setMemTable',
    encodeMemTable(regions),
    regions.map(({ fd }) => fd),
  );
  for (const { index, setup, callFd, kickFd } of rings) {
    say('setVringNum', encodeVringState(index, setup.size));
    say('setVringBase', encodeVringState(index, 0));
    say('setVringAddr', encodeVringAddress(index, setup));
    // Some start at the kick descriptor, and then want to know already whom to call.
    say('setVringCall', encodeU64([index, 0]), [callFd]);
    say('setVringKick', encodeU64([index, 0]), [kickFd]);
  }
  if (!protocolFeatures) return;
  for (const { index } of rings) say('setVringEnable', encodeVringState(index, 1));
}

/** Takes rings back: when this returns, the other side has let go of them. */
export function stopRings(link: VhostLink, indexes: readonly number[]): void {
  for (const index of indexes) {
    link.send(encodeMessage('getVringBase', encodeVringState(index, 0), false), []);
    const state = receiveReply(link, 'getVringBase', VRING_STATE.size);
    const found = state.getUint32(VRING_STATE.index, true);
    if (found !== index) throw new VhostUserError(`stopped queue ${found} instead of ${index}`);
  }
}

/** A message that has no answer of its own. */
function tell(
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

function askU64(link: VhostLink, name: VhostRequestName): FeatureWords {
  link.send(encodeMessage(name, NO_PAYLOAD, false), []);
  const payload = receiveReply(link, name, U64_BYTES);
  return [payload.getUint32(0, true), payload.getUint32(4, true)];
}

/** The payload of an answer, which has exactly `bytes`. */
function receiveReply(link: VhostLink, name: VhostRequestName, bytes: number): DataView {
  const header = new Uint8Array(VHOST_HEADER.size);
  link.receive(header);
  // Its length is checked before a byte of the payload is read.
  const problem = replyProblem(name, header, bytes);
  if (problem !== undefined) throw new VhostUserError(problem);
  const payload = new Uint8Array(bytes);
  link.receive(payload);
  return new DataView(payload.buffer);
}
