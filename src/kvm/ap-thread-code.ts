/**
 * Machine code of an AP thread, which runs its vCPU in KVM_RUN without JavaScript, and the table row that it
 * shares with the main thread. Pure. (System V ABI, AMD64 §3.2.3 and §A.2; Linux asm/unistd_64.h)
 */
import { ERRNO } from '../ffi/errno.ts';
import { FUTEX_PRIVATE, FUTEX_WAIT } from '../ffi/futex.ts';
import { SECCOMP_SET_MODE_FILTER } from '../ffi/sandbox.ts';
import { PR_SET_NAME } from '../ffi/thread.ts';
import { MAX_HOST_CPUS } from '../machine/cpu-list.ts';
import { IOCTL } from './abi.ts';

/**
 * One row per thread. The main thread writes the fields before `threadId` and starts the thread, which writes
 * the others.
 */
export const AP_THREAD = {
  vcpuFd: 0x00,
  /** Socket to which the thread writes one byte after it has left KVM_RUN for good. */
  notifyFd: 0x04,
  /** u64: address of a struct sock_fprog, the seccomp filter that the thread installs for itself; 0: none. */
  filter: 0x08,
  /** u64: address of a struct kvm_mp_state that the thread refreshes after an INIT. */
  mpState: 0x10,
  /** Thread name: 16 bytes, NUL-terminated. */
  name: 0x18,
  /** u32: thread id, written before the first KVM_RUN; 0 until then. */
  threadId: 0x28,
  /** u32: 1 after the thread has left KVM_RUN for good. */
  exited: 0x2c,
  /** i64: result of the last system call: 0 or -errno. */
  result: 0x30,
  /** u32: one of AP_CALL, the last one that the thread made to prepare itself. */
  call: 0x38,
  /** i32: nice value that the thread sets for itself; NICE_UNCHANGED: none. */
  nice: 0x3c,
  /** u32: 1 if the thread pins itself to the host CPUs of `cpus`, a cpu_set_t. */
  pins: 0x40,
  /** u32: the thread sets it to 1 when a kick has taken the vCPU out of KVM_RUN, the main thread back to 0. */
  held: 0x44,
  /** u32, a futex: one of AP_ORDER, for which a thread that holds its vCPU waits. It takes `run` back to 0. */
  order: 0x48,
  cpus: 0x50,
  size: 0x50 + MAX_HOST_CPUS / 8,
} as const;

/** `run`: the guest again, once. `leave`: the thread ends, as after an exit to user space. */
export const AP_ORDER = { none: 0, run: 1, leave: 2 } as const;

/** No nice value. (setpriority(2)) */
export const NICE_UNCHANGED = 127;

/** Numbers of the system calls by which a thread prepares itself. */
export const AP_CALL = { setPriority: 141, setAffinity: 203, seccomp: 317 } as const;
const CALL = { write: 1, ioctl: 16, prctl: 157, gettid: 186, futex: 202 } as const;

/**
 * void *run(struct row *row): names the thread, sets its affinity and nice value, installs the filter, and
 * calls KVM_RUN until it returns anything but EAGAIN, which KVM returns after an INIT, and EINTR, which it
 * returns after a kick: then the thread waits for an order. (api.rst, KVM_RUN)
 */
export function apThreadCode(): Uint8Array {
  const enter = [
    ...call(CALL.ioctl, [0x8b, 0x3b], moveEsi(IOCTL.run), [0x31, 0xd2]), // mov edi, [rbx]; xor edx, edx
  ];
  const hold = holdUntilOrdered();
  const kicked = [
    ...[0x83, 0xf8, -ERRNO.EINTR & 0xff], // cmp eax, -EINTR
    ...[0x75, hold.length + JUMP_IF_EQUAL_BYTES + MOVE_RAX_BYTES], // jne past this
    ...hold,
  ];
  const entered = enter.length + kicked.length + JUMP_IF_EQUAL_BYTES;
  const runAgain = [0x0f, 0x84, ...u32(-entered)]; // je to the next KVM_RUN
  const leave = [0x48, 0xc7, 0xc0, ...u32(-ERRNO.EINTR)]; // mov rax, -EINTR
  const refreshMpState = call(
    CALL.ioctl,
    [0x8b, 0x3b], // mov edi, [rbx]
    moveEsi(IOCTL.getMpState),
    [0x48, 0x8b, 0x53, AP_THREAD.mpState], // mov rdx, [rbx + mpState]
  );
  const run = [
    ...call(CALL.gettid),
    ...[0x89, 0x43, AP_THREAD.threadId], // mov [rbx + threadId], eax
    ...enter,
    ...kicked,
    ...runAgain,
    ...leave,
    ...[0x83, 0xf8, -ERRNO.EAGAIN & 0xff], // cmp eax, -EAGAIN
    ...[0x75, refreshMpState.length + JUMP_BYTES], // jne out
    ...refreshMpState,
    ...[0xe9, ...u32(-(entered + MOVE_RAX_BYTES + 5 + refreshMpState.length + JUMP_BYTES))], // jmp to the next
  ];
  const exit = [
    ...[0x48, 0x89, 0x43, AP_THREAD.result], // mov [rbx + result], rax
    ...[0x8b, 0x7b, AP_THREAD.notifyFd], // mov edi, [rbx + notifyFd]
    ...[0xc7, 0x43, AP_THREAD.exited, ...u32(1)], // mov dword [rbx + exited], 1
    // From here on the row may be unmapped: only write(2) reads it, and returns EFAULT then.
    ...call(
      CALL.write,
      [0x48, 0x8d, 0x73, AP_THREAD.exited], // lea rsi, [rbx + exited]
      [0xba, ...u32(1)], // mov edx, 1
    ),
    ...[0x5b, 0x31, 0xc0, 0xc3], // pop rbx; xor eax, eax; ret
  ];
  return Uint8Array.from([
    ...[0x53, 0x48, 0x89, 0xfb], // push rbx; mov rbx, rdi
    ...call(CALL.prctl, moveEdi(PR_SET_NAME), [0x48, 0x8d, 0x73, AP_THREAD.name]), // lea rsi, [rbx + name]
    ...prepareAndRun(run),
    ...exit,
  ]);
}

/** Lengths of instructions that others jump over. */
const JUMP_BYTES = 5;
const JUMP_IF_EQUAL_BYTES = 6;
const MOVE_RAX_BYTES = 7;

/** Says that the vCPU is held, and waits for an order. Sets ZF if the vCPU is to run, and takes the order. */
function holdUntilOrdered(): number[] {
  const wait = [
    ...call(
      CALL.futex,
      [0x48, 0x8d, 0x7b, AP_THREAD.order], // lea rdi, [rbx + order]
      moveEsi(FUTEX_PRIVATE | FUTEX_WAIT),
      [0x31, 0xd2, 0x45, 0x31, 0xd2], // xor edx, edx (AP_ORDER.none); xor r10d, r10d: no timeout
    ),
    ...[0x83, 0x7b, AP_THREAD.order, AP_ORDER.none], // cmp dword [rbx + order], none
  ];
  return [
    ...[0xc7, 0x43, AP_THREAD.held, ...u32(1)], // mov dword [rbx + held], 1
    ...call(
      CALL.write,
      [0x8b, 0x7b, AP_THREAD.notifyFd], // mov edi, [rbx + notifyFd]
      [0x48, 0x8d, 0x73, AP_THREAD.held], // lea rsi, [rbx + held]
      [0xba, ...u32(1)], // mov edx, 1
    ),
    ...wait,
    ...[0x74, -(wait.length + 2) & 0xff], // je to wait
    ...[0xb8, ...u32(AP_ORDER.run), 0x31, 0xc9], // mov eax, run; xor ecx, ecx (AP_ORDER.none)
    ...[0xf0, 0x0f, 0xb1, 0x4b, AP_THREAD.order], // lock cmpxchg [rbx + order], ecx
  ];
}

interface Preparation {
  readonly number: (typeof AP_CALL)[keyof typeof AP_CALL];
  /** Sets ZF if the call is not wanted. */
  readonly isUnwanted: readonly number[];
  readonly setArguments: readonly number[];
}

const PREPARATIONS: readonly Preparation[] = [
  {
    number: AP_CALL.setAffinity,
    isUnwanted: [0x83, 0x7b, AP_THREAD.pins, 0], // cmp dword [rbx + pins], 0
    setArguments: [
      ...[0x31, 0xff], // xor edi, edi
      ...moveEsi(MAX_HOST_CPUS / 8),
      ...[0x48, 0x8d, 0x53, AP_THREAD.cpus], // lea rdx, [rbx + cpus]
    ],
  },
  {
    number: AP_CALL.setPriority,
    isUnwanted: [0x8b, 0x53, AP_THREAD.nice, 0x83, 0xfa, NICE_UNCHANGED], // mov edx, [rbx + nice]; cmp edx, …
    setArguments: [0x31, 0xff, 0x31, 0xf6], // xor edi, edi (PRIO_PROCESS); xor esi, esi
  },
  {
    number: AP_CALL.seccomp,
    isUnwanted: [0x48, 0x8b, 0x53, AP_THREAD.filter, 0x48, 0x85, 0xd2], // mov rdx, [rbx + filter]; test rdx, rdx
    setArguments: [...moveEdi(SECCOMP_SET_MODE_FILTER), 0x31, 0xf6], // xor esi, esi
  },
];

/** After a call that fails, execution continues behind `run`: unprepared, the guest must not run. */
function prepareAndRun(run: readonly number[]): readonly number[] {
  return PREPARATIONS.reduceRight<readonly number[]>((behind, { number, isUnwanted, setArguments }) => {
    const prepare = [
      ...[0xc7, 0x43, AP_THREAD.call, ...u32(number)], // mov dword [rbx + call], number
      ...call(number, setArguments),
      ...[0x48, 0x85, 0xc0], // test rax, rax
      ...[0x0f, 0x85, ...u32(behind.length)], // jne behind
    ];
    return [...isUnwanted, 0x74, prepare.length, ...prepare, ...behind]; // je past it
  }, run);
}

function call(number: number, ...given: readonly (readonly number[])[]): number[] {
  return [...given.flat(), 0xb8, ...u32(number), 0x0f, 0x05]; // mov eax, number; syscall
}

function moveEdi(value: number): number[] {
  return [0xbf, ...u32(value)];
}

function moveEsi(value: number): number[] {
  return [0xbe, ...u32(value)];
}

function u32(value: number): number[] {
  return [value & 0xff, (value >>> 8) & 0xff, (value >>> 16) & 0xff, value >>> 24];
}
