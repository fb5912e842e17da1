/** The console device: named ports, each a stream of bytes to and from the host. (Virtual I/O Device 1.2 §5.3) */
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
/** Control messages that wait for buffers of the guest; one that makes more has more ports than we gave it. */
const MAX_MESSAGES = 256;
const MAX_NAME_BYTES = 64;

/** What reading and writing return instead of a number of bytes. */
export const PORT_IO = { wouldBlock: -1 } as const;

/** The host's side of the ports, by number. Never blocks. */
export interface ConsoleHost {
  /** Reads at most `target.bytes`; 0 at the end, which may be followed by a new beginning. */
  read(port: number, target: IoVector): number;
  /** Bytes that were taken; what nobody wants is taken too. */
  write(port: number, source: IoVector): number;
  /** Whether somebody is at the other end. */
  isOpen(port: number): boolean;
  after(delayMs: number, handler: () => void): () => void;
}

/** A port as the guest sees it. */
export interface ConsolePort {
  /** Linux links it as /dev/virtio-ports/NAME. */
  readonly name: string;
  /** A terminal, which Linux calls hvc0, hvc1, …; others are /dev/vport0p0, … */
  readonly console: boolean;
}

export function describeConsole(ports: number): DeviceDescription {
  const config = new Uint8Array(CONSOLE_CONFIG.size);
  new DataView(config.buffer).setUint32(CONSOLE_CONFIG.maxPorts, ports, true);
  return {
    type: DEVICE_TYPE.console,
    features: [F.multiport],
    queueSizes: Array.from({ length: 2 * (ports + 1) }, () => QUEUE_SIZE),
    config,
  };
}

interface Port {
  /** The guest has it open. */
  guestOpen: boolean;
  /** What the guest was told last. */
  toldOpen: boolean;
  /** Bytes of the transmit chain at hand that went out already. */
  sent: number;
}

interface Message {
  readonly port: number;
  readonly event: number;
  readonly value: number;
  readonly name: string;
}

export class ConsoleDevice implements VirtioDevice {
  readonly #portInfo: readonly ConsolePort[];
  readonly #host: ConsoleHost;
  readonly #chain = new Chain();
  readonly #vector = new IoVector(Math.max(MAX_PIECES, MAX_CHAIN));
  readonly #again = new Map<number, () => void>();
  #context: DeviceContext | undefined;
  #multiport = false;
  #ports: Port[] = [];
  #messages: Message[] = [];

  constructor(ports: readonly ConsolePort[], host: ConsoleHost) {
    this.#portInfo = ports;
    this.#host = host;
  }

  activate(context: DeviceContext): void {
    this.#context = context;
    this.#multiport = context.hasFeature(F.multiport);
    this.#messages = [];
    // Without messages a port is open whenever somebody looks.
    this.#ports = this.#portInfo.map(() => ({ guestOpen: !this.#multiport, toldOpen: false, sent: 0 }));
  }

  reset(): void {
    this.#context = undefined;
    for (const cancel of this.#again.values()) cancel();
    this.#again.clear();
  }

  processQueue(queue: number): void {
    if (!this.#context) return;
    if (this.#multiport && (queue === CQ.receive || queue === CQ.transmit)) return this.#takeMessages();
    const port = queue < CQ.receive ? 0 : (queue >> 1) - 1;
    if (queue % 2 === 0) this.#fromHost(port);
    else this.#toHost(port);
  }

  /** Bytes for the guest came, or went, or somebody came or went. */
  portReady(port: number): void {
    if (!this.#context) return;
    this.#tellOpen(port);
    this.#fromHost(port);
    this.#toHost(port);
  }

  #queueOf(port: number, transmit: boolean): number {
    return (port === 0 ? 0 : 2 * (port + 1)) + (transmit ? 1 : 0);
  }

  #fromHost(port: number): void {
    const index = this.#queueOf(port, false);
    this.#serve(index, (context, chain) => {
      if (!this.#ports[port]!.guestOpen) return 'stop';
      if (chain.firstWritable > 0 || chain.writableBytes === 0) return 'bad';
      this.#vector.clear();
      this.#vector.addBuffers(chain, 0, chain.count);
      const bytes = this.#host.read(port, this.#vector);
      if (bytes <= 0) return 'stop';
      context.queues[index]!.pushUsed(chain.id, bytes);
      context.count(index, 0, bytes);
      return 'done';
    });
  }

  #toHost(port: number): void {
    const index = this.#queueOf(port, true);
    const state = this.#ports[port]!;
    this.#serve(index, (context, chain) => {
      this.#vector.clear();
      this.#vector.addBuffers(chain, 0, chain.firstWritable, state.sent);
      const bytes = this.#vector.bytes === 0 ? 0 : this.#host.write(port, this.#vector);
      if (bytes === PORT_IO.wouldBlock) return 'stop';
      state.sent += bytes;
      if (state.sent < chain.readableBytes) return 'stop';
      state.sent = 0;
      context.queues[index]!.pushUsed(chain.id, 0);
      context.count(index, chain.readableBytes, 0);
      return 'done';
    });
  }

  /** Hands chains to `act` until it says stop, and leaves that one where it is. */
  #serve(index: number, act: (context: DeviceContext, chain: Chain) => 'done' | 'stop' | 'bad'): void {
    const context = this.#context;
    const queue = context?.queues[index];
    if (!context || !queue || this.#again.has(index)) return;
    let left = CHAINS_AT_ONCE;
    do {
      queue.disableNotifications();
      for (;;) {
        if (left-- === 0) {
          const goOn = () => {
            this.#again.delete(index);
            this.#serve(index, act);
          };
          this.#again.set(index, this.#host.after(0, goOn));
          context.interrupt(index);
          return;
        }
        const next = queue.next(this.#chain);
        if (next === NEXT.none) break;
        if (next === NEXT.broken) return context.fail(`its queue ${index} makes no sense`);
        const result = act(context, this.#chain);
        // What it led to on another queue may have found the driver breaking the rules.
        if (this.#context !== context) return;
        if (result === 'bad') return context.fail(`its queue ${index} has buffers of the wrong kind`);
        if (result === 'stop') {
          queue.undoNext();
          context.interrupt(index);
          return;
        }
      }
      context.interrupt(index);
    } while (queue.enableNotifications());
  }

  // Messages about ports

  #takeMessages(): void {
    const bytes = new Uint8Array(C.size);
    const view = new DataView(bytes.buffer);
    this.#sendMessages();
    this.#serve(CQ.transmit, (context, chain) => {
      if (this.#messages.length > MAX_MESSAGES) return 'stop';
      // What a message leads to uses the chain again.
      const { id, readableBytes } = chain;
      if (chain.copyOut(context.ram, 0, bytes) === C.size) {
        const [port, value] = [view.getUint32(C.port, true), view.getUint16(C.value, true)];
        this.#takeMessage(port, view.getUint16(C.event, true), value);
      }
      context.queues[CQ.transmit]?.pushUsed(id, 0);
      context.count(CQ.transmit, readableBytes, 0);
      return 'done';
    });
    this.#sendMessages();
  }

  #takeMessage(port: number, event: number, value: number): void {
    const state = this.#ports[port];
    if (event === EVENT.deviceReady && value === 1) {
      this.#portInfo.forEach((_, i) => this.#tell(i, EVENT.portAdd, 1));
    } else if (event === EVENT.portReady && value === 1 && state) {
      const { name, console } = this.#portInfo[port]!;
      this.#tell(port, EVENT.portName, 1, name);
      if (console) this.#tell(port, EVENT.consolePort, 1);
      state.toldOpen = false;
      this.#tellOpen(port);
    } else if (event === EVENT.portOpen && state) {
      state.guestOpen = value === 1;
      if (state.guestOpen) this.#fromHost(port);
    }
  }

  #tellOpen(port: number): void {
    const state = this.#ports[port]!;
    const open = this.#host.isOpen(port);
    if (!this.#multiport || open === state.toldOpen) return;
    state.toldOpen = open;
    this.#tell(port, EVENT.portOpen, open ? 1 : 0);
    this.#sendMessages();
  }

  #tell(port: number, event: number, value: number, name = ''): void {
    if (this.#messages.length < 2 * MAX_MESSAGES) this.#messages.push({ port, event, value, name });
  }

  #sendMessages(): void {
    const bytes = new Uint8Array(C.size + MAX_NAME_BYTES);
    const view = new DataView(bytes.buffer);
    this.#serve(CQ.receive, (context, chain) => {
      const message = this.#messages[0];
      if (!message) return 'stop';
      if (chain.firstWritable > 0 || chain.writableBytes < C.size) return 'bad';
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
