/** The host's side of a socket device: streams by number. Nothing blocks. */
import type { IoVector } from '../transport/io-vector.ts';

/** Results of reading and writing other than a number of bytes. Reading 0 bytes is the end of the stream. */
export const STREAM_RESULT = { wouldBlock: -1, failed: -2 } as const;

export interface VsockEffects {
  /** Connects to the host's server for this port. Returns a stream, or -1. */
  connect(port: number): number;
  /** Reads at most `target.bytes`. */
  read(stream: number, target: IoVector): number;
  write(stream: number, source: IoVector): number;
  writeBytes(stream: number, bytes: Uint8Array): number;
  /** Shuts down writing. */
  endWriting(stream: number): void;
  /** Closes the stream; its number may be reused. */
  close(stream: number): void;
  after(delayMs: number, handler: () => void): () => void;
}
