/**
 * The network device: pairs of receive and transmit queues, and a control queue. (Virtual I/O Device 1.2
 * §5.1)
 */
import type { DeviceContext, DeviceDescription, VirtioDevice } from '../transport/device.ts';
import { DEVICE_TYPE } from '../transport/mmio.regs.ts';
import type { GuestOffloads, NetEffects } from './port.ts';
import { Receiver } from './receive.ts';
import { Transmitter } from './transmit.ts';
import {
  ETHERNET_HEADER_BYTES,
  LARGEST_PACKET_BYTES,
  NET_ACK,
  NET_CONFIG,
  NET_CONTROL,
  NET_CONTROL_CLASS,
  NET_FEATURE as F,
  NET_GUEST_OFFLOADS_SET,
  NET_HEADER,
  NET_MQ_PAIRS_SET,
  NET_STATUS,
} from './regs.ts';
import { Chain, NEXT } from '../transport/queue.ts';
import { RateLimiter, type RateLimits } from '../transport/rate-limiter.ts';

const NET_QUEUE_SIZE = 256;
const CONTROL_QUEUE_SIZE = 16;
/** Class, command, and the longest data, a u64 of offloads. (§5.1.6.5) */
const CONTROL_BYTES = 10;
const CONTROL_COMMANDS_AT_ONCE = 64;

export interface NetOptions {
  /** Six bytes; without them the driver chooses an address. */
  readonly mac: Uint8Array | undefined;
  readonly pairs: number;
  /** Offered as VIRTIO_NET_F_MTU unless undefined. */
  readonly mtu: number | undefined;
  /** Whether the ports accept and deliver packets with partial checksums and pending segmentation. */
  readonly offloads: boolean;
}

/** Features, queues and configuration space. (§5.1.2 to §5.1.4) */
export function describeNet({ mac, pairs, mtu, offloads }: NetOptions): DeviceDescription {
  const control = offloads || pairs > 1;
  const config = new Uint8Array(NET_CONFIG.size);
  const view = new DataView(config.buffer);
  if (mac) config.set(mac, NET_CONFIG.mac);
  view.setUint16(NET_CONFIG.status, NET_STATUS.linkUpBit, true);
  view.setUint16(NET_CONFIG.maxQueuePairs, pairs, true);
  view.setUint16(NET_CONFIG.mtu, mtu ?? 0, true);
  return {
    type: DEVICE_TYPE.net,
    features: [
      F.mrgRxbuf,
      F.status,
      ...(mac ? [F.mac] : []),
      ...(mtu === undefined ? [] : [F.mtu]),
      ...(offloads ? OFFLOAD_FEATURES : []),
      ...(control ? [F.ctrlVq] : []),
      ...(pairs > 1 ? [F.mq] : []),
    ],
    queueSizes: [
      ...Array.from({ length: 2 * pairs }, () => NET_QUEUE_SIZE),
      ...(control ? [CONTROL_QUEUE_SIZE] : []),
    ],
    config,
  };
}

const OFFLOAD_FEATURES = [
  F.csum,
  F.guestCsum,
  F.ctrlGuestOffloads,
  F.guestTso4,
  F.guestTso6,
  F.guestEcn,
  F.guestUfo,
  F.hostTso4,
  F.hostTso6,
  F.hostEcn,
  F.hostUfo,
] as const;

export interface NetSettings {
  readonly pairs: number;
  /** The host's MTU in bytes, which bounds received packets while segmentation offloads are off. */
  readonly hostMtu: number;
  readonly receiveLimits: RateLimits;
  readonly transmitLimits: RateLimits;
}

export class NetDevice implements VirtioDevice {
  readonly #effects: NetEffects;
  readonly #settings: NetSettings;
  readonly #receiveLimiter: RateLimiter;
  readonly #transmitLimiter: RateLimiter;
  readonly #chain = new Chain();
  #context: DeviceContext | undefined;
  #receivers: (Receiver | undefined)[] = [];
  #transmitters: (Transmitter | undefined)[] = [];
  #controlQueue = 0;
  /** Offloads that the guest currently accepts in received packets. */
  #offloads: GuestOffloads = NO_OFFLOADS;
  #cancelTimer: (() => void) | undefined;
  #linkUp = true;

  constructor(effects: NetEffects, settings: NetSettings) {
    this.#effects = effects;
    this.#settings = settings;
    this.#receiveLimiter = new RateLimiter(settings.receiveLimits, effects.now());
    this.#transmitLimiter = new RateLimiter(settings.transmitLimits, effects.now());
  }

  activate(context: DeviceContext): void {
    const { pairs } = this.#settings;
    this.#context = context;
    const usedPairs = context.hasFeature(F.mq) ? pairs : 1;
    // The control queue follows the last negotiated pair, not the last one offered. (§5.1.2)
    this.#controlQueue = 2 * usedPairs;
    this.#offloads = offloadsOf((bit) => context.hasFeature(bit));
    this.#effects.setOffloads(this.#offloads);
    this.#effects.setActivePorts(1);
    const options = { mergeable: context.hasFeature(F.mrgRxbuf), maxPacketBytes: this.#maxPacketBytes() };
    for (let pair = 0; pair < usedPairs; pair++) {
      const [receive, transmit] = [2 * pair, 2 * pair + 1];
      const port = this.#effects.ports[pair]!;
      const [rx, tx] = [context.queues[receive], context.queues[transmit]];
      this.#receivers[pair] =
        rx && new Receiver(context, rx, receive, port, this.#effects, this.#receiveLimiter, options);
      this.#transmitters[pair] =
        tx && new Transmitter(context, tx, transmit, port, this.#effects, this.#transmitLimiter);
    }
    // The link may have changed while there was no driver to notify.
    const reportedUp = (context.config(NET_CONFIG.status) & NET_STATUS.linkUpBit) !== 0;
    if (reportedUp !== this.#linkUp) this.#reportLink(context);
  }

  reset(): void {
    this.#context = undefined;
    for (const receiver of this.#receivers.splice(0)) receiver?.stop();
    for (const transmitter of this.#transmitters.splice(0)) transmitter?.stop();
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
  }

  processQueue(queue: number): void {
    if (queue === this.#controlQueue) this.#processControlQueue();
    else if (queue % 2 === 0) this.#receivers[queue / 2]?.processQueue();
    else this.#transmitters[(queue - 1) / 2]?.processQueue();
  }

  /** This pair's port may have packets for the guest. */
  portReadable(pair: number): void {
    this.#receivers[pair]?.portReadable();
  }

  /** This pair's port accepts packets again. */
  portWritable(pair: number): void {
    this.#transmitters[pair]?.portWritable();
  }

  /** Sets the link status and reports it to the driver. False when it has not changed. */
  setLink(up: boolean): boolean {
    if (up === this.#linkUp) return false;
    this.#linkUp = up;
    if (this.#context) this.#reportLink(this.#context);
    return true;
  }

  #reportLink(context: DeviceContext): void {
    context.setConfig(NET_CONFIG.status, this.#linkUp ? LINK_UP : LINK_DOWN);
  }

  #maxPacketBytes(): number {
    const { tso4, tso6, ufo } = this.#offloads;
    if (tso4 || tso6 || ufo) return LARGEST_PACKET_BYTES;
    const vlanBytes = 4;
    return NET_HEADER.size + ETHERNET_HEADER_BYTES + vlanBytes + this.#settings.hostMtu;
  }

  #processControlQueue(): void {
    const context = this.#context;
    const queue = context?.queues[this.#controlQueue];
    if (!context || !queue || this.#cancelTimer) return;
    const chain = this.#chain;
    let left = CONTROL_COMMANDS_AT_ONCE;
    do {
      queue.disableNotifications();
      for (;;) {
        if (left-- === 0) {
          // A driver that floods this queue must not starve the other devices of this worker.
          context.interrupt(this.#controlQueue);
          this.#cancelTimer = this.#effects.after(1, () => {
            this.#cancelTimer = undefined;
            this.#processControlQueue();
          });
          return;
        }
        const next = queue.next(chain);
        if (next === NEXT.none) break;
        if (next === NEXT.broken)
          return context.fail('its control queue has an invalid ring or descriptor chain');
        if (chain.writableBytes === 0) return context.fail('a control command has no room for its ack byte');
        const bytes = new Uint8Array(CONTROL_BYTES);
        const length = chain.copyOut(context.ram, 0, bytes);
        const ack = this.#runCommand(bytes, length) ? NET_ACK.ok : NET_ACK.error;
        chain.copyIn(context.ram, 0, Uint8Array.of(ack));
        queue.pushUsed(chain.id, 1);
        context.count(this.#controlQueue, length, 1);
      }
      context.interrupt(this.#controlQueue);
    } while (queue.enableNotifications());
  }

  /** False for a command that is unknown, needs a feature that was not negotiated, or has invalid data. */
  #runCommand(bytes: Uint8Array, length: number): boolean {
    const context = this.#context!;
    const view = new DataView(bytes.buffer);
    const dataBytes = length - NET_CONTROL.data;
    const command = bytes[NET_CONTROL.command]!;
    switch (bytes[NET_CONTROL.class]) {
      case NET_CONTROL_CLASS.multiqueue: {
        if (!context.hasFeature(F.mq) || command !== NET_MQ_PAIRS_SET || dataBytes < 2) return false;
        const pairs = view.getUint16(NET_CONTROL.data, true);
        if (pairs < 1 || pairs > this.#settings.pairs) return false;
        this.#effects.setActivePorts(pairs);
        return true;
      }
      case NET_CONTROL_CLASS.guestOffloads: {
        const known = context.hasFeature(F.ctrlGuestOffloads) && command === NET_GUEST_OFFLOADS_SET;
        if (!known || dataBytes < 8) return false;
        const wanted = view.getUint32(NET_CONTROL.data, true);
        // Only negotiated offloads can be switched. (§5.1.6.5.6.1)
        this.#offloads = offloadsOf((bit) => context.hasFeature(bit) && ((wanted >>> bit) & 1) !== 0);
        this.#effects.setOffloads(this.#offloads);
        for (const receiver of this.#receivers)
          if (receiver) receiver.maxPacketBytes = this.#maxPacketBytes();
        return true;
      }
      default:
        return false;
    }
  }
}

const LINK_UP = Uint8Array.of(NET_STATUS.linkUpBit, 0);
const LINK_DOWN = Uint8Array.of(0, 0);

const NO_OFFLOADS: GuestOffloads = { csum: false, tso4: false, tso6: false, ecn: false, ufo: false };

/** Segmentation offloads require checksum offload: each segment needs its own checksum. (§5.1.3.1) */
function offloadsOf(isOn: (bit: number) => boolean): GuestOffloads {
  if (!isOn(F.guestCsum)) return NO_OFFLOADS;
  const [tso4, tso6] = [isOn(F.guestTso4), isOn(F.guestTso6)];
  return { csum: true, tso4, tso6, ecn: isOn(F.guestEcn) && (tso4 || tso6), ufo: isOn(F.guestUfo) };
}
