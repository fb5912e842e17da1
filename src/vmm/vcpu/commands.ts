/** On a vCPU's thread: obeys the main thread's commands after a kick, and publishes the vCPU's state. */
import { TWO_POW_32 } from '../../binary/bytes.ts';
import { arrayBufferAt, libc, type HostPointer } from '../../ffi/libc.ts';
import { TRACE_RING, viewTraceRing, type TraceRing } from '../../trace/ring.layout.ts';
import { KVM_MP_STATE, REGS, RUN } from '../../kvm/abi.ts';
import {
  now,
  setPhase,
  VCPU_COMMAND,
  VCPU_MOMENT,
  VCPU_PHASE,
  VCPU_WORD,
  VM_WORD,
  type SharedState,
} from '../bus/shared-state.ts';
import type { VcpuQueries } from './queries.ts';
import { obeyScheduling } from './scheduling.ts';

/** The ring in which a vCPU that is traced notes its exits. */
export interface TraceSlot {
  address: number;
  ring: TraceRing | undefined;
}

interface CommandContext {
  readonly trace?: TraceSlot;
  readonly kvm: VcpuQueries;
  readonly run8: Uint8Array;
  /** This vCPU's words and moments in the shared state. */
  readonly words: Int32Array;
  readonly moments: Float64Array;
}

/**
 * After a kick, by when KVM_RUN has completed any pending I/O: publishes a sample and sets affinity or nice
 * value if that was requested, and waits while the vCPU is to be paused or parked. True when it is to stop.
 */
export function obeyCommands(vcpu: CommandContext): boolean {
  const { run8, words } = vcpu;
  for (;;) {
    // Cleared before the command is read: a later command sets it again, and KVM_RUN returns at once.
    run8[RUN.immediateExit] = 0;
    const wanted = Atomics.load(words, VCPU_WORD.sampleWanted);
    if (wanted !== Atomics.load(words, VCPU_WORD.sampleDone)) {
      publishSample(vcpu);
      Atomics.store(words, VCPU_WORD.sampleDone, wanted);
      Atomics.notify(words, VCPU_WORD.sampleDone);
    }
    obeyScheduling(words);
    obeyTrace(vcpu);
    const command = Atomics.load(words, VCPU_WORD.command);
    if (command === VCPU_COMMAND.run || command === VCPU_COMMAND.stop) {
      setPhase(words, VCPU_PHASE.running);
      return command === VCPU_COMMAND.stop;
    }
    publishSample(vcpu);
    setPhase(words, command === VCPU_COMMAND.park ? VCPU_PHASE.parked : VCPU_PHASE.paused);
    Atomics.wait(words, VCPU_WORD.command, command);
  }
}

/** Starts or ends the notes of exits, if the main thread wants so. */
export function obeyTrace({ words, trace }: Pick<CommandContext, 'words' | 'trace'>): void {
  if (!trace) return;
  const low = Atomics.load(words, VCPU_WORD.trace) >>> 0;
  const address = (Atomics.load(words, VCPU_WORD.trace + 1) >>> 0) * TWO_POW_32 + low;
  if (address === trace.address) return;
  trace.address = address;
  // SAFETY: the ring stays mapped until all threads of the machine have left.
  trace.ring =
    address === 0 ? undefined : viewTraceRing(arrayBufferAt(address as HostPointer, TRACE_RING.bytes));
}

/**
 * Pauses this vCPU for the debugger, which looks at why it exited and lets it run on. `reason` is one of DEBUG_STOP.
 * True when it is to stop for good.
 */
export function stopForDebugger(
  vcpu: CommandContext,
  { words: vmWords }: SharedState,
  reason: number,
): boolean {
  const { words } = vcpu;
  Atomics.store(words, VCPU_WORD.debugStop, reason);
  Atomics.compareExchange(words, VCPU_WORD.command, VCPU_COMMAND.run, VCPU_COMMAND.pause);
  Atomics.add(vmWords, VM_WORD.debugStops, 1);
  Atomics.notify(vmWords, VM_WORD.debugStops);
  return obeyCommands(vcpu);
}

/** `kvm` must not be in KVM_RUN. */
export function publishSample({ kvm, words, moments }: Omit<CommandContext, 'run8'>): void {
  const regs = kvm.regs();
  const mpState = kvm.mpState();
  Atomics.store(words, VCPU_WORD.mpState, mpState);
  Atomics.store(words, VCPU_WORD.sipiVector, mpState === KVM_MP_STATE.sipiReceived ? kvm.sipiVector() : 0);
  for (let at = 0; at < REGS.size; at += 4)
    Atomics.store(words, VCPU_WORD.regs + at / 4, regs.getInt32(at, true));
  moments[VCPU_MOMENT.sampled] = now();
}

const SIPI_POLL_MICROSECONDS = 50;
const SIPI_POLLS = 1000;

/**
 * KVM_RUN of a waiting AP returns EAGAIN when it has received an INIT, and only then. To note when the SIPI
 * follows, the timeline reads the MP state, which also lets KVM process the SIPI, until the AP is runnable.
 */
export function noteWakeUp({ kvm, moments, timeline, words }: WakeUpContext): void {
  if (moments[VCPU_MOMENT.init] === 0) moments[VCPU_MOMENT.init] = now();
  Atomics.store(words, VCPU_WORD.mpState, kvm.mpState());
  if (!timeline || moments[VCPU_MOMENT.started] !== 0) return;
  for (let i = 0; i < SIPI_POLLS; i++) {
    const state = kvm.mpState();
    if (state === KVM_MP_STATE.runnable) {
      moments[VCPU_MOMENT.started] = now();
      return;
    }
    if (state === KVM_MP_STATE.uninitialized) return;
    libc.usleep(SIPI_POLL_MICROSECONDS);
  }
}

interface WakeUpContext extends CommandContext {
  readonly timeline: boolean;
}
