/**
 * The network device: pairs of receive and transmit queues, and a control queue. (Virtual I/O Device 1.2
 * §5.1)
 */
import { viewOf } from '../../binary/bytes.ts';
import { encodeAnnouncement } from './announcement.ts';
import type { DeviceChange } from '../transport/device-change.ts';
import type { DeviceContext, DeviceDescription, VirtioDevice } from '../transport/device.ts';
import { DEVICE_TYPE } from '../transport/mmio.regs.ts';
import type { GuestOffloads, NetEffects } from './port.ts';
import { Receiver } from './receive.ts';
import { Transmitter } from './transmit.ts';
import {
  ETHERNET_HEADER_BYTES,
  LARGEST_PACKET_BYTES,
  NET_ACK,
  NET_ANNOUNCE_ACK,
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
const MAC_BYTES = 6;
/** Of the offloads, before the driver switches any. */
const ALL_BITS = 0xffff_ffff;

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
      F.ctrlVq,
      F.guestAnnounce,
      ...(pairs > 1 ? [F.mq] : []),
    ],
    queueSizes: [...Array.from({ length: 2 * pairs }, () => NET_QUEUE_SIZE), CONTROL_QUEUE_SIZE],
    config,
    stateWords: [
      { name: 'offloads', min: 0, max: 0xffff_ffff },
      { name: 'activePairs', min: 1, max: pairs },
      { name: 'macLow', min: 0, max: 0xffff_ffff },
      { name: 'macHigh', min: 0, max: 0xffff },
    ],
  };
}

/** `mac…`: the address that the driver found when it started, which a restored machine may not have; 0: none. */
const STATE_WORD = { offloads: 0, activePairs: 1, macLow: 2, macHigh: 3 } as const;

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
  /** The kernel serves all queues but the control queue. */
  readonly servedByKernel?: boolean;
}

export class NetDevice implements VirtioDevice {
  readonly #effects: NetEffects;
  readonly #settings: NetSettings;
  readonly limiters: readonly RateLimiter[];
  readonly #receiveLimiter: RateLimiter;
  readonly #transmitLimiter: RateLimiter;
  readonly #chain = new Chain();
  #context: DeviceContext | undefined;
  #receivers: (Receiver | undefined)[] = [];
  #transmitters: (Transmitter | undefined)[] = [];
  #controlQueue = 0;
  /** Offloads that the guest currently accepts in received packets, also as feature bits. */
  #offloads: GuestOffloads = NO_OFFLOADS;
  #offloadBits = 0;
  #activePairs = 1;
  #driverMac = new Uint8Array(MAC_BYTES);
  #cancelTimer: (() => void) | undefined;
  #linkUp = true;
  /** The driver is asked to announce its addresses. */
  #announceDue = false;

  constructor(effects: NetEffects, settings: NetSettings) {
    this.#effects = effects;
    this.#settings = settings;
    this.#receiveLimiter = new RateLimiter(settings.receiveLimits, effects.now());
    this.#transmitLimiter = new RateLimiter(settings.transmitLimits, effects.now());
    this.limiters = [this.#receiveLimiter, this.#transmitLimiter];
  }

  activate(context: DeviceContext): void {
    const { pairs } = this.#settings;
    this.#context = context;
    const usedPairs = context.hasFeature(F.mq) ? pairs : 1;
    // The control queue follows the last negotiated pair, not the last one offered. (§5.1.2)
    this.#controlQueue = 2 * usedPairs;
    this.#offloadBits = ALL_BITS;
    this.#offloads = offloadsOf((bit) => context.hasFeature(bit));
    this.#effects.setOffloads(this.#offloads);
    this.#setActivePairs(1);
    this.#driverMac = Uint8Array.from({ length: MAC_BYTES }, (_, i) =>
      context.hasFeature(F.mac) ? context.config(NET_CONFIG.mac + i) : 0,
    );
    const options = { mergeable: context.hasFeature(F.mrgRxbuf), maxPacketBytes: this.#maxPacketBytes() };
    for (let pair = 0; pair < usedPairs && !this.#settings.servedByKernel; pair++) {
      const [receive, transmit] = [2 * pair, 2 * pair + 1];
      const port = this.#effects.ports[pair]!;
      const [rx, tx] = [context.queues[receive], context.queues[transmit]];
      this.#receivers[pair] =
        rx && new Receiver(context, rx, receive, port, this.#effects, this.#receiveLimiter, options);
      this.#transmitters[pair] =
        tx && new Transmitter(context, tx, transmit, port, this.#effects, this.#transmitLimiter);
    }
    // The link may have changed while there was no driver to notify.
    const reported = context.config(NET_CONFIG.status);
    if (reported !== (this.#linkUp ? NET_STATUS.linkUpBit : 0)) this.#reportStatus(context);
  }

  save(words: Int32Array): void {
    const mac = viewOf(this.#driverMac);
    words[STATE_WORD.offloads] = this.#offloadBits;
    words[STATE_WORD.activePairs] = this.#activePairs;
    words[STATE_WORD.macLow] = mac.getUint32(0, true);
    words[STATE_WORD.macHigh] = mac.getUint16(4, true);
  }

  /** The guest is elsewhere in its network now, which has to learn that. */
  restore(words: Int32Array): void {
    const context = this.#context!;
    const mac = viewOf(this.#driverMac);
    mac.setUint32(0, words[STATE_WORD.macLow]!, true);
    mac.setUint16(4, words[STATE_WORD.macHigh]!, true);
    this.#switchOffloads(context, words[STATE_WORD.offloads]!);
    if (context.hasFeature(F.mq)) this.#setActivePairs(words[STATE_WORD.activePairs]!);
    if (context.hasFeature(F.guestAnnounce) && context.hasFeature(F.status)) {
      this.#announceDue = true;
      this.#reportStatus(context);
    } else if (this.#driverMac.some((byte) => byte !== 0)) {
      this.#effects.ports[0]!.sendBytes(encodeAnnouncement(this.#driverMac));
    }
  }

  reset(): void {
    this.#context = undefined;
    for (const receiver of this.#receivers.splice(0)) receiver?.stop();
    for (const transmitter of this.#transmitters.splice(0)) transmitter?.stop();
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
    this.#announceDue = false;
  }

  processQueue(queue: number): void {
    if (queue === this.#controlQueue) this.#processControlQueue();
    else if (queue % 2 === 0) this.#receivers[queue / 2]?.processQueue();
    else this.#transmitters[(queue - 1) / 2]?.processQueue();
  }

  change(change: DeviceChange): void {
    if (change.kind !== 'net-limits') throw new Error('a network interface has limits only');
    const now = this.#effects.now();
    this.#receiveLimiter.update(change.receive, now);
    this.#transmitLimiter.update(change.transmit, now);
    for (const each of [...this.#receivers, ...this.#transmitters]) each?.limitsChanged();
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
    if (this.#context) this.#reportStatus(this.#context);
    return true;
  }

  #reportStatus(context: DeviceContext, quiet = false): void {
    const status =
      (this.#linkUp ? NET_STATUS.linkUpBit : 0) | (this.#announceDue ? NET_STATUS.announceBit : 0);
    context.setConfig(NET_CONFIG.status, Uint8Array.of(status, 0), quiet);
  }

  #setActivePairs(pairs: number): void {
    this.#activePairs = pairs;
    this.#effects.setActivePorts(pairs);
  }

  /** Only negotiated offloads can be switched. (§5.1.6.5.6.1) */
  #switchOffloads(context: DeviceContext, bits: number): void {
    this.#offloadBits = bits;
    this.#offloads = offloadsOf((bit) => context.hasFeature(bit) && ((bits >>> bit) & 1) !== 0);
    this.#effects.setOffloads(this.#offloads);
    for (const receiver of this.#receivers) if (receiver) receiver.maxPacketBytes = this.#maxPacketBytes();
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
        this.#setActivePairs(pairs);
        return true;
      }
      case NET_CONTROL_CLASS.guestOffloads: {
        const known = context.hasFeature(F.ctrlGuestOffloads) && command === NET_GUEST_OFFLOADS_SET;
        if (!known || dataBytes < 8) return false;
        this.#switchOffloads(context, view.getUint32(NET_CONTROL.data, true));
        return true;
      }
      case NET_CONTROL_CLASS.announce:
        if (!context.hasFeature(F.guestAnnounce) || command !== NET_ANNOUNCE_ACK) return false;
        // The driver has seen the bit: it need not be told of its end. (§5.1.6.5.4)
        this.#announceDue = false;
        this.#reportStatus(context, true);
        return true;
      default:
        return false;
    }
  }
}

const NO_OFFLOADS: GuestOffloads = { csum: false, tso4: false, tso6: false, ecn: false, ufo: false };

/** Segmentation offloads require checksum offload: each segment needs its own checksum. (§5.1.3.1) */
function offloadsOf(isOn: (bit: number) => boolean): GuestOffloads {
  if (!isOn(F.guestCsum)) return NO_OFFLOADS;
  const [tso4, tso6] = [isOn(F.guestTso4), isOn(F.guestTso6)];
  return { csum: true, tso4, tso6, ecn: isOn(F.guestEcn) && (tso4 || tso6), ufo: isOn(F.guestUfo) };
}
