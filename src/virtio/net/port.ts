/** The network behind one queue pair of a network device: a queue of a tap, or a user-mode network stack. */
import type { IoVector } from '../transport/io-vector.ts';

/** Results of `send` and `receive` other than a number of bytes. */
export const PORT_RESULT = {
  /** Nothing sent or received; the port reports when it is ready again. */
  wouldBlock: -1,
  /** The packet was dropped. */
  dropped: -2,
} as const;

/** Packets start with NET_HEADER in both directions. */
export interface NetPort {
  /** Sends one packet; returns its bytes or one of PORT_RESULT. */
  send(packet: IoVector): number;
  /** Sends one packet of Volt's own. It is dropped when the port is full. */
  sendBytes(packet: Uint8Array): void;
  /** Reads the next packet into `packet`, truncated to it; returns its bytes or one of PORT_RESULT. */
  receive(packet: IoVector): number;
}

/** Checksum and segmentation offloads that the guest accepts in received packets. (§5.1.3) */
export interface GuestOffloads {
  readonly csum: boolean;
  readonly tso4: boolean;
  readonly tso6: boolean;
  readonly ecn: boolean;
  readonly ufo: boolean;
}

export interface NetEffects {
  /** One for each queue pair. */
  readonly ports: readonly NetPort[];
  /** Sets the offloads that received packets may use. */
  setOffloads(offloads: GuestOffloads): void;
  /** Only the first `count` ports receive packets from now on. */
  setActivePorts(count: number): void;
  now(): number;
  after(delayMs: number, handler: () => void): () => void;
}
