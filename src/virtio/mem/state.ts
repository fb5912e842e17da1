/** State of the memory device that the main thread and the device worker share. */
import { blocksOf, type MemShape } from './shape.ts';

/** `requestedMib` is written by the main thread, `pluggedMib` by the worker. */
export const MEM_WORD = { requestedMib: 0, pluggedMib: 1, size: 2 } as const;

export interface MemState {
  readonly buffer: SharedArrayBuffer;
  readonly words: Int32Array;
  /** 1 for each block that is plugged. Written by the worker, and by the main thread before it starts. */
  readonly blocks: Uint8Array;
}

export function createMemState(shape: MemShape): MemState {
  return viewMemState(new SharedArrayBuffer(4 * MEM_WORD.size + blocksOf(shape)), shape);
}

/** Views the state from another thread. */
export function viewMemState(buffer: SharedArrayBuffer, shape: MemShape): MemState {
  return {
    buffer,
    words: new Int32Array(buffer, 0, MEM_WORD.size),
    blocks: new Uint8Array(buffer, 4 * MEM_WORD.size, blocksOf(shape)),
  };
}
