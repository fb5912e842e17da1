/** The host's side of a socket device, as the device sees it: streams by number, none of which ever blocks. */
import type { IoVector } from '../transport/io-vector.ts';

/** What reading and writing return instead of a number of bytes. Reading 0 bytes is the end. */
export const STREAM_RESULT = { wouldBlock: -1, failed: -2 } as const;

export interface VsockHost {
  /** A stream to whoever serves this port for the guest, or -1. */
  connect(port: number): number;
  /** Reads at most `target.bytes`. */
  read(stream: number, target: IoVector): number;
  write(stream: number, source: IoVector): number;
  writeBytes(stream: number, bytes: Uint8Array): number;
  /** Nothing more will be written. */
  endWriting(stream: number): void;
  /** The number means nothing any more. */
  close(stream: number): void;
  after(delayMs: number, handler: () => void): () => void;
}
