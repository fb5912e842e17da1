/**
 * The console device: named ports, each a byte stream between guest and host. (Virtual I/O Device 1.2 §5.3)
 */
import {
  CONSOLE_CONFIG,
  CONSOLE_CONTROL as C,
  CONSOLE_CONTROL_QUEUE as CQ,
  CONSOLE_EVENT as EVENT,
  CONSOLE_FEATURE as F,
} from './regs.ts';
import type { DeviceContext, DeviceDescription, VirtioDevice } from '../transport/device.ts';
import { IoVector, MAX_PIECES } from '../transport/io-vector.ts';
import { DEVICE_TYPE } from '../transport/mmio.regs.ts';
import { Chain, MAX_CHAIN, NEXT } from '../transport/queue.ts';

const QUEUE_SIZE = 128;
const CHAINS_AT_ONCE = 64;
/**
 * Bound for control messages that wait for receive buffers. Beyond it the driver's messages are not
 * processed.
 */
const MAX_MESSAGES = 256;
const MAX_NAME_BYTES = 64;

/** Result of `read` and `write` other than a number of bytes. */
export const PORT_IO = { wouldBlock: -1 } as const;

/** The host's side of the ports, by number. Nothing blocks. */
export interface ConsoleEffects {
  /** Reads at most `target.bytes`. 0: the stream has ended, and another may follow. */
  read(port: number, target: IoVector): number;
  /** Returns the bytes accepted, which includes those dropped without a reader. */
  write(port: number, source: IoVector): number;
  /** Whether the port has a peer on the host. */
  isOpen(port: number): boolean;
  after(delayMs: number, handler: () => void): () => void;
}

/** A port as described to the guest. */
export interface ConsolePort {
  /** Linux links it as /dev/virtio-ports/NAME. */
  readonly name: string;
  /** A console, Linux's hvc0, hvc1, …; other ports are /dev/vport0p0, … (VIRTIO_CONSOLE_CONSOLE_PORT) */
  readonly console: boolean;
}

/** Features, queues and configuration space. (§5.3.2 to §5.3.4) */
export function describeConsole(ports: number): DeviceDescription {
  const config = new Uint8Array(CONSOLE_CONFIG.size);
  new DataView(config.buffer).setUint32(CONSOLE_CONFIG.maxPorts, ports, true);
  return {
    type: DEVICE_TYPE.console,
    features: [F.multiport],
    queueSizes: Array.from({ length: 2 * (ports + 1) }, () => QUEUE_SIZE),
    config,
    stateWords: Array.from({ length: ports }, (_, port) => [
      { name: `port${port}`, min: 0, max: PORT_STATE.mask },
      { name: `port${port}Sent`, min: 0, max: 0xffff_ffff },
    ]).flat(),
  };
}

/**
 * Bits of a port's first state word; the second is `sent`. A message that is due for the port is a bit, because
 * the order of messages within a port is fixed, and of several PORT_OPEN only the last counts.
 */
const PORT_STATE = {
  guestOpenBit: 1 << 0,
  reportedOpenBit: 1 << 1,
  addDueBit: 1 << 2,
  nameDueBit: 1 << 3,
  consoleDueBit: 1 << 4,
  openDueBit: 1 << 5,
  mask: 0x3f,
} as const;
const DUE_BIT: Readonly<Record<number, number>> = {
  [EVENT.portAdd]: PORT_STATE.addDueBit,
  [EVENT.portName]: PORT_STATE.nameDueBit,
  [EVENT.consolePort]: PORT_STATE.consoleDueBit,
  [EVENT.portOpen]: PORT_STATE.openDueBit,
};

interface Port {
  /** The guest has opened the port. */
  guestOpen: boolean;
  /** State of the host's side as last reported to the guest. */
  reportedOpen: boolean;
  /** Bytes of the current transmit chain that are written already. */
  sent: number;
}

/** A control message to the guest. (§5.3.6.2) */
interface Message {
  readonly port: number;
  readonly event: number;
  readonly value: number;
  readonly name: string;
}

export class ConsoleDevice implements VirtioDevice {
  readonly #portInfo: readonly ConsolePort[];
  readonly #effects: ConsoleEffects;
  readonly #chain = new Chain();
  readonly #vector = new IoVector(Math.max(MAX_PIECES, MAX_CHAIN));
  /** By queue: cancels the timer that continues with its remaining chains. */
  readonly #continuations = new Map<number, () => void>();
  #context: DeviceContext | undefined;
  #multiport = false;
  #ports: Port[] = [];
  #messages: Message[] = [];

  constructor(ports: readonly ConsolePort[], effects: ConsoleEffects) {
    this.#portInfo = ports;
    this.#effects = effects;
  }

  activate(context: DeviceContext): void {
    this.#context = context;
    this.#multiport = context.hasFeature(F.multiport);
    this.#messages = [];
    // Without MULTIPORT there are no control messages, and the port counts as open.
    this.#ports = this.#portInfo.map(() => ({ guestOpen: !this.#multiport, reportedOpen: false, sent: 0 }));
  }

  reset(): void {
    this.#context = undefined;
    for (const cancel of this.#continuations.values()) cancel();
    this.#continuations.clear();
  }

  save(words: Int32Array): void {
    this.#ports.forEach(({ guestOpen, reportedOpen, sent }, port) => {
      let bits = (guestOpen ? PORT_STATE.guestOpenBit : 0) | (reportedOpen ? PORT_STATE.reportedOpenBit : 0);
      for (const message of this.#messages) if (message.port === port) bits |= DUE_BIT[message.event] ?? 0;
      words[2 * port] = bits;
      words[2 * port + 1] = sent;
    });
  }

  /** Sockets have no client yet: ports that were open are reported closed until there is one. */
  restore(words: Int32Array): void {
    this.#ports.forEach((state, port) => {
      const bits = words[2 * port]!;
      state.guestOpen = (bits & PORT_STATE.guestOpenBit) !== 0;
      state.reportedOpen = (bits & PORT_STATE.reportedOpenBit) !== 0;
      state.sent = words[2 * port + 1]! >>> 0;
      if (!this.#multiport) return;
      const { name } = this.#portInfo[port]!;
      if (bits & PORT_STATE.addDueBit) this.#queueMessage(port, EVENT.portAdd, 1);
      if (bits & PORT_STATE.nameDueBit) this.#queueMessage(port, EVENT.portName, 1, name);
      if (bits & PORT_STATE.consoleDueBit) this.#queueMessage(port, EVENT.consolePort, 1);
      if (bits & PORT_STATE.openDueBit) this.#queueMessage(port, EVENT.portOpen, state.reportedOpen ? 1 : 0);
      this.#reportOpen(port);
    });
  }

  processQueue(queue: number): void {
    if (!this.#context) return;
    if (this.#multiport && (queue === CQ.receive || queue === CQ.transmit)) return this.#processMessages();
    const port = queue < CQ.receive ? 0 : (queue >> 1) - 1;
    if (queue % 2 === 0) this.#receive(port);
    else this.#transmit(port);
  }

  /** The port may be readable or writable, or its peer connected or disconnected. */
  portReady(port: number): void {
    if (!this.#context) return;
    this.#reportOpen(port);
    this.#receive(port);
    this.#transmit(port);
  }

  #queueOf(port: number, transmit: boolean): number {
    return (port === 0 ? 0 : 2 * (port + 1)) + (transmit ? 1 : 0);
  }

  #receive(port: number): void {
    const index = this.#queueOf(port, false);
    this.#processChains(index, (context, chain) => {
      if (!this.#ports[port]!.guestOpen) return 'stop';
      if (chain.firstWritable > 0 || chain.writableBytes === 0) return 'invalid';
      this.#vector.clear();
      this.#vector.addBuffers(chain, 0, chain.count);
      const bytes = this.#effects.read(port, this.#vector);
      if (bytes <= 0) return 'stop';
      context.ram.markVectorWritten(this.#vector, bytes);
      context.queues[index]!.pushUsed(chain.id, bytes);
      context.count(index, 0, bytes);
      return 'done';
    });
  }

  #transmit(port: number): void {
    const index = this.#queueOf(port, true);
    const state = this.#ports[port]!;
    this.#processChains(index, (context, chain) => {
      this.#vector.clear();
      this.#vector.addBuffers(chain, 0, chain.firstWritable, state.sent);
      const bytes = this.#vector.bytes === 0 ? 0 : this.#effects.write(port, this.#vector);
      if (bytes === PORT_IO.wouldBlock) return 'stop';
      state.sent += bytes;
      if (state.sent < chain.readableBytes) return 'stop';
      state.sent = 0;
      context.queues[index]!.pushUsed(chain.id, 0);
      context.count(index, chain.readableBytes, 0);
      return 'done';
    });
  }

  /** Passes chains to `act` until it returns 'stop', which leaves its chain in the queue. */
  #processChains(
    index: number,
    act: (context: DeviceContext, chain: Chain) => 'done' | 'stop' | 'invalid',
  ): void {
    const context = this.#context;
    const queue = context?.queues[index];
    if (!context || !queue || this.#continuations.has(index)) return;
    let left = CHAINS_AT_ONCE;
    do {
      queue.disableNotifications();
      for (;;) {
        if (left-- === 0) {
          const proceed = () => {
            this.#continuations.delete(index);
            this.#processChains(index, act);
          };
          this.#continuations.set(index, this.#effects.after(0, proceed));
          context.interrupt(index);
          return;
        }
        const next = queue.next(this.#chain);
        if (next === NEXT.none) break;
        if (next === NEXT.broken)
          return context.fail(`queue ${index} has an invalid ring or descriptor chain`);
        const result = act(context, this.#chain);
        // `act` may process another queue, and fail the device there.
        if (this.#context !== context) return;
        if (result === 'invalid')
          return context.fail(`queue ${index} has a read-only or too short receive buffer`);
        if (result === 'stop') {
          queue.undoNext();
          context.interrupt(index);
          return;
        }
      }
      context.interrupt(index);
    } while (queue.enableNotifications());
  }

  // Control messages (§5.3.6.2)

  #processMessages(): void {
    const bytes = new Uint8Array(C.size);
    const view = new DataView(bytes.buffer);
    this.#sendMessages();
    this.#processChains(CQ.transmit, (context, chain) => {
      if (this.#messages.length > MAX_MESSAGES) return 'stop';
      // Handling a message overwrites #chain.
      const { id, readableBytes } = chain;
      if (chain.copyOut(context.ram, 0, bytes) === C.size) {
        const [port, value] = [view.getUint32(C.port, true), view.getUint16(C.value, true)];
        this.#handleMessage(port, view.getUint16(C.event, true), value);
      }
      context.queues[CQ.transmit]?.pushUsed(id, 0);
      context.count(CQ.transmit, readableBytes, 0);
      return 'done';
    });
    this.#sendMessages();
  }

  #handleMessage(port: number, event: number, value: number): void {
    const state = this.#ports[port];
    if (event === EVENT.deviceReady && value === 1) {
      this.#portInfo.forEach((_, i) => this.#queueMessage(i, EVENT.portAdd, 1));
    } else if (event === EVENT.portReady && value === 1 && state) {
      const { name, console } = this.#portInfo[port]!;
      this.#queueMessage(port, EVENT.portName, 1, name);
      if (console) this.#queueMessage(port, EVENT.consolePort, 1);
      state.reportedOpen = false;
      this.#reportOpen(port);
    } else if (event === EVENT.portOpen && state) {
      state.guestOpen = value === 1;
      if (state.guestOpen) this.#receive(port);
    }
  }

  #reportOpen(port: number): void {
    const state = this.#ports[port]!;
    const open = this.#effects.isOpen(port);
    if (!this.#multiport || open === state.reportedOpen) return;
    state.reportedOpen = open;
    this.#queueMessage(port, EVENT.portOpen, open ? 1 : 0);
    this.#sendMessages();
  }

  #queueMessage(port: number, event: number, value: number, name = ''): void {
    if (this.#messages.length < 2 * MAX_MESSAGES) this.#messages.push({ port, event, value, name });
  }

  #sendMessages(): void {
    const bytes = new Uint8Array(C.size + MAX_NAME_BYTES);
    const view = new DataView(bytes.buffer);
    this.#processChains(CQ.receive, (context, chain) => {
      const message = this.#messages[0];
      if (!message) return 'stop';
      if (chain.firstWritable > 0 || chain.writableBytes < C.size) return 'invalid';
      this.#messages.shift();
      view.setUint32(C.port, message.port, true);
      view.setUint16(C.event, message.event, true);
      view.setUint16(C.value, message.value, true);
      const name = Buffer.from(message.name).subarray(0, MAX_NAME_BYTES);
      bytes.set(name, C.size);
      const written = chain.copyIn(context.ram, 0, bytes, 0, C.size + name.length);
      context.queues[CQ.receive]!.pushUsed(chain.id, written);
      context.count(CQ.receive, 0, written);
      return 'done';
    });
  }
}
