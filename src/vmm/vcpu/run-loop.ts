/**
 * The loop of one vCPU: KVM_RUN, then one switch on the exit reason. Nothing on the way of an I/O exit
 * allocates, makes a BigInt or a closure.
 */
import { ERRNO, SyscallError } from '../../ffi/errno.ts';
import { asPointer, lastErrno, libc } from '../../ffi/libc.ts';
import { EXIT, IOCTL, KVM_MP_STATE, MP_STATE, REGS, RUN } from '../../kvm/abi.ts';
import { readMpState, readRegs, readSipiVector } from '../../kvm/vcpu.ts';
import { BUS_EVENT, readPort, writePort, type Board, type BusEvent } from '../bus/board.ts';
import { flushCoalesced } from '../serial/coalesced-output.ts';
import { reportExit } from './exit-report.ts';
import {
  EXIT_COUNTERS,
  lockBus,
  now,
  setPhase,
  unlockBus,
  VCPU_COMMAND,
  VCPU_MOMENT,
  VCPU_PHASE,
  VCPU_WORD,
} from '../bus/shared-state.ts';
import type { VcpuReport } from './report.ts';
import { readVirtio, virtioSlot, writeVirtio } from '../../virtio/host/bus.ts';

export interface VcpuContext {
  readonly fd: number;
  /** SAFETY: three views of this vCPU's kvm_run page, mapped by the main thread until the worker has ended. */
  readonly run8: Uint8Array;
  readonly run16: Uint16Array;
  readonly run32: Uint32Array;
  readonly board: Board;
  /** This vCPU's words and moments in the shared state. */
  readonly words: Int32Array;
  readonly moments: Float64Array;
  /** Watch for the SIPI of an AP, at the price of polling for it. */
  readonly timeline: boolean;
  /** What KVM_RUN returned on the thread that had this vCPU before: 0, or a negated errno. */
  readonly pending: number | undefined;
}

/** Word and half-word offsets of kvm_run, which the loop reads through typed arrays. */
const EXIT_REASON_32 = RUN.exitReason / 4;
const IO_PORT_16 = RUN.io.port / 2;
const IO_COUNT_32 = RUN.io.count / 4;
const IO_DATA_OFFSET_32 = RUN.io.dataOffset / 4;
const MMIO_ADDRESS_32 = RUN.mmio.physAddr / 4;
const MMIO_DATA_32 = RUN.mmio.data / 4;
const MMIO_LENGTH_32 = RUN.mmio.length / 4;
const TWO_POW_32 = 2 ** 32;
const KVM_EXIT_IO_IN = 0;
/** A number, which Bun hands over 30 ns sooner than a null. */
const NO_ARGUMENT = asPointer(0);

/** Runs the vCPU until something ends it. Throws SyscallError when KVM_RUN itself fails. */
export function runVcpu(vcpu: VcpuContext): VcpuReport {
  const { pending } = vcpu;
  let end = pending === undefined ? undefined : handleReturn(vcpu, -pending);
  while (end === undefined) end = runOnce(vcpu);
  return end;
}

/**
 * From one exit to the next. Not the body of the loop above, because the engine counts a call for more than a turn of
 * a loop: as a function it is optimized after some hundred exits, as a loop's body after some ten thousand.
 */
function runOnce(vcpu: VcpuContext): VcpuReport | undefined {
  const result = libc.ioctl(vcpu.fd, IOCTL.run, NO_ARGUMENT);
  return handleReturn(vcpu, result < 0 ? lastErrno() : 0);
}

/** Acts on what KVM_RUN has returned for, `errno` being 0 or why it failed. Returns why the vCPU ends, if it does. */
function handleReturn(vcpu: VcpuContext, errno: number): VcpuReport | undefined {
  if (errno !== 0) {
    if (errno === ERRNO.EINTR) return obeyMainThread(vcpu) ? { kind: 'stopped' } : undefined;
    if (errno === ERRNO.EAGAIN) {
      noteWakeUp(vcpu);
      return undefined;
    }
    const failure = new SyscallError('KVM_RUN', errno, runAdvice(errno));
    try {
      flushCoalesced(vcpu.board);
      waitForOutput(vcpu.board);
    } finally {
      // Whatever else fails now fails because of this.
      throw failure;
    }
  }
  flushCoalesced(vcpu.board);
  const { run32, words } = vcpu;
  const reason = run32[EXIT_REASON_32]!;
  if (reason < EXIT_COUNTERS) words[VCPU_WORD.exits + reason] = words[VCPU_WORD.exits + reason]! + 1;
  switch (reason) {
    case EXIT.io: {
      const event = handlePio(vcpu);
      return event === BUS_EVENT.none ? undefined : reportBusEvent(event, vcpu.board);
    }
    case EXIT.mmio:
      handleMmio(vcpu);
      return undefined;
    case EXIT.intr:
    case EXIT.irqWindowOpen:
    case EXIT.setTpr:
    case EXIT.hlt:
    case EXIT.ioapicEoi:
      // Nothing to do: the interrupt controllers are in KVM, which acts on these itself.
      return undefined;
    default:
      waitForOutput(vcpu.board);
      return reportExit(reason, vcpu.run8, vcpu.fd);
  }
}

/** Another vCPU may be in the middle of handing output over that came before what is to be told. */
function waitForOutput({ shared }: Board): void {
  lockBus(shared.words);
  unlockBus(shared.words);
}

/**
 * The vCPU was kicked out of KVM_RUN, which has finished any pending I/O by now: say where it is if that was
 * wanted, stay out while it is to be paused. True when it is to stop.
 */
function obeyMainThread(vcpu: VcpuContext): boolean {
  const { run8, words } = vcpu;
  for (;;) {
    // Clear before looking: a command given after the look sets the flag again, and KVM_RUN returns at once.
    run8[RUN.immediateExit] = 0;
    const wanted = Atomics.load(words, VCPU_WORD.sampleWanted);
    if (wanted !== Atomics.load(words, VCPU_WORD.sampleDone)) {
      publishPlace(vcpu);
      Atomics.store(words, VCPU_WORD.sampleDone, wanted);
      Atomics.notify(words, VCPU_WORD.sampleDone);
    }
    const command = Atomics.load(words, VCPU_WORD.command);
    if (command === VCPU_COMMAND.run || command === VCPU_COMMAND.stop) {
      setPhase(words, VCPU_PHASE.running);
      return command === VCPU_COMMAND.stop;
    }
    publishPlace(vcpu);
    setPhase(words, command === VCPU_COMMAND.park ? VCPU_PHASE.parked : VCPU_PHASE.paused);
    Atomics.wait(words, VCPU_WORD.command, command);
  }
}

function publishPlace({ fd, words }: VcpuContext): void {
  const regs = readRegs(fd);
  const mpState = readMpState(fd, mpStateScratch);
  Atomics.store(words, VCPU_WORD.mpState, mpState);
  Atomics.store(words, VCPU_WORD.sipiVector, mpState === KVM_MP_STATE.sipiReceived ? readSipiVector(fd) : 0);
  for (let at = 0; at < REGS.size; at += 4) {
    Atomics.store(words, VCPU_WORD.regs + at / 4, regs.getInt32(at, true));
  }
}

/** `rep ins` and `rep outs` arrive as one exit with a count; each element is one bus access. */
function handlePio({ run8, run16, run32, board }: VcpuContext): BusEvent {
  const direction = run8[RUN.io.direction]!;
  const size = run8[RUN.io.size]!;
  const port = run16[IO_PORT_16]!;
  const count = run32[IO_COUNT_32]!;
  let at = run32[IO_DATA_OFFSET_32]!;
  const { words } = board.shared;
  let event: BusEvent = BUS_EVENT.none;
  lockBus(words);
  try {
    for (let i = 0; i < count && event === BUS_EVENT.none; i++, at += size) {
      if (direction === KVM_EXIT_IO_IN) storeValue(run8, at, size, readPort(board, port, size));
      else event = writePort(board, port, size, loadValue(run8, at, size));
    }
  } finally {
    unlockBus(words);
  }
  return event;
}

function loadValue(run8: Uint8Array, at: number, size: number): number {
  let value = 0;
  for (let i = 0; i < size; i++) value |= run8[at + i]! << (8 * i);
  return value >>> 0;
}

function storeValue(run8: Uint8Array, at: number, size: number, value: number): void {
  for (let i = 0; i < size; i++) run8[at + i] = value >>> (8 * i);
}

/** One access to memory that is no RAM. Where no device answers, reads find all ones and writes go nowhere. */
function handleMmio({ run8, run32, board }: VcpuContext): void {
  const address = run32[MMIO_ADDRESS_32]! + run32[MMIO_ADDRESS_32 + 1]! * TWO_POW_32;
  const slot = virtioSlot(board.virtio, address);
  if (slot < 0) {
    if (run8[RUN.mmio.isWrite]) return;
    run32[MMIO_DATA_32] = 0xffff_ffff;
    run32[MMIO_DATA_32 + 1] = 0xffff_ffff;
    return;
  }
  const { words } = board.shared;
  const length = run32[MMIO_LENGTH_32]!;
  lockBus(words);
  try {
    // 8 bytes at once are two registers. KVM splits what crosses a page, and what is not aligned to its size.
    for (let done = 0; done < length; done += 4) {
      const size = Math.min(4, length - done);
      if (run8[RUN.mmio.isWrite])
        writeVirtio(board.virtio, slot, address + done, size, loadValue(run8, RUN.mmio.data + done, size));
      else storeValue(run8, RUN.mmio.data + done, size, readVirtio(board.virtio, slot, address + done, size));
    }
  } finally {
    unlockBus(words);
  }
}

function reportBusEvent(event: BusEvent, board: Board): VcpuReport {
  if (event === BUS_EVENT.guestExit) return { kind: 'guest-exit', status: board.exitStatus };
  return event === BUS_EVENT.powerOff ? { kind: 'power-off' } : { kind: 'reset' };
}

const SIPI_POLL_MICROSECONDS = 50;
const SIPI_POLLS = 1000;
const mpStateScratch = new Uint32Array(MP_STATE.size / 4);

/**
 * KVM_RUN of an AP that waits returns EAGAIN when an INIT has come, and only then. To learn when the SIPI came,
 * the timeline asks for the MP state (which also lets KVM take the SIPI) until it is runnable.
 */
function noteWakeUp({ fd, moments, timeline, words }: VcpuContext): void {
  Atomics.store(words, VCPU_WORD.mpState, readMpState(fd, mpStateScratch));
  if (!timeline || moments[VCPU_MOMENT.started] !== 0) return;
  for (let i = 0; i < SIPI_POLLS; i++) {
    const state = readMpState(fd, mpStateScratch);
    if (state === KVM_MP_STATE.runnable) {
      moments[VCPU_MOMENT.started] = now();
      return;
    }
    if (state === KVM_MP_STATE.uninitialized) return;
    libc.usleep(SIPI_POLL_MICROSECONDS);
  }
}

function runAdvice(errno: number): string | undefined {
  switch (errno) {
    case ERRNO.EFAULT:
      return 'the guest touched memory that the host cannot provide';
    case ERRNO.ENOMEM:
      return 'the host ran out of memory for the guest';
    default:
      return undefined;
  }
}
