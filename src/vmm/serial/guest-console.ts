/** The guest's serial console on the main thread: input for it, and output that KVM has coalesced. */
import { uartReceive } from '../../chips/uart.ts';
import type { Board } from '../bus/board.ts';
import { unlockBus } from '../bus/shared-state.ts';
import { flushWithoutWaiting, watchConsole } from './coalesced-output.ts';
import { lockBusUnlessFull } from './ring.ts';

export class GuestConsole {
  readonly #board: Board;
  readonly #vmFd: number;

  constructor(board: Board, vmFd: number) {
    this.#board = board;
    this.#vmFd = vmFd;
  }

  /**
   * Gives bytes to the UART; returns how many it had room for: none while nobody reads the guest's output.
   */
  send(bytes: Uint8Array): number {
    const { shared, uart } = this.#board;
    if (!lockBusUnlessFull(shared)) return 0;
    try {
      return uartReceive(uart, bytes);
    } finally {
      unlockBus(shared.words);
    }
  }

  /** Moves coalesced output to the console ring, as much as there is room for. */
  flush(): void {
    try {
      flushWithoutWaiting(this.#board);
    } catch {
      // KVM may have lost the VM, whose end is being reported already.
    }
  }

  /** Lets KVM coalesce output while the guest prints fast. Resolves when `isOver`. */
  watch(isOver: () => boolean): Promise<void> {
    return watchConsole(this.#board, this.#vmFd, isOver);
  }
}
