/**
 * The front-end of one vhost-user connection: its requests, and checks of the replies. The back-end is not
 * trusted: any reply but the expected one ends the session. (QEMU docs/interop/vhost-user.rst)
 */
import type { QueueSetup } from '../transport/queue.ts';
import {
  encodeConfigRequest,
  encodeInflightRegion,
  encodeLogRegion,
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
  DEVICE_CONFIG,
  LOG_ALL_BIT,
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
  /** Whether the back-end tells its configuration space (CONFIG). */
  readonly hasConfig: boolean;
  /** Whether the back-end notes the pages that it writes (LOG_SHMFD, LOG_ALL). */
  readonly logs: boolean;
  /** Whether the back-end notes the requests in flight (INFLIGHT_SHMFD). */
  readonly tracksInflight: boolean;
}

/** Protocol features to negotiate besides those that every device uses. */
export interface VhostWishes {
  readonly config?: boolean;
  readonly log?: boolean;
  /**
   * `always`: also where the back-end does not offer it. libvhost-user implements INFLIGHT_SHMFD for all of its
   * back-ends, and leaves it to them to offer it, which qemu-storage-daemon does not do.
   */
  readonly inflight?: 'offered' | 'always';
}

/** Memory besides guest RAM that is shared with the back-end. */
export interface VhostRegions {
  readonly inflight?: InflightRegion | undefined;
  readonly log?: { readonly fd: number; readonly bytes: number } | undefined;
}

export interface InflightRegion {
  readonly fd: number;
  readonly bytes: number;
  readonly queues: number;
  readonly queueSize: number;
}

/** A virtqueue as the driver set it up, and the eventfds of its notifications. */
export interface VhostRing {
  readonly index: number;
  readonly setup: QueueSetup;
  readonly kickFd: number;
  readonly callFd: number;
  /** Index in the available ring at which the back-end starts; 0 by default. */
  readonly base?: number;
}

/** A region and the file descriptor to map it from. */
export interface SharedRegion extends VhostRegion {
  readonly fd: number;
}

const PROTOCOL_FEATURES_MASK = 1 << PROTOCOL_FEATURES_BIT;
const MULTI_QUEUE_MASK = 1 << VHOST_PROTOCOL_FEATURE.multiQueue;
const REPLY_ACK_MASK = 1 << VHOST_PROTOCOL_FEATURE.replyAck;
const LOG_MASK = 1 << VHOST_PROTOCOL_FEATURE.logShmFd;
const CONFIG_MASK = 1 << VHOST_PROTOCOL_FEATURE.config;
const INFLIGHT_MASK = 1 << VHOST_PROTOCOL_FEATURE.inflightShmFd;
const LOG_ALL_MASK = 1 << LOG_ALL_BIT;
const U64_BYTES = 8;

/** Negotiates features: the first exchange on a connection. */
export function negotiate(link: VhostLink, wishes: VhostWishes = {}): VhostAgreement {
  requestFeatures(link);
  return finishNegotiation(link, wishes);
}

/** The first half of `negotiate`, which does not wait. A back-end that starts answers it when it is ready. */
export function requestFeatures(link: VhostLink): void {
  link.send(encodeMessage('getFeatures', NO_PAYLOAD, false), []);
}

export function finishNegotiation(link: VhostLink, wishes: VhostWishes): VhostAgreement {
  const [low, high] = receiveU64(link, 'getFeatures');
  const protocolFeatures = (low & PROTOCOL_FEATURES_MASK) !== 0;
  let shared = 0;
  if (protocolFeatures) {
    const wanted =
      (wishes.config ? CONFIG_MASK : 0) |
      (wishes.log && low & LOG_ALL_MASK ? LOG_MASK : 0) |
      (wishes.inflight ? INFLIGHT_MASK : 0);
    const offered = queryU64(link, 'getProtocolFeatures')[0];
    shared = offered & (MULTI_QUEUE_MASK | REPLY_ACK_MASK | wanted);
    if (wishes.inflight === 'always') shared |= INFLIGHT_MASK;
    link.send(encodeMessage('setProtocolFeatures', encodeU64([shared, 0]), false), []);
  }
  const acknowledges = (shared & REPLY_ACK_MASK) !== 0;
  const [queues, more] = shared & MULTI_QUEUE_MASK ? queryU64(link, 'getQueueNum') : [undefined, 0];
  sendRequest(link, acknowledges, 'setOwner', NO_PAYLOAD);
  return {
    features: [low & ~(PROTOCOL_FEATURES_MASK | LOG_ALL_MASK), high],
    protocolFeatures,
    acknowledges,
    queues: queues === undefined || more > 0 ? undefined : queues >>> 0,
    hasConfig: (shared & CONFIG_MASK) !== 0,
    logs: (shared & LOG_MASK) !== 0,
    tracksInflight: (shared & INFLIGHT_MASK) !== 0,
  };
}

/** Whether the back-end takes an inflight region: one that did not offer to may refuse it, or hang up. */
export function acceptsInflight(link: VhostLink, agreement: VhostAgreement, region: InflightRegion): boolean {
  // Without acknowledgements it shows too late.
  if (!agreement.acknowledges) return false;
  try {
    sendInflight(link, true, region);
    return true;
  } catch (error) {
    if (error instanceof VhostUserError) return false;
    throw error;
  }
}

function sendInflight(
  link: VhostLink,
  acknowledges: boolean,
  { fd, bytes, queues, queueSize }: InflightRegion,
): void {
  const payload = encodeInflightRegion(bytes, queues, queueSize);
  sendRequest(link, acknowledges, 'setInflightFd', payload, [fd]);
}

/** The first `bytes` bytes of the device's configuration space. */
export function readConfig(link: VhostLink, bytes: number): Uint8Array {
  link.send(encodeMessage('getConfig', encodeConfigRequest(bytes), false), []);
  const { buffer } = receiveReply(link, 'getConfig', DEVICE_CONFIG.content + bytes);
  return new Uint8Array(buffer, DEVICE_CONFIG.content);
}

/** Shares RAM with the back-end and starts the rings. It accesses both until `stopRings` returns. */
export function startRings(
  link: VhostLink,
  { protocolFeatures, acknowledges }: VhostAgreement,
  features: FeatureWords,
  regions: readonly SharedRegion[],
  rings: readonly VhostRing[],
  { inflight, log }: VhostRegions = {},
): void {
  const send = (name: VhostRequestName, payload: Uint8Array, fds: readonly number[] = []) =>
    sendRequest(link, acknowledges, name, payload, fds);
  const [low, high] = features;
  const own = (protocolFeatures ? PROTOCOL_FEATURES_MASK : 0) | (log ? LOG_ALL_MASK : 0);
  send('setFeatures', encodeU64([low | own, high]));
  if (inflight) sendInflight(link, acknowledges, inflight);
  send(
    'setMemTable',
    encodeMemTable(regions),
    regions.map(({ fd }) => fd),
  );
  if (log) {
    // Always answered, whatever REPLY_ACK says.
    link.send(encodeMessage('setLogBase', encodeLogRegion(log.bytes), false), [log.fd]);
    receiveU64(link, 'setLogBase');
  }
  for (const { index, setup, callFd, kickFd, base = 0 } of rings) {
    send('setVringNum', encodeVringState(index, setup.size));
    send('setVringBase', encodeVringState(index, base));
    send('setVringAddr', encodeVringAddress(index, setup, log !== undefined));
    // Some back-ends start a ring on SET_VRING_KICK and need its call eventfd by then.
    send('setVringCall', encodeU64([index, 0]), [callFd]);
    send('setVringKick', encodeU64([index, 0]), [kickFd]);
  }
  if (!protocolFeatures) return;
  for (const { index } of rings) send('setVringEnable', encodeVringState(index, 1));
}

/**
 * Stops rings: the back-end takes no more requests. Returns the index in the available ring at which each of them
 * stopped. A back-end should complete what it has taken before it answers, but not all of them do.
 */
export function stopRings(link: VhostLink, indexes: readonly number[]): number[] {
  return indexes.map((index) => {
    link.send(encodeMessage('getVringBase', encodeVringState(index, 0), false), []);
    const state = receiveReply(link, 'getVringBase', VRING_STATE.size);
    const found = state.getUint32(VRING_STATE.index, true);
    if (found !== index) throw new VhostUserError(`stopped queue ${found} instead of ${index}`);
    return state.getUint32(VRING_STATE.num, true) & 0xffff;
  });
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
  return receiveU64(link, name);
}

function receiveU64(link: VhostLink, name: VhostRequestName): FeatureWords {
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
