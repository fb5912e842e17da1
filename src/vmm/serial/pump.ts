/** Moves console output from the ring to its sink, on the main thread, without ever blocking it. */
import { SyscallError } from '../../ffi/errno.ts';
import { OPEN, openFile, writeNonBlocking } from '../../ffi/file.ts';
import { dropConsole, peekConsole } from './ring.ts';
import { raiseBurst, VM_WORD, type SharedState } from '../bus/shared-state.ts';

/** Writes some of the bytes and returns how many; 0: none now. Throws when it can never write again. */
export type ConsoleSink = (bytes: Uint8Array) => number;

/**
 * A guest prints byte by byte, and a pump that woke up for each byte would use more CPU time than the guest.
 * So the first byte is written at once, which somebody who types needs; while more follows, the pump waits
 * before each write, twice as long as before, up to the time between two frames of a screen. (A boot of
 * Debian 6.1 on one emulated CPU, 22,000 bytes of messages: 23,000 wake-ups without this, and 40 % longer)
 */
const GATHER_MS = { first: 1, last: 16 } as const;
const RETRY_MS = 5;
/** How long the end of a VM waits for a reader of the console that does not read. */
const FINISH_MS = 5000;
const PIECE_BYTES = 4096;
/** A burst is output at the rate of a line of 115200 baud: so many bytes within so long. */
const BURST_BYTES = 256;
const BURST_MS = 22;

/** Writes to a file descriptor, which the caller owns. */
function descriptorSink(fd: number): ConsoleSink {
  return (bytes) => writeNonBlocking(fd, bytes);
}

/**
 * The same for a terminal. One that polls writable may have room for a single byte, and a longer write then
 * blocks the main thread until the reader reads. So Volt opens the terminal again, without blocking; other
 * users of it still block.
 */
export function terminalSink(fd: number): ConsoleSink {
  try {
    const flags = OPEN.writeOnly | OPEN.nonBlocking | OPEN.noControllingTerminal;
    return descriptorSink(openFile(`/proc/self/fd/${fd}`, flags).fd);
  } catch {
    // A terminal of another user, as after su.
    return descriptorSink(fd);
  }
}

/** For a console without a reader: drops everything. */
export const discardSink: ConsoleSink = (bytes) => bytes.length;

export class ConsolePump {
  readonly #shared: SharedState;
  readonly #sink: ConsoleSink;
  readonly #onBroken: (error: SyscallError) => void;
  #finished = false;
  #broken = false;
  /** Bytes taken since `#countedSince`, in performance.now(). */
  #counted = 0;
  #countedSince = 0;

  /** `onBroken` is called once, when the sink throws; later output is dropped. */
  constructor(shared: SharedState, sink: ConsoleSink, onBroken: (error: SyscallError) => void) {
    this.#shared = shared;
    this.#sink = sink;
    this.#onBroken = onBroken;
  }

  /** Pumps until `finish`. */
  async run(): Promise<void> {
    const { words } = this.#shared;
    let gatherMs: number = GATHER_MS.first;
    while (!this.#finished) {
      const before = words[VM_WORD.transmitTail]!;
      if (!this.#drain()) {
        await Bun.sleep(RETRY_MS);
      } else if (words[VM_WORD.transmitTail] !== before) {
        // The doorbell stays set, so that no vCPU makes a futex call meanwhile.
        await Bun.sleep(gatherMs);
        gatherMs = Math.min(2 * gatherMs, GATHER_MS.last);
      } else {
        gatherMs = GATHER_MS.first;
        Atomics.store(words, VM_WORD.doorbell, 0);
        // A byte that came before the store found the doorbell set, and woke nobody.
        if (peekConsole(this.#shared, 1).length === 0) await this.#waitForDoorbell();
      }
    }
  }

  /**
   * Writes what is left, once no vCPU runs any more. Gives up when the sink takes nothing for 5 seconds.
   * `refill` moves output to the ring for which there was no room before.
   */
  async finish(refill: () => void = () => {}): Promise<void> {
    this.#finished = true;
    const { words } = this.#shared;
    for (let waited = 0; waited < FINISH_MS;) {
      const before = words[VM_WORD.transmitTail];
      if (this.#drain()) {
        refill();
        if (peekConsole(this.#shared, 1).length === 0) return;
        continue;
      }
      await Bun.sleep(RETRY_MS);
      waited = words[VM_WORD.transmitTail] === before ? waited + RETRY_MS : 0;
    }
  }

  async #waitForDoorbell(): Promise<void> {
    const wait = Atomics.waitAsync(this.#shared.words, VM_WORD.doorbell, 0);
    if (wait.async) await wait.value;
  }

  /** False when the sink would not take everything. */
  #drain(): boolean {
    for (;;) {
      const bytes = peekConsole(this.#shared, PIECE_BYTES);
      if (bytes.length === 0) return true;
      const taken = this.#write(bytes);
      if (taken === 0) return false;
      dropConsole(this.#shared, taken);
      this.#detectBurst(taken);
    }
  }

  #detectBurst(taken: number): void {
    const now = performance.now();
    if (now - this.#countedSince > BURST_MS) {
      this.#countedSince = now;
      this.#counted = 0;
    }
    this.#counted += taken;
    if (this.#counted >= BURST_BYTES) raiseBurst(this.#shared.words);
  }

  #write(bytes: Uint8Array): number {
    if (this.#broken) return bytes.length;
    try {
      return this.#sink(bytes);
    } catch (error) {
      if (!(error instanceof SyscallError)) throw error;
      this.#broken = true;
      this.#onBroken(error);
      return bytes.length;
    }
  }
}
