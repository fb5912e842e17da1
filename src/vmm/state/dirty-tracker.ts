/**
 * The pages of guest RAM that change while tracking is on: those that the guest writes, by KVM's dirty log, and
 * those that Volt's devices and the kernel on their behalf write, by marks that they set after each write.
 */
import { processBarrier } from '../../ffi/barrier.ts';
import type { KvmVm } from '../../kvm/vm.ts';
import { PAGE_BYTES } from '../../machine/address.ts';
import { limitRuns, runsOfBits, uniteRuns, type PageRun } from '../../machine/page-runs.ts';
import type { GuestMemory } from '../../memory/guest-memory.ts';
import { copiedPages, knowsCopiedPages } from '../../memory/touched-pages.ts';
import { MAX_RUNS } from './memory-state.ts';

export class DirtyTracker {
  readonly #vm: KvmVm;
  readonly #memory: GuestMemory;
  /** The pages that were written since the restore are still to be read from the page map. */
  #isDeferred = false;

  constructor(vm: KvmVm, memory: GuestMemory) {
    this.#vm = vm;
    this.#memory = memory;
  }

  /** Whether it was started and not stopped. */
  get isTracking(): boolean {
    return this.#isDeferred || this.#memory.dirtyPages.isTracking;
  }

  /**
   * Starts at a restore, with no page dirty that is as in the snapshot. Where RAM is a private mapping of the
   * snapshot's files, the kernel knows the pages that were written, so that nothing is noted, and the guest runs at
   * full speed, until they are first collected. Throws SyscallError.
   */
  startAtRestore(): void {
    this.#isDeferred = knowsCopiedPages(this.#memory);
    if (!this.#isDeferred) this.start();
  }

  /**
   * Starts with no page dirty; vCPUs and devices may run. Copy RAM after this, not before. Throws SyscallError.
   */
  start(): void {
    this.#isDeferred = false;
    this.#memory.dirtyPages.start();
    this.#logPages(true);
    // What a device wrote before it could see that tracking is on must be in RAM before that is copied.
    processBarrier();
  }

  /**
   * The pages that were written since the start or the last call, and perhaps others: at most MAX_RUNS runs.
   * Copy them after this. Only with vCPUs and devices paused is nothing written after it. Throws SyscallError.
   */
  collect(): readonly PageRun[] {
    if (this.#isDeferred) {
      // Pages that are written between the two are in both.
      this.start();
      return limitRuns(copiedPages(this.#memory)!, MAX_RUNS);
    }
    const { bytes, dirtyPages } = this.#memory;
    const byGuest = this.#memory.withSlots((slots) =>
      slots.flatMap((range) => {
        const pages = range.bytes / PAGE_BYTES;
        return runsOfBits(this.#vm.takeDirtyLog(range.slot, pages), pages, range.offset);
      }),
    );
    const byVolt = runsOfBits(dirtyPages.take(), bytes / PAGE_BYTES);
    return limitRuns(uniteRuns(byGuest, byVolt), MAX_RUNS);
  }

  /** The guest runs at full speed again. Throws SyscallError. */
  stop(): void {
    if (this.#isDeferred) {
      this.#isDeferred = false;
      return;
    }
    this.#memory.dirtyPages.stop();
    this.#logPages(false);
  }

  #logPages(on: boolean): void {
    this.#memory.withSlots((slots) => {
      for (const { slot, address, bytes, host } of slots)
        this.#vm.setMemorySlot(slot, address, bytes, host, on);
    });
  }
}
