/** Answers to the commands of gdb that neither resume nor end the guest. (GDB manual, appendix E) */
import type { GdbCommand, ThreadId } from '../../gdb/commands.ts';
import { MAX_PACKET_BYTES, toHex } from '../../gdb/packets.ts';
import { describeTarget } from '../../gdb/target-description.ts';
import type { Vcpu } from '../vcpu/vcpu.ts';
import type { GuestDebugger, GuestStop } from './guest-debugger.ts';
import { describeThread, runMonitor } from './monitor.ts';
import { encodeRegister, encodeRegisters, readBlocks, writeRegister, writeRegisters } from './registers.ts';

/** What a session knows of its gdb. */
export interface GdbState {
  readonly debugger: GuestDebugger;
  /** As gdb told them by qSupported. */
  features: ReadonlySet<string>;
  noAck: boolean;
  /** Why the guest stands; undefined: gdb has just attached. */
  stop: GuestStop | undefined;
  /** The vCPU whose registers and memory are meant; undefined: the first. */
  thread: Vcpu | undefined;
}

const OK = 'OK';
const UNSUPPORTED = '';
/** errno values, which gdb shows as they are. */
const EFAULT = 'E0e';
const EINVAL = 'E16';
const NO_SUCH_THREAD = 'E03';
const MALFORMED =
  'E.Cannot read this packet: its arguments are malformed; use a gdb that speaks the remote protocol';
const NO_PLACE =
  'E.Cannot insert the breakpoint: nothing is mapped there, and all four debug registers are in use; delete another one';

type Answered = Exclude<GdbCommand, { kind: 'resume' | 'detach' | 'kill' }>;

/** The answer's payload, with one character for each byte. Throws SyscallError and VoltError. */
export async function answerCommand(state: GdbState, command: Answered): Promise<string> {
  if (state.debugger.isRunning && NEEDS_STOP.has(command.kind))
    return 'E.Cannot do that: the guest runs; interrupt it first';
  switch (command.kind) {
    case 'why-stopped':
      return describeStop(state.stop ?? { vcpu: threadOf(state), reason: { kind: 'start' } }, state.features);
    case 'supported':
      state.features = new Set(command.features);
      return SUPPORTED;
    case 'no-ack-mode':
    case 'is-attached':
      return command.kind === 'is-attached' ? '1' : OK;
    case 'continue-actions':
      return 'vCont;c;C;s;S;r';
    case 'first-threads':
      return `m${state.debugger.vm.vcpus.map(idOf).join(',')}`;
    case 'more-threads':
      return 'l';
    case 'current-thread':
      return `QC${idOf(threadOf(state))}`;
    case 'is-alive':
      return findThread(state, command.thread) ? OK : NO_SUCH_THREAD;
    case 'thread-info': {
      const vcpu = findThread(state, command.thread);
      return vcpu ? toHex(Buffer.from(describeThread(state.debugger, vcpu))) : NO_SUCH_THREAD;
    }
    case 'select-thread':
      return selectThread(state, command.use, command.thread);
    case 'read-object':
      return readObject(state, command);
    case 'monitor':
      return toHex(Buffer.from(await runMonitor(state.debugger, threadOf(state), command.line)));
    case 'read-registers':
      return toHex(encodeRegisters(readBlocks(threadOf(state).kvm.fd)));
    case 'write-registers':
      return writeRegisters(threadOf(state).kvm.fd, command.bytes) ? OK : EINVAL;
    case 'read-register': {
      const value = encodeRegister(readBlocks(threadOf(state).kvm.fd), command.register);
      return value ? toHex(value) : EINVAL;
    }
    case 'write-register':
      return writeRegister(threadOf(state).kvm.fd, command.register, command.bytes) ? OK : EINVAL;
    case 'read-memory': {
      const data = state.debugger.readMemory(threadOf(state), command.address, command.bytes);
      return data.length > 0 || command.bytes === 0 ? toHex(data) : EFAULT;
    }
    case 'write-memory':
      return state.debugger.writeMemory(threadOf(state), command.address, command.data) ? OK : EFAULT;
    case 'insert':
      return state.debugger.insert(threadOf(state), command.type, command.address, command.bytes)
        ? OK
        : NO_PLACE;
    case 'remove':
      state.debugger.remove(command.type, command.address, command.bytes);
      return OK;
    case 'malformed':
      return MALFORMED;
    case 'unsupported':
      return UNSUPPORTED;
  }
}

/** What needs the vCPUs out of the guest. */
const NEEDS_STOP = new Set<GdbCommand['kind']>([
  ...(['read-registers', 'write-registers', 'read-register', 'write-register'] as const),
  ...(['read-memory', 'write-memory', 'insert', 'remove', 'thread-info', 'read-object'] as const),
]);

const SUPPORTED = [
  `PacketSize=${MAX_PACKET_BYTES.toString(16)}`,
  ...['QStartNoAckMode+', 'vContSupported+', 'swbreak+', 'hwbreak+'],
  ...['qXfer:features:read+', 'qXfer:threads:read+'],
].join(';');

/** The vCPU that gdb has chosen, if it is still there. */
export function threadOf({ debugger: { vm }, thread }: GdbState): Vcpu {
  return vm.vcpus.find((vcpu) => vcpu.index === thread?.index) ?? vm.vcpus[0]!;
}

function findThread({ debugger: { vm } }: GdbState, thread: ThreadId): Vcpu | undefined {
  return vm.vcpus.find(({ index }) => index + 1 === thread);
}

function selectThread(state: GdbState, use: 'general' | 'continue', thread: ThreadId): string {
  if (thread === 'all' || thread === 'any') return OK;
  const vcpu = findThread(state, thread);
  if (!vcpu) return NO_SUCH_THREAD;
  if (use === 'general') state.thread = vcpu;
  return OK;
}

function idOf({ index }: Vcpu): string {
  return (index + 1).toString(16);
}

type ReadObject = Extract<GdbCommand, { kind: 'read-object' }>;

/** `m` and a piece of the object, or `l` and its last one. */
function readObject(state: GdbState, { object, annex, offset, bytes }: ReadObject): string {
  if (object === 'features' && annex !== 'target.xml') return 'E00';
  const text = object === 'features' ? describeTarget() : describeThreads(state);
  const most = Math.min(bytes, MAX_PACKET_BYTES / 2);
  const piece = text.slice(offset, offset + most);
  return `${offset + piece.length < text.length ? 'm' : 'l'}${piece}`;
}

function describeThreads({ debugger: target }: GdbState): string {
  const threads = target.vm.vcpus.map((vcpu) => {
    const text = describeThread(target, vcpu);
    return `<thread id="${idOf(vcpu)}" core="${vcpu.index}" name="vCPU ${vcpu.index}">${text}</thread>`;
  });
  return `<?xml version="1.0"?>\n<threads>\n${threads.join('\n')}\n</threads>\n`;
}

const SIGINT = '02';
const SIGTRAP = '05';
const WATCH_WORD = { write: 'watch', read: 'rwatch', access: 'awatch' } as const;

/** (E.4 "Stop Reply Packets") */
export function describeStop({ vcpu, reason }: GuestStop, features: ReadonlySet<string>): string {
  const thread = `thread:${idOf(vcpu)};`;
  switch (reason.kind) {
    case 'interrupt':
      return `T${SIGINT}${thread}`;
    case 'software':
      return `T${SIGTRAP}${thread}${features.has('swbreak+') ? 'swbreak:;' : ''}`;
    case 'hardware':
      return `T${SIGTRAP}${thread}${features.has('hwbreak+') ? 'hwbreak:;' : ''}`;
    case 'watch':
      return `T${SIGTRAP}${WATCH_WORD[reason.type]}:${reason.address.toString(16)};${thread}`;
    default:
      return `T${SIGTRAP}${thread}`;
  }
}
