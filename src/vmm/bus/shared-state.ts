/**
 * What all threads of one VM share: a SharedArrayBuffer with the bus lock, the state of the board's devices,
 * the console rings, and a block of words for each vCPU. Everything else is sent in messages before the guest
 * runs.
 */
import { CMOS_WORD } from '../../chips/cmos.ts';
import { cpuHotplugWords } from '../../chips/cpu-hotplug.ts';
import { I8042_WORD } from '../../chips/i8042.ts';
import { IMCR_WORD } from '../../chips/imcr.ts';
import { TEXT_CURSOR_WORD } from '../../chips/text-cursor.ts';
import { UART_WORD } from '../../chips/uart.ts';
import { REGS } from '../../kvm/abi.ts';
import { MAX_HOST_CPUS } from '../../machine/cpu-list.ts';

/** Words of the VM as a whole. */
export const VM_WORD = {
  /** 0 free, 1 held, 2 held with waiters. */
  busLock: 0,
  /** 1 when there is console output for the main thread; notified. */
  doorbell: 1,
  /** 1 once the VM is ending: no thread waits for the console any more. */
  ending: 2,
  /** APs that are about to enter KVM_RUN; notified. */
  apsReady: 3,
  /** Console output, modulo 2^32: bytes written by the guest, bytes taken by the main thread (notified). */
  transmitHead: 4,
  transmitTail: 5,
  /** ACPI_EVENT bits that the guest has not read yet. */
  acpiEvents: 6,
  /** Counts the guest's ejections and _OST answers in the hotplug registers; notified. */
  hotplugRequests: 7,
  /** 1 when the guest prints so fast that coalescing its output pays; notified. */
  burst: 8,
  /** 1 while a debugger is attached; set by the main thread while no vCPU is in the guest. */
  debugger: 9,
  /** Counts the vCPUs that have stopped for the debugger; notified. */
  debugStops: 10,
  size: 11,
} as const;

const REGS_WORDS = REGS.size / 4;
export const CPU_MASK_WORDS = MAX_HOST_CPUS / 32;

/** Words of one vCPU. */
export const VCPU_WORD = {
  /** One of VCPU_COMMAND, set by the main thread. */
  command: 0,
  /** Host thread id once there is a thread, for tgkill. It changes when a Worker takes the vCPU over. */
  threadId: 1,
  /** One of VCPU_PHASE, set by the vCPU's thread; notified. */
  phase: 2,
  /**
   * The vCPU's last sample: KVM's MP state, the vector of a pending SIPI, struct kvm_regs. Published when a
   * command or a request of the main thread made the vCPU leave KVM_RUN.
   */
  mpState: 3,
  sipiVector: 4,
  regs: 5,
  /** Counts the main thread's requests for a sample, and those that were served (notified). */
  sampleWanted: 5 + REGS_WORDS,
  sampleDone: 6 + REGS_WORDS,
  /** One of SCHEDULING: what the main thread wants the vCPU's thread to set for itself; notified. */
  scheduling: 7 + REGS_WORDS,
  /** Why that failed: an errno, or 0. */
  schedulingErrno: 8 + REGS_WORDS,
  /** The requested nice value, and the requested host CPUs as a cpu_set_t. */
  nice: 9 + REGS_WORDS,
  cpus: 10 + REGS_WORDS,
  /** One of DEBUG_STOP: set by the vCPU's thread, which then pauses itself; cleared by the main thread. */
  debugStop: 10 + REGS_WORDS + CPU_MASK_WORDS,
  /** Address of the ring in which the vCPU's thread notes its exits (trace/ring.layout.ts): low, high; 0: none. */
  trace: 11 + REGS_WORDS + CPU_MASK_WORDS,
  /** Exits by KVM's exit reason, modulo 2^32; written by the vCPU's thread alone. */
  exits: 13 + REGS_WORDS + CPU_MASK_WORDS,
  size: 13 + REGS_WORDS + CPU_MASK_WORDS + 48,
} as const;

export const EXIT_COUNTERS = VCPU_WORD.size - VCPU_WORD.exits;
/** `park`: ejected by the guest; the vCPU stays out of it until it is plugged again. */
export const VCPU_COMMAND = { run: 0, stop: 1, pause: 2, park: 3 } as const;
export const VCPU_PHASE = { created: 0, running: 1, paused: 2, stopped: 3, parked: 4 } as const;

/** Why a vCPU stopped for the debugger. `emulation`: KVM's emulator does not know the INT3 of a breakpoint. */
export const DEBUG_STOP = { none: 0, exception: 1, emulation: 2 } as const;

/**
 * The main thread goes from `none` to `setCpus` or `setNice` and from `done` to `none`, the vCPU's thread
 * through `busy` to `done`.
 */
export const SCHEDULING = { none: 0, setCpus: 1, setNice: 2, busy: 3, done: 4 } as const;

/** Moments of one vCPU, in milliseconds since 1970; 0 until they happen. */
export const VCPU_MOMENT = {
  workerUp: 0,
  entered: 1,
  started: 2,
  sampled: 3,
  init: 4,
  firstExit: 5,
  size: 6,
} as const;
export const VM_MOMENT = { firstConsoleByte: 0, size: 1 } as const;

const RECEIVE_BYTES = 4096;
const TRANSMIT_BYTES = 64 * 1024;

export interface SharedState {
  readonly buffer: SharedArrayBuffer;
  readonly vcpuCount: number;
  readonly words: Int32Array;
  readonly uart: Int32Array;
  readonly i8042: Int32Array;
  readonly cmos: Int32Array;
  readonly imcr: Int32Array;
  readonly textCursor: Int32Array;
  readonly cpuHotplug: Int32Array;
  readonly received: Uint8Array;
  readonly transmitted: Uint8Array;
  readonly moments: Float64Array;
  /** Words and moments of each vCPU by index. */
  vcpuWords(index: number): Int32Array;
  vcpuMoments(index: number): Float64Array;
}

/** Byte offsets, moments first because they need 8-byte alignment. */
function offsets(vcpuCount: number) {
  const moments = 0;
  const words = moments + 8 * (VM_MOMENT.size + vcpuCount * VCPU_MOMENT.size);
  const uart = words + 4 * VM_WORD.size;
  const i8042 = uart + 4 * UART_WORD.size;
  const cmos = i8042 + 4 * I8042_WORD.size;
  const imcr = cmos + 4 * CMOS_WORD.size;
  const textCursor = imcr + 4 * IMCR_WORD.size;
  const cpuHotplug = textCursor + 4 * TEXT_CURSOR_WORD.size;
  const vcpus = cpuHotplug + 4 * cpuHotplugWords(vcpuCount);
  const received = vcpus + 4 * vcpuCount * VCPU_WORD.size;
  const transmitted = received + RECEIVE_BYTES;
  return {
    moments,
    words,
    uart,
    i8042,
    cmos,
    imcr,
    textCursor,
    cpuHotplug,
    vcpus,
    received,
    transmitted,
    end: transmitted + TRANSMIT_BYTES,
  };
}

export function createSharedState(vcpuCount: number): SharedState {
  return viewSharedState(new SharedArrayBuffer(offsets(vcpuCount).end), vcpuCount);
}

/** The same state seen from another thread. */
export function viewSharedState(buffer: SharedArrayBuffer, vcpuCount: number): SharedState {
  const at = offsets(vcpuCount);
  const words = (offset: number, length: number) => new Int32Array(buffer, offset, length);
  return {
    buffer,
    vcpuCount,
    words: words(at.words, VM_WORD.size),
    uart: words(at.uart, UART_WORD.size),
    i8042: words(at.i8042, I8042_WORD.size),
    cmos: words(at.cmos, CMOS_WORD.size),
    imcr: words(at.imcr, IMCR_WORD.size),
    textCursor: words(at.textCursor, TEXT_CURSOR_WORD.size),
    cpuHotplug: words(at.cpuHotplug, cpuHotplugWords(vcpuCount)),
    received: new Uint8Array(buffer, at.received, RECEIVE_BYTES),
    transmitted: new Uint8Array(buffer, at.transmitted, TRANSMIT_BYTES),
    moments: new Float64Array(buffer, at.moments, VM_MOMENT.size),
    vcpuWords: (index) => words(at.vcpus + 4 * index * VCPU_WORD.size, VCPU_WORD.size),
    vcpuMoments: (index) =>
      new Float64Array(
        buffer,
        at.moments + 8 * (VM_MOMENT.size + index * VCPU_MOMENT.size),
        VCPU_MOMENT.size,
      ),
  };
}

export function setPhase(words: Int32Array, phase: (typeof VCPU_PHASE)[keyof typeof VCPU_PHASE]): void {
  if (Atomics.exchange(words, VCPU_WORD.phase, phase) !== phase) Atomics.notify(words, VCPU_WORD.phase);
}

/** Takes the bus lock: a futex mutex. (U. Drepper, "Futexes Are Tricky", §5) */
export function lockBus(words: Int32Array): void {
  if (Atomics.compareExchange(words, VM_WORD.busLock, 0, 1) === 0) return;
  while (Atomics.exchange(words, VM_WORD.busLock, 2) !== 0) Atomics.wait(words, VM_WORD.busLock, 2);
}

/** Takes the bus lock if it is free. */
export function tryLockBus(words: Int32Array): boolean {
  return Atomics.compareExchange(words, VM_WORD.busLock, 0, 1) === 0;
}

export function unlockBus(words: Int32Array): void {
  if (Atomics.exchange(words, VM_WORD.busLock, 0) === 2) Atomics.notify(words, VM_WORD.busLock, 1);
}

/** Wakes the main thread for console output, unless it was woken already. */
export function ringDoorbell(words: Int32Array): void {
  if (Atomics.exchange(words, VM_WORD.doorbell, 1) === 0) Atomics.notify(words, VM_WORD.doorbell);
}

/** Notes that the guest prints fast. */
export function raiseBurst(words: Int32Array): void {
  if (Atomics.exchange(words, VM_WORD.burst, 1) === 0) Atomics.notify(words, VM_WORD.burst);
}

/** Milliseconds since 1970 with microsecond resolution, comparable between threads. */
export function now(): number {
  return performance.timeOrigin + performance.now();
}
