/**
 * Saves a guest that runs: all of it (full), or what has changed since its last snapshot (diff); RAM is copied
 * while the guest is paused, or mostly before that (live). The guest goes on afterwards, unless it is to stop.
 *
 * Order: vCPUs are paused, devices drained, RAM and state written, devices and vCPUs resumed. RAM that is
 * copied before the pause is copied again where it was written meanwhile. The caller puts the files in their
 * place; a failure before that leaves the guest, and its last snapshot, as they were.
 */
import { writeSync } from 'node:fs';
import type { OwnedFd } from '../../ffi/file.ts';
import { writeMemory } from '../../memory/memory-writer.ts';
import { bytesOfRuns, limitRuns, subtractRuns, uniteRuns, type PageRun } from '../../machine/page-runs.ts';
import type { SerialQueue } from '../../runtime/serial-queue.ts';
import { VoltError } from '../../volt-error.ts';
import { VM_WORD } from '../bus/shared-state.ts';
import type { Machine } from '../machine.ts';
import { pauseVcpus, resumeVcpus } from '../vcpu/control.ts';
import { phaseOf } from '../vcpu/sample.ts';
import type { Vcpu } from '../vcpu/vcpu.ts';
import type { VmEnd } from '../vm-end.ts';
import { captureMachine } from './capture.ts';
import { DirtyTracker } from './dirty-tracker.ts';
import { encodeState } from './machine-state.ts';
import { MAX_LAYERS, MAX_RUNS, memoryFileName, ramBytes, type SavedLayer } from './memory-state.ts';

/** What a snapshot needs of a VirtualMachine. */
export interface SavableVm {
  readonly machine: Machine;
  /** False for one that was restored and has not gone on yet: its vCPUs have no threads. */
  readonly vcpusStarted: boolean;
  readonly vcpuQueue: SerialQueue;
  readonly vcpus: readonly Vcpu[];
  readonly ended: Promise<VmEnd>;
  hold(): Disposable;
  endSaved(directory: string, id: string): Promise<unknown>;
}

export interface SnapshotRequest {
  /** 32 hexadecimal digits; names the memory file. */
  readonly id: string;
  /** Where the caller puts the files; only for messages. */
  readonly directory: string;
  /** Write only what has changed since this snapshot, which is the newest one in the directory. */
  readonly base?: string;
  readonly live?: boolean;
  readonly stop?: boolean;
  /** False: do not begin to note the pages that are written afterwards, so that a later `base` writes all. */
  readonly track?: boolean;
  /** For the state's `api`. */
  readonly api?: Readonly<Record<string, unknown>>;
}

/** What a snapshot wrote, and what it cost the guest. */
export interface SnapshotResult {
  readonly id: string;
  /** Guest RAM, of which this snapshot wrote `writtenBytes`. */
  readonly memoryBytes: number;
  readonly writtenBytes: number;
  /** Time for which the guest was paused. */
  readonly pausedMs: number;
  readonly totalMs: number;
  /** Copies of RAM that were made while the guest ran. */
  readonly liveRounds: number;
}

/** Files that are open for reading and writing, and empty. */
export interface SnapshotFiles {
  readonly memory: OwnedFd;
  readonly state: OwnedFd;
  /** `memory` has the length of RAM, and an earlier snapshot or holes: pages are written over it, zeroes too. */
  readonly merge?: boolean;
}

/** RAM is copied while the guest runs (`live`), then the rest while it is paused (`writing`). */
export const SNAPSHOT_STEPS = ['live', 'writing', 'resumed', 'saved', 'failed'] as const;

/** What a snapshot under way is doing. */
export interface SnapshotProgress {
  readonly step: (typeof SNAPSHOT_STEPS)[number];
  /** Bytes of RAM that are written, of those to write in this step. */
  readonly bytes: number;
  readonly total: number;
}

/** Where a snapshot goes. */
export interface SnapshotTarget {
  /** Called once, when the guest can be saved. */
  readonly open: () => Promise<SnapshotFiles>;
  /** Puts the files, which are written, in their place. */
  readonly commit: () => Promise<void>;
  /** Aborted: the guest goes on without a snapshot. */
  readonly signal: AbortSignal;
  readonly onProgress: (progress: SnapshotProgress) => void;
}

/** The last snapshot that a guest took or was restored from, and the pages written since. */
interface History {
  base: { readonly id: string; readonly layers: readonly SavedLayer[] } | undefined;
  /** Written since `base`, as far as the tracker was asked. */
  written: readonly PageRun[];
  tracker: DirtyTracker | undefined;
  isBusy: boolean;
}

const histories = new WeakMap<Machine, History>();

/** The last round is made with the guest paused when it has so few bytes left, or when rounds do not shrink. */
const SMALL_BYTES = 4 * 1024 * 1024;
const MAX_ROUNDS = 16;
const SHRINKS = 0.8;
/** Events of progress are no more frequent. */
const PROGRESS_MS = 100;

/** Notes what a machine was restored from, so that its next snapshot may be a diff. Call it before its start. */
export function noteRestored(machine: Machine, id: string, layers: readonly SavedLayer[]): void {
  const history = historyOf(machine);
  history.base = { id, layers };
  history.tracker = new DirtyTracker(machine.vm, machine.memory);
  history.tracker.startAtRestore();
}

/** The `base` that a snapshot of this machine may name; undefined: there is none, or its changes are not known. */
export function lastSnapshotId(machine: Machine): string | undefined {
  const history = histories.get(machine);
  return history?.tracker ? history.base?.id : undefined;
}

/** Resolves when the target has committed. Throws VoltError and SyscallError; the guest then goes on. */
export async function takeSnapshot(
  vm: SavableVm,
  request: SnapshotRequest,
  target: SnapshotTarget,
): Promise<SnapshotResult> {
  const history = historyOf(vm.machine);
  if (history.isBusy) {
    throw new VoltError(
      'usage',
      'Cannot save the guest: another snapshot of it is under way; wait for its end',
    );
  }
  checkSavable(vm.machine, history, request);
  history.isBusy = true;
  // RAM stays mapped if the guest resets itself meanwhile.
  using _held = vm.hold();
  const ended = new AbortController();
  void vm.ended.then((end) => ended.abort(guestEnded(end.kind)));
  const signal = AbortSignal.any([target.signal, ended.signal]);
  try {
    const files = await target.open();
    using _memory = files.memory;
    using _state = files.state;
    const result = await new Snapshot(vm, history, { request, target, files, signal }).take();
    target.onProgress({ step: 'saved', bytes: result.writtenBytes, total: result.writtenBytes });
    return result;
  } catch (error) {
    target.onProgress({ step: 'failed', bytes: 0, total: 0 });
    throw explain(error, signal);
  } finally {
    history.isBusy = false;
  }
}

function historyOf(machine: Machine): History {
  const known = histories.get(machine);
  if (known) return known;
  const history: History = { base: undefined, written: [], tracker: undefined, isBusy: false };
  histories.set(machine, history);
  return history;
}

function startTracker(machine: Machine): DirtyTracker {
  const tracker = new DirtyTracker(machine.vm, machine.memory);
  tracker.start();
  return tracker;
}

function checkSavable(machine: Machine, { base, tracker }: History, request: SnapshotRequest): void {
  const refusal = machine.devices?.refusal();
  if (refusal !== undefined) throw new VoltError('usage', refusal);
  if (request.base === undefined) return;
  const refuse = (found: string) =>
    new VoltError('usage', `Cannot save what has changed: ${found}; take a snapshot without --diff first`);
  if (!base || !tracker) throw refuse('this guest has no snapshot yet');
  if (base.id !== request.base) {
    throw refuse(
      `${request.directory} has snapshot ${request.base}, and the last one of this guest is ${base.id}`,
    );
  }
  if (base.layers.length >= MAX_LAYERS) throw refuse(`there are ${MAX_LAYERS} layers already`);
}

function guestEnded(kind: VmEnd['kind']): VoltError {
  const what = kind === 'reset' ? 'it has reset itself' : 'it has ended';
  return new VoltError('guest', `Cannot save the guest: ${what} meanwhile; the last snapshot is unchanged`);
}

function explain(error: unknown, signal: AbortSignal): unknown {
  if (signal.reason instanceof VoltError) return signal.reason;
  if (!signal.aborted) return error;
  return new VoltError('usage', 'Cannot save the guest: the snapshot was cancelled; the guest goes on');
}

interface Job {
  readonly request: SnapshotRequest;
  readonly target: SnapshotTarget;
  readonly files: SnapshotFiles;
  readonly signal: AbortSignal;
}

/** One snapshot under way. */
class Snapshot {
  readonly #vm: SavableVm;
  readonly #machine: Machine;
  readonly #history: History;
  readonly #job: Job;
  readonly #isDiff: boolean;
  readonly #ramBytes: number;
  readonly #startedAt = performance.now();
  #pausedMs = 0;
  #writtenBytes = 0;
  #rounds = 0;
  #saidAt = 0;

  constructor(vm: SavableVm, history: History, job: Job) {
    this.#vm = vm;
    this.#machine = vm.machine;
    this.#history = history;
    this.#job = job;
    this.#isDiff = job.request.base !== undefined;
    this.#ramBytes = ramBytes(vm.machine.memory.regions);
  }

  async take(): Promise<SnapshotResult> {
    const { request, target } = this.#job;
    // Pages of the layer that are in its file, as they were when they were copied.
    const copied = request.live ? await this.#copyLive() : [];
    const layers = await this.#whilePaused(async () => {
      const layers = await this.#writeRest(copied);
      if (request.stop) await this.#commit(layers);
      return layers;
    });
    if (!request.stop) {
      target.onProgress({ step: 'resumed', bytes: 0, total: 0 });
      await this.#commit(layers);
    }
    return {
      id: request.id,
      memoryBytes: this.#ramBytes,
      writtenBytes: this.#writtenBytes,
      pausedMs: this.#pausedMs,
      totalMs: performance.now() - this.#startedAt,
      liveRounds: this.#rounds,
    };
  }

  /** Copies RAM while the guest runs, until what it writes meanwhile is little or does not become less. */
  async #copyLive(): Promise<readonly PageRun[]> {
    const tracker = this.#history.tracker ?? this.#track();
    this.#collect(tracker);
    let copied: readonly PageRun[] = [];
    let wanted = this.#isDiff ? this.#history.written : this.#wholeRam;
    for (let before = Infinity; ;) {
      await this.#write('live', wanted, copied.length > 0);
      copied = uniteRuns(copied, wanted);
      this.#rounds++;
      wanted = this.#collect(tracker);
      const left = bytesOfRuns(wanted);
      if (left <= SMALL_BYTES || left > before * SHRINKS || this.#rounds >= MAX_ROUNDS) break;
      before = left;
    }
    this.#stale = wanted;
    return copied;
  }

  /** Pages that were written since they were copied. */
  #stale: readonly PageRun[] = [];

  get #wholeRam(): readonly PageRun[] {
    return [[0, this.#ramBytes]];
  }

  /** With the guest paused: writes the rest of RAM and the state. Returns the layers of the snapshot. */
  async #writeRest(copied: readonly PageRun[]): Promise<readonly SavedLayer[]> {
    const { request, files } = this.#job;
    const history = this.#history;
    const stale = history.tracker ? uniteRuns(this.#stale, this.#collect(history.tracker)) : this.#stale;
    if (!request.stop && request.track !== false) history.tracker ??= this.#track();
    const runs = this.#isDiff ? limitRuns(history.written, MAX_RUNS) : undefined;
    const rest = uniteRuns(stale, subtractRuns(runs ?? this.#wholeRam, copied));
    const merge = files.merge ?? false;
    const overwrite = merge || copied.length > 0;
    await this.#write('writing', this.#isDiff || copied.length > 0 ? rest : undefined, overwrite);
    await this.#checkRuns();
    const file = { file: memoryFileName(request.id), bytes: this.#ramBytes };
    const layers = this.#isDiff && !merge ? [...history.base!.layers, { ...file, runs: runs! }] : [file];
    const state = captureMachine(this.#machine, { id: request.id, createdAt: Date.now(), layers });
    writeFully(files.state.fd, encodeState(request.api ? { ...state, api: request.api } : state));
    return layers;
  }

  async #write(
    step: 'live' | 'writing',
    runs: readonly PageRun[] | undefined,
    overwrite: boolean,
  ): Promise<void> {
    const { files, signal } = this.#job;
    signal.throwIfAborted();
    const { bytesWritten } = await writeMemory(this.#machine.memory, files.memory.fd, {
      ...(runs ? { runs } : {}),
      overwrite,
      signal,
      onProgress: (bytes, total) => this.#say(step, bytes, total),
    });
    signal.throwIfAborted();
    this.#writtenBytes += bytesWritten;
  }

  async #commit(layers: readonly SavedLayer[]): Promise<void> {
    const { request, target, signal } = this.#job;
    signal.throwIfAborted();
    await target.commit();
    const history = this.#history;
    history.base = { id: request.id, layers };
    history.written = [];
    if (request.stop) await this.#vm.endSaved(request.directory, request.id);
  }

  #track(): DirtyTracker {
    return (this.#history.tracker = startTracker(this.#machine));
  }

  /** Pages written since the last call; notes them for this snapshot and, should it fail, for the next one. */
  #collect(tracker: DirtyTracker): readonly PageRun[] {
    const runs = tracker.collect();
    this.#history.written = uniteRuns(this.#history.written, runs);
    return runs;
  }

  /**
   * Calls `act` with the guest at rest: no vCPU in it, no request in flight, no output on its way. Lets it go
   * on afterwards, unless it has ended: of its vCPUs those that ran before.
   */
  #whilePaused<T>(act: () => T | Promise<T>): Promise<T> {
    const { devices, console, hotplug } = this.#machine;
    // A plug under way adds a vCPU, which would run.
    return hotplug.whenIdle(() =>
      this.#vm.vcpuQueue.run(async () => {
        const running = this.#vm.vcpusStarted
          ? this.#vm.vcpus.filter(({ words }) => phaseOf(words) !== 'paused')
          : [];
        const startedAt = performance.now();
        try {
          await pauseVcpus(running);
          this.#job.signal.throwIfAborted();
          await this.#checkRuns();
          await devices?.pause();
          console.flush();
          return await act();
        } finally {
          if (!this.#hasEnded) {
            devices?.resume();
            await resumeVcpus(running);
          }
          this.#pausedMs += performance.now() - startedAt;
        }
      }),
    );
  }

  /** A vCPU that has stopped ends the guest, even if this thread has not heard of it yet. */
  async #checkRuns(): Promise<void> {
    const hasStopped = this.#vm.vcpus.some(({ words }) => phaseOf(words) === 'stopped');
    if (this.#hasEnded || hasStopped) throw guestEnded((await this.#vm.ended).kind);
  }

  get #hasEnded(): boolean {
    return Atomics.load(this.#machine.shared.words, VM_WORD.ending) !== 0;
  }

  #say(step: 'live' | 'writing', bytes: number, total: number): void {
    const now = performance.now();
    if (now - this.#saidAt < PROGRESS_MS && bytes < total) return;
    this.#saidAt = now;
    this.#job.target.onProgress({ step, bytes, total });
  }
}

function writeFully(fd: number, bytes: Uint8Array): void {
  for (let done = 0; done < bytes.length;) done += writeSync(fd, bytes, done, bytes.length - done, done);
}
