/**
 * The system calls that Volt's threads may make while a guest runs, each with its reason and its permitted
 * arguments. Any other call ends the process. Three filters are built from this table: one for every thread
 * of the process, those of the runtime included, and narrower ones that each vCPU thread and each device
 * thread installs on top.
 *
 * A filter sees arguments, not the memory that they point to: paths and socket addresses are Landlock's to
 * restrict. SECURITY.md compares the table with Firecracker's filters and lists what remains.
 */
import {
  BLKDISCARD,
  BLOCK_SIZE_IOCTL,
  MACHINE_KVM_IOCTL,
  PCI_KVM_IOCTL,
  SET_GUEST_DEBUG,
  SNAPSHOT_KVM_IOCTL,
  TAP_IOCTL,
  VHOST_IOCTL,
  TERMINAL_IOCTL,
  VCPU_KVM_IOCTL,
} from './ioctls.ts';
import type { OptionalDevice } from './optional-devices.ts';

/** `process` is what any thread may do at most; the others are the threads that serve a guest. */
export const THREAD_CLASSES = ['process', 'vcpu', 'device'] as const;
export type ThreadClass = (typeof THREAD_CLASSES)[number];

/** The id of this process, which is filled in when the sandbox is entered. */
export const OWN_PID = 'own-pid';

/** `value & mask` is one of `equals`. Tests the lower 32 bits; with `is64Bit` the upper ones must be 0. */
export interface ArgumentTest {
  readonly argument: number;
  readonly mask?: number;
  readonly equals: readonly (number | typeof OWN_PID)[];
  /** For pointers and `unsigned long`; the kernel ignores the upper half of other arguments. */
  readonly is64Bit?: boolean;
}

/** Holds when all of its tests do. */
export type Condition = readonly ArgumentTest[];

export interface SyscallRule {
  readonly why: string;
  /** Classes that may make the call besides `process`. */
  readonly also?: readonly ThreadClass[];
  /** The call is allowed when one of these holds; always, if absent. */
  readonly when?: readonly Condition[];
  /** Instead of `when`, for vCPU threads. */
  readonly vcpuWhen?: readonly Condition[];
  /** Instead of `when`, for device threads. */
  readonly deviceWhen?: readonly Condition[];
  /**
   * A call that is not allowed fails with this errno, which its caller handles, and does not end the process.
   */
  readonly errno?: number;
  /** Forbidden for a guest without this device. */
  readonly needs?: OptionalDevice;
}

const ALL = ['vcpu', 'device'] as const;
const VCPU = ['vcpu'] as const;
const DEVICE = ['device'] as const;
const EPERM = 1;
const EACCES = 13;
const ENOSYS = 38;

const is = (argument: number, ...equals: readonly (number | typeof OWN_PID)[]): ArgumentTest => ({
  argument,
  equals,
});
/** For 64-bit arguments. */
const isWide = (argument: number, ...equals: readonly number[]): ArgumentTest => ({
  ...is(argument, ...equals),
  is64Bit: true,
});
const has = (argument: number, mask: number, value: number): ArgumentTest => ({
  argument,
  mask,
  equals: [value],
});

const KVM_OF_VCPUS = Object.values(VCPU_KVM_IOCTL);
/** Most frequent first, as KVM_RUN is. */
const IOCTLS_OF_PROCESS = [
  ...KVM_OF_VCPUS,
  ...Object.values(MACHINE_KVM_IOCTL),
  ...Object.values(TERMINAL_IOCTL),
  ...Object.values(TAP_IOCTL),
  ...Object.values(VHOST_IOCTL),
  BLKDISCARD,
  ...Object.values(SNAPSHOT_KVM_IOCTL),
  SET_GUEST_DEBUG,
];
/** Those of a device's thread. */
const DEVICE_IOCTLS = [...Object.values(TAP_IOCTL), ...Object.values(VHOST_IOCTL), BLKDISCARD];
/** The handler of SIGSYS restores the terminal on stdin, on whatever thread it ends the process. */
const RESTORE_TERMINAL: Condition = [is(0, 0), is(1, TERMINAL_IOCTL.setAttributes)];
/**
 * FUTEX_WAIT, WAKE, REQUEUE, CMP_REQUEUE, WAKE_OP, WAIT_BITSET; the other bits are PRIVATE and
 * CLOCK_REALTIME.
 */
const PLAIN_FUTEX = { argument: 1, mask: 0x7f, equals: [0, 1, 3, 4, 5, 9] };
/** The kick (SIGRTMIN), the runtime's stop of a thread (SIGPWR), abort(3). */
const OWN_THREAD_SIGNAL: Condition = [is(0, OWN_PID), is(2, 34, 30, 6)];
/** Neither O_WRONLY, O_RDWR, O_CREAT, O_TRUNC nor __O_TMPFILE. */
const READ_ONLY_OPEN = has(2, 0x400243, 0);
/** What pthread_create(3) passes: CLONE_THREAD with all that threads share. */
const THREAD_CLONE = isWide(0, 0x3d0f00);
/** SOCK_CLOEXEC | SOCK_NONBLOCK. */
const ACCEPT_FLAGS = is(3, 0x80800);
/** AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK. */
const UNIX_STREAM: Condition = [is(0, 1), is(1, 0x80801), is(2, 0)];
/** MSG_DONTWAIT | MSG_CMSG_CLOEXEC. */
const RECEIVE_FILES = 0x4000_0040;
/** F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_DUPFD_CLOEXEC, F_ADD_SEALS. */
const PLAIN_FCNTL = is(1, 1, 2, 3, 4, 1030, 1033);
/** PR_SET_NAME, PR_GET_NAME, PR_SET_TIMERSLACK, PR_SET_VMA. */
const PLAIN_PRCTL = is(0, 15, 16, 29, 0x53564d41);
/**
 * MADV_NORMAL, RANDOM, SEQUENTIAL, WILLNEED, DONTNEED, FREE, REMOVE, DONTFORK, HUGEPAGE, NOHUGEPAGE,
 * DONTDUMP, DODUMP, POPULATE_READ, POPULATE_WRITE; not HWPOISON, MERGEABLE and their like.
 */
const PLAIN_MADVICE = is(2, 4, 8, 0, 1, 2, 3, 9, 10, 14, 15, 16, 17, 22, 23);
/** No PROT_EXEC: all machine code has been mapped, the runtime's pool for its JIT included. */
const NOT_EXECUTABLE = has(2, 0x4, 0);
/** What Volt and the runtime handle, and those of crashes, with which the runtime ends; not SIGSYS. */
const HANDLED_SIGNALS = is(
  0,
  1,
  2,
  3,
  4,
  5,
  6,
  7,
  8,
  10,
  11,
  12,
  13,
  14,
  15,
  17,
  18,
  20,
  21,
  22,
  24,
  25,
  28,
  30,
  34,
);
/** MFD_CLOEXEC | MFD_ALLOW_SEALING, with MFD_HUGETLB | MFD_HUGE_2MB. */
const SHARED_MEMORY = is(1, 0x3, 0x3 | 0x4 | (21 << 26));
/** FALLOC_FL_KEEP_SIZE with PUNCH_HOLE or ZERO_RANGE, or nothing. */
const BLOCKS = is(1, 0, 0x3, 0x11);
/** The caller itself: process or thread 0. */
const SELF = is(0, 0);

/** The most frequent calls come first: the kernel reads the filter from the top. */
export const SYSCALL_RULES: Readonly<Record<string, SyscallRule>> = {
  ioctl: {
    why: 'KVM_RUN and the rest of KVM; the terminal; taps and vhost-net; discards on block devices',
    also: ALL,
    when: [[is(1, ...IOCTLS_OF_PROCESS)]],
    vcpuWhen: [[is(1, ...KVM_OF_VCPUS)], RESTORE_TERMINAL],
    deviceWhen: [[is(1, ...DEVICE_IOCTLS)], RESTORE_TERMINAL],
  },
  futex: { why: 'locks, Atomics.wait, waking other threads', also: ALL, when: [[PLAIN_FUTEX]] },
  write: { why: 'console output; eventfds of other threads', also: ALL },
  read: { why: 'console input; eventfds; /proc/self/statm in a garbage collection', also: ALL },
  epoll_pwait2: { why: "the runtime's event loop", also: ALL },
  epoll_pwait: { why: 'the same on kernels before 5.11', also: ALL },
  epoll_wait: { why: 'a device thread waits for its queues', also: ALL },
  poll: { why: 'whether writing to the console would block', also: ALL },
  ppoll: { why: 'the same, where the C library prefers it', also: ALL },
  rt_sigreturn: { why: 'return from a signal handler, such as that of the kick', also: ALL },
  madvise: { why: 'the garbage collector frees memory', also: ALL, when: [[PLAIN_MADVICE]] },
  mmap: { why: 'heaps and stacks of the runtime', also: ALL, when: [[NOT_EXECUTABLE]] },
  munmap: { why: 'the same', also: ALL },
  mprotect: { why: 'guard pages of stacks', also: ALL, when: [[NOT_EXECUTABLE]] },
  mremap: { why: 'the C library grows a block', also: ALL },
  brk: { why: "the C library's heap", also: ALL },
  membarrier: { why: 'the runtime publishes machine code to other threads', also: ALL },
  sched_yield: { why: 'spinning locks', also: ALL },
  nanosleep: { why: 'sleeps', also: ALL },
  clock_nanosleep: { why: 'sleeps', also: ALL },
  clock_gettime: { why: 'clocks, where the vDSO has none', also: ALL },
  clock_getres: { why: 'the same', also: ALL },
  gettimeofday: { why: 'the same', also: ALL },
  restart_syscall: { why: 'a sleep continues after a signal', also: ALL },
  getpid: { why: 'the runtime; the kick of a vCPU', also: ALL },
  gettid: { why: 'the runtime; thread ids for kicks', also: ALL },
  tgkill: {
    why: 'the kick of a vCPU; the runtime stops its own threads',
    also: ALL,
    when: [OWN_THREAD_SIGNAL],
  },
  getrandom: { why: 'seeds of hash tables; random numbers for the guest', also: ALL },
  getrusage: { why: 'CPU time, for the garbage collector', also: ALL },
  getcpu: { why: 'the allocator, where the vDSO has none', also: ALL },
  sysinfo: { why: 'the runtime reads the size of memory', also: ALL },
  uname: { why: 'the runtime looks for features by kernel version', also: ALL },
  sched_getaffinity: { why: 'volt ctl vcpus; the runtime counts CPUs; it only reads', also: ALL },
  openat: {
    why: '/proc/self/statm in a garbage collection; the list of host CPUs; only to read',
    also: ALL,
    when: [[READ_ONLY_OPEN]],
  },
  close: { why: 'the same', also: ALL },
  fstat: { why: 'the same', also: ALL },
  newfstatat: { why: 'the same; whether a thread still exists', also: ALL },
  statx: { why: 'the same', also: ALL },
  lseek: { why: 'sizes of files', also: ALL },
  clone: { why: 'threads of the runtime, and of added vCPUs', also: ALL, when: [[THREAD_CLONE]] },
  clone3: {
    why: 'a filter cannot see its flags; the C library then uses clone',
    also: ALL,
    when: [],
    errno: ENOSYS,
  },
  set_robust_list: { why: 'a thread starts', also: ALL },
  rseq: { why: 'a thread starts', also: ALL },
  rt_sigprocmask: { why: 'a thread starts or ends', also: ALL },
  sigaltstack: { why: 'a thread starts or ends', also: ALL },
  rt_sigaction: { why: 'signal handlers of the console; crashes', also: ALL, when: [[HANDLED_SIGNALS]] },
  prctl: { why: 'names of threads and of mappings', also: ALL, when: [[PLAIN_PRCTL]] },
  exit: { why: 'a thread ends', also: ALL },
  exit_group: { why: 'Volt ends', also: ALL },
  epoll_ctl: { why: 'event loops', also: ALL },
  epoll_create1: { why: "a new worker's event loop", also: ALL },
  eventfd2: { why: 'the same; interrupts and notifications of virtqueues', also: ALL },
  fcntl: { why: 'non-blocking descriptors; seals of shared memory', also: ALL, when: [[PLAIN_FCNTL]] },
  sched_setaffinity: { why: 'volt ctl affinity: a vCPU thread pins itself', also: VCPU, when: [[SELF]] },
  setpriority: {
    why: 'volt ctl nice: the same; of the runtime the error is handled',
    also: VCPU,
    when: [[is(0, 0), is(1, 0)]],
    errno: EPERM,
  },
  rt_sigsuspend: { why: 'the garbage collector holds a thread while it scans its stack', also: ALL },
  getpriority: {
    why: "priorities of the runtime's helpers",
    also: ALL,
    when: [[is(0, 0), is(1, 0)]],
    errno: EPERM,
  },
  sched_setscheduler: { why: 'the same', also: ALL, when: [[SELF]], errno: EPERM },
  sched_get_priority_max: { why: 'the same', also: ALL },
  sched_get_priority_min: { why: 'the same', also: ALL },
  sched_getparam: { why: 'the same', also: ALL, when: [[SELF]], errno: EPERM },
  sched_getscheduler: { why: 'the same', also: ALL, when: [[SELF]], errno: EPERM },
  prlimit64: { why: 'reads the size of stacks', also: ALL, when: [[SELF, isWide(2, 0)]] },
  pread64: { why: 'disks of guests', also: DEVICE },
  preadv: { why: 'disks of guests', also: DEVICE },
  preadv2: { why: 'console input: the runtime reads without blocking', also: DEVICE },
  readv: { why: 'network frames from a tap', also: DEVICE },
  pwrite64: { why: 'disks of guests', also: DEVICE },
  pwritev: { why: 'disks of guests', also: DEVICE },
  pwritev2: { why: 'the same without blocking', also: DEVICE },
  writev: { why: 'network frames to a tap; the report of a forbidden call', also: ALL },
  io_uring_enter: { why: 'disks of guests, by rings that can only read, write and flush', also: DEVICE },
  fsync: { why: 'a guest flushes its disk', also: DEVICE },
  fdatasync: { why: 'a guest flushes its disk', also: DEVICE },
  fallocate: { why: 'a guest discards blocks of its disk', also: DEVICE, when: [[BLOCKS]] },
  memfd_create: {
    why: 'RAM shared with virtiofsd and back-ends of disks, again after a reset of the guest',
    when: [[SHARED_MEMORY]],
    needs: 'share',
  },
  ftruncate: { why: 'the same', needs: 'share' },
  timerfd_create: { why: 'rate limits of devices', also: DEVICE },
  timerfd_settime: { why: 'the same', also: DEVICE },
  mbind: { why: "a guest's RAM on NUMA nodes, again after its reset" },
  seccomp: { why: 'a thread installs its own filter', when: [[is(0, 1), is(1, 0)]] },
  accept4: {
    why: 'clients of the control socket, of vsock and of console ports',
    also: DEVICE,
    when: [[ACCEPT_FLAGS]],
  },
  socket: {
    why: "a guest's vsock connects to the host, a disk to its back-end again",
    also: DEVICE,
    when: [UNIX_STREAM],
    needs: 'vsock',
  },
  connect: { why: 'the same', also: DEVICE, needs: 'vsock' },
  recvfrom: { why: 'requests of clients', also: DEVICE },
  sendto: { why: 'answers to clients', also: DEVICE, when: [[isWide(4, 0)]] },
  sendmsg: {
    why: 'messages to virtiofsd and back-ends of disks, with descriptors of RAM',
    also: DEVICE,
    needs: 'share',
  },
  recvmsg: {
    why: 'the files of a snapshot come from the client of the control socket',
    when: [[is(2, RECEIVE_FILES)]],
    needs: 'control',
  },
  shutdown: { why: 'the end of a connection', also: DEVICE },
  // IPPROTO_TCP: TCP_NODELAY and TCP_CORK of clients of --metrics.
  setsockopt: { why: 'the runtime sets up a connection', when: [[is(1, 6), is(2, 1, 3)]], errno: EPERM },
  getsockopt: { why: 'the same' },
  getsockname: { why: 'the same' },
  getpeername: { why: 'the same' },
  unlink: { why: 'sockets are removed at the end; Landlock restricts where' },
  readlink: { why: 'the same; the name of the terminal on stdin' },
  unlinkat: { why: 'in no use here; the runtime handles the error', when: [], errno: EACCES },
  readlinkat: { why: 'the same', when: [], errno: EACCES },
  lstat: { why: 'the same', when: [], errno: EACCES },
  stat: { why: 'the same', when: [], errno: EACCES },
  access: { why: 'the same', when: [], errno: EACCES },
  faccessat: { why: 'the same', when: [], errno: EACCES },
  faccessat2: { why: 'the same', when: [], errno: EACCES },
  getdents64: { why: 'the threads of this process' },
  getcwd: { why: 'the runtime, when the console is opened' },
  getppid: { why: 'the runtime' },
  getpgrp: { why: 'whether Volt is in the foreground of its terminal' },
  geteuid: { why: 'the runtime' },
  getuid: { why: 'the runtime' },
  getegid: { why: 'the runtime' },
  getgid: { why: 'the runtime' },
  wait4: { why: 'the end of passt and virtiofsd; only children can be named' },
};

/**
 * What the main thread may do besides, if clients name files while the guest runs, as those of Firecracker's API do.
 * Threads that serve the guest may not. Landlock restricts which files.
 */
export const FILE_RULES: Readonly<Record<string, SyscallRule>> = {
  openat: { why: "files that replace a disk's; those of a snapshot", needs: 'files' },
  ftruncate: { why: 'memory files of snapshots', needs: 'files' },
  ioctl: {
    why: 'the same, for block devices: their sizes',
    needs: 'files',
    when: [[is(1, ...IOCTLS_OF_PROCESS, ...Object.values(BLOCK_SIZE_IOCTL))]],
  },
};

/** What vCPU threads may do besides on a PCI bus; other threads do as without one. */
export const PCI_RULES: Readonly<Record<string, SyscallRule>> = {
  ioctl: {
    why: 'the guest programs MSI-X vectors and moves base addresses: irqfds, ioeventfds and routes follow',
    also: VCPU,
    needs: 'pci',
    // A disk that is plugged may be a block device.
    when: [[is(1, ...IOCTLS_OF_PROCESS, ...Object.values(BLOCK_SIZE_IOCTL))]],
    vcpuWhen: [[is(1, ...KVM_OF_VCPUS, ...Object.values(PCI_KVM_IOCTL))], RESTORE_TERMINAL],
  },
};

/** What device threads may do besides where memory is plugged while the guest runs. */
export const MEM_RULES: Readonly<Record<string, SyscallRule>> = {
  ioctl: {
    why: 'memory slots appear and disappear as the guest plugs and unplugs blocks',
    also: DEVICE,
    needs: 'mem',
    when: [[is(1, ...IOCTLS_OF_PROCESS)]],
    deviceWhen: [[is(1, ...DEVICE_IOCTLS, MACHINE_KVM_IOCTL.setUserMemoryRegion)], RESTORE_TERMINAL],
  },
};
