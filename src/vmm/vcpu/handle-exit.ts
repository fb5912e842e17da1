/**
 * What happens when KVM_RUN returns: one switch on the exit reason. It reads and writes the vCPU's kvm_run
 * page and the board; whatever else it needs is passed in, so that it is tested without a guest.
 *
 * Nothing on the way of an I/O exit allocates, makes a BigInt or a closure.
 */
import { TWO_POW_32 } from '../../binary/bytes.ts';
import { ERRNO, SyscallError } from '../../ffi/errno.ts';
import { EXIT, INTERNAL_ERROR, RUN } from '../../kvm/abi.ts';
import { BUS_EVENT, readPort, writePort, type Board, type BusEvent } from '../bus/board.ts';
import { DEBUG_STOP, EXIT_COUNTERS, lockBus, unlockBus, VCPU_WORD, VM_WORD } from '../bus/shared-state.ts';
import { flushCoalesced } from '../serial/coalesced-output.ts';
import { readVirtio, virtioSlot, writeVirtio } from '../../virtio/host/bus.ts';
import type { PciBus } from '../../virtio/host/pci-bus.ts';
import { reportExit } from './exit-report.ts';
import { noteWakeUp, obeyCommands, stopForDebugger, type TraceSlot } from './commands.ts';
import type { VcpuQueries } from './queries.ts';
import type { VcpuReport } from './report.ts';

/**
 * Three views of a vCPU's kvm_run page. SAFETY: the page stays mapped until the vCPU's thread has reported
 * its end.
 */
export interface RunPage {
  readonly run8: Uint8Array;
  readonly run16: Uint16Array;
  readonly run32: Uint32Array;
}

export interface VcpuContext extends RunPage {
  readonly kvm: VcpuQueries;
  readonly board: Board;
  /** This vCPU's words and moments in the shared state. */
  readonly words: Int32Array;
  readonly moments: Float64Array;
  /** Whether to note when an AP receives its SIPI, which is polled for. */
  readonly timeline: boolean;
  readonly trace?: TraceSlot;
}

export function viewRunPage(page: ArrayBuffer): RunPage {
  return { run8: new Uint8Array(page), run16: new Uint16Array(page), run32: new Uint32Array(page) };
}

/** Offsets in kvm_run as indices of typed arrays. */
const EXIT_REASON_32 = RUN.exitReason / 4;
const IO_PORT_16 = RUN.io.port / 2;
const IO_COUNT_32 = RUN.io.count / 4;
const IO_DATA_OFFSET_32 = RUN.io.dataOffset / 4;
const MMIO_ADDRESS_32 = RUN.mmio.physAddr / 4;
const MMIO_DATA_32 = RUN.mmio.data / 4;
const MMIO_LENGTH_32 = RUN.mmio.length / 4;
const KVM_EXIT_IO_IN = 0;

/**
 * Handles one return of KVM_RUN; `errno` is 0 or why it failed. Returns why the vCPU ends, or undefined when
 * it is to be entered again. Throws SyscallError when KVM_RUN failed for good.
 */
export function handleExit(vcpu: VcpuContext, errno: number): VcpuReport | undefined {
  if (errno !== 0) return handleErrno(vcpu, errno);
  const { run32, words, board } = vcpu;
  flushCoalesced(board);
  const reason = run32[EXIT_REASON_32]!;
  if (reason < EXIT_COUNTERS) words[VCPU_WORD.exits + reason] = words[VCPU_WORD.exits + reason]! + 1;
  switch (reason) {
    case EXIT.io: {
      const event = handlePio(vcpu);
      return event === BUS_EVENT.none ? undefined : reportBusEvent(event, board);
    }
    case EXIT.mmio:
      handleMmio(vcpu);
      return undefined;
    case EXIT.intr:
    case EXIT.irqWindowOpen:
    case EXIT.setTpr:
    case EXIT.hlt:
    case EXIT.ioapicEoi:
      // Nothing to do: the interrupt controllers are in KVM, which handles these itself.
      return undefined;
    default:
      waitForOutput(board);
      return handleRareExit(vcpu, reason);
  }
}

function handleRareExit(vcpu: VcpuContext, reason: number): VcpuReport | undefined {
  const { shared } = vcpu.board;
  const why =
    Atomics.load(shared.words, VM_WORD.debugger) === 0 ? DEBUG_STOP.none : debugStopOf(vcpu, reason);
  if (why === DEBUG_STOP.none) return reportExit(reason, vcpu);
  return stopForDebugger(vcpu, shared, why) ? { kind: 'stopped' } : undefined;
}

const INT3 = 0xcc;

/** Where KVM emulates the guest's kernel, its emulator may not know the INT3 of a breakpoint. */
function debugStopOf({ run8, run32 }: VcpuContext, reason: number): number {
  if (reason === EXIT.debug) return DEBUG_STOP.exception;
  const isEmulation =
    reason === EXIT.internalError && run32[RUN.internal.suberror / 4] === INTERNAL_ERROR.emulation;
  const hasBytes = (run8[RUN.internal.data]! & 1) !== 0 && run8[RUN.internal.insnSize]! > 0;
  const isInt3 = isEmulation && hasBytes && run8[RUN.internal.insnBytes] === INT3;
  return isInt3 ? DEBUG_STOP.emulation : DEBUG_STOP.none;
}

/** What an exit was about, for a trace: the port and its direction, or the address. */
export function exitDetail({ run8, run16, run32 }: RunPage): number {
  switch (run32[EXIT_REASON_32]) {
    case EXIT.io:
      return run16[IO_PORT_16]! + 0x1_0000 * run8[RUN.io.direction]!;
    case EXIT.mmio:
      return run32[MMIO_ADDRESS_32]! + run32[MMIO_ADDRESS_32 + 1]! * TWO_POW_32;
    default:
      return 0;
  }
}

function handleErrno(vcpu: VcpuContext, errno: number): VcpuReport | undefined {
  if (errno === ERRNO.EINTR) return obeyCommands(vcpu) ? { kind: 'stopped' } : undefined;
  if (errno === ERRNO.EAGAIN) {
    noteWakeUp(vcpu);
    return undefined;
  }
  const failure = new SyscallError('KVM_RUN', errno, runAdvice(errno));
  try {
    flushCoalesced(vcpu.board);
    waitForOutput(vcpu.board);
  } catch {
    // Whatever fails here fails because of KVM_RUN.
  }
  throw failure;
}

/** Another vCPU may be handing over console output that came before what is about to be reported. */
function waitForOutput({ shared }: Board): void {
  lockBus(shared.words);
  unlockBus(shared.words);
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

/**
 * One access to memory that is not RAM. Where there is no device, reads return all ones and writes are
 * dropped.
 */
function handleMmio({ run8, run32, board }: VcpuContext): void {
  const address = run32[MMIO_ADDRESS_32]! + run32[MMIO_ADDRESS_32 + 1]! * TWO_POW_32;
  const slot = virtioSlot(board.virtio, address);
  if (slot < 0) {
    if (board.pci && handlePciMmio(run8, run32, board, board.pci, address)) return;
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

/** False: nothing on the PCI bus is at `address`. A BAR may move at any time, hence the lock. */
function handlePciMmio(
  run8: Uint8Array,
  run32: Uint32Array,
  { shared: { words } }: Board,
  pci: PciBus,
  address: number,
): boolean {
  const length = run32[MMIO_LENGTH_32]!;
  lockBus(words);
  try {
    if (!pci.claims(address)) return false;
    for (let done = 0; done < length; done += 4) {
      const size = Math.min(4, length - done);
      if (run8[RUN.mmio.isWrite])
        pci.write(address + done, size, loadValue(run8, RUN.mmio.data + done, size));
      else storeValue(run8, RUN.mmio.data + done, size, pci.read(address + done, size));
    }
  } finally {
    unlockBus(words);
  }
  return true;
}

function reportBusEvent(event: BusEvent, board: Board): VcpuReport {
  if (event === BUS_EVENT.guestExit) return { kind: 'guest-exit', status: board.exitStatus };
  return event === BUS_EVENT.powerOff ? { kind: 'power-off' } : { kind: 'reset' };
}

function runAdvice(errno: number): string | undefined {
  switch (errno) {
    case ERRNO.EFAULT:
      return 'the guest touched memory that the host cannot provide, such as a page of a file that was truncated';
    case ERRNO.ENOMEM:
      return 'the host ran out of memory for the guest';
    default:
      return undefined;
  }
}
