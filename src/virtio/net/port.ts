/** What is behind one pair of a network device's queues: a queue of a tap, or a program that speaks for a network. */
import type { IoVector } from '../transport/io-vector.ts';

/** What `send` and `receive` return instead of a number of bytes. */
export const PORT_RESULT = {
  /** Nothing now; the port calls when that changes. */
  wouldBlock: -1,
  /** This packet is lost, as packets are. */
  dropped: -2,
} as const;

/** Packets begin with NET_HEADER, both ways. */
export interface NetPort {
  /** Sends one packet; returns its bytes or one of PORT_RESULT. */
  send(packet: IoVector): number;
  /** Fills at most `packet.bytes` bytes with the next packet; returns its bytes or one of PORT_RESULT. */
  receive(packet: IoVector): number;
}

/** Which of the segmentation and checksum offloads the guest can take in packets that it receives. */
export interface GuestOffloads {
  readonly csum: boolean;
  readonly tso4: boolean;
  readonly tso6: boolean;
  readonly ecn: boolean;
  readonly ufo: boolean;
}

export interface NetEffects {
  /** One for each pair of queues. */
  readonly ports: readonly NetPort[];
  /** Says what the guest can take. */
  setOffloads(offloads: GuestOffloads): void;
  /** Only the first `count` ports get packets from now on. */
  setActivePorts(count: number): void;
  now(): number;
  after(delayMs: number, handler: () => void): () => void;
}
