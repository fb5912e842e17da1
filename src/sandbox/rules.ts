/**
 * Which system calls Volt's threads may make once the guest is about to run, with the reason for each. Whatever is not
 * here ends the process. Three filters are made from it: one for every thread of the process, the runtime's own
 * included, and narrower ones that each thread of a vCPU or of devices lays on top.
 */

/** Who needs a call besides the process as a whole. */
export const THREAD_CLASSES = ['process', 'vcpu', 'device'] as const;
export type ThreadClass = (typeof THREAD_CLASSES)[number];

/** One condition on a call's argument, by its low 32 bits: `value & mask` equals one of `equals`. */
export interface ArgumentTest {
  readonly argument: number;
  readonly mask?: number;
  readonly equals: readonly number[];
}

export interface SyscallRule {
  readonly why: string;
  /** Threads that may make it; the filter of the process always lets it through. Default: the process alone. */
  readonly also?: readonly ThreadClass[];
  /** Any of these is enough. Default: no matter how. */
  readonly when?: readonly ArgumentTest[];
  /** Narrower for the other classes. */
  readonly vcpuWhen?: readonly ArgumentTest[];
  /** Instead of being let through: fails with this errno, which the caller copes with. */
  readonly errno?: number;
}

const ALL = ['vcpu', 'device'] as const;
const DEVICE = ['device'] as const;
const ENOSYS = 38;

/** KVM's ioctls have the type 0xAE in bits 8 to 15. (Documentation/virt/kvm/api.rst) */
const KVM_IOCTL: ArgumentTest = { argument: 1, mask: 0xff00, equals: [0xae00] };
/** TCGETS to TCSETSF, TIOCGPGRP, TIOCGWINSZ, FIONREAD, FIONBIO, TIOCGPTN; not TIOCSTI, which types for the user. */
const TERMINAL_IOCTL: ArgumentTest = {
  argument: 1,
  equals: [0x5401, 0x5402, 0x5403, 0x5404, 0x540f, 0x5413, 0x541b, 0x5421, 0x80045430],
};
/** TUNSETOFFLOAD, TUNSETVNETHDRSZ, TUNSETQUEUE: what a guest's network driver agrees with its device. */
const TAP_IOCTL: ArgumentTest = { argument: 1, equals: [0x400454d0, 0x400454d8, 0x400454d9] };
/** BLKDISCARD: of disks that were opened. */
const DISK_IOCTL: ArgumentTest = { argument: 1, equals: [0x1277] };
/** AF_UNIX. */
const UNIX_SOCKET: ArgumentTest = { argument: 0, equals: [1] };
/** Neither O_WRONLY nor O_RDWR, O_CREAT, O_TRUNC, __O_TMPFILE. */
const READ_ONLY_OPEN: ArgumentTest = { argument: 2, mask: 0x400243, equals: [0] };
/** CLONE_THREAD: a thread of this process, no process. */
const THREAD_CLONE: ArgumentTest = { argument: 0, mask: 0x10000, equals: [0x10000] };
/** F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_DUPFD_CLOEXEC, F_ADD_SEALS. */
const PLAIN_FCNTL: ArgumentTest = { argument: 1, equals: [1, 2, 3, 4, 1030, 1033] };
/** PR_SET_NAME, PR_GET_NAME, PR_SET_TIMERSLACK, PR_SET_VMA. */
const PLAIN_PRCTL: ArgumentTest = { argument: 0, equals: [15, 16, 29, 0x53564d41] };

/** The calls that a thread makes most often come first: the filter is read from the top. */
export const SYSCALL_RULES: Readonly<Record<string, SyscallRule>> = {
  ioctl: {
    why: 'KVM_RUN and the rest of KVM; the terminal; taps; discards on block devices',
    also: ALL,
    when: [KVM_IOCTL, TERMINAL_IOCTL, TAP_IOCTL, DISK_IOCTL],
    // TCSETS, because the sandbox restores the terminal on whatever thread it ends the process.
    vcpuWhen: [KVM_IOCTL, { argument: 1, equals: [0x5402] }],
  },
  futex: { why: 'locks, Atomics.wait, the wake-up of other threads', also: ALL },
  write: { why: 'console output, and the event loops of other threads by eventfd', also: ALL },
  read: { why: 'console input, eventfds, /proc/self/statm in a garbage collection', also: ALL },
  epoll_pwait2: { why: "the runtime's event loop", also: ALL },
  epoll_pwait: { why: 'the same on kernels before 5.11', also: ALL },
  epoll_wait: { why: 'a device thread that waits for its queues', also: ALL },
  poll: { why: 'whether the console would block', also: ALL },
  ppoll: { why: 'the same, where the C library prefers it', also: ALL },
  rt_sigreturn: { why: 'the end of the signal that takes a vCPU out of the guest', also: ALL },
  madvise: { why: 'the garbage collector gives memory back', also: ALL },
  mmap: { why: 'heaps, stacks and machine code of the runtime', also: ALL },
  munmap: { why: 'the same', also: ALL },
  mprotect: { why: 'the same', also: ALL },
  mremap: { why: 'the C library grows a block', also: ALL },
  brk: { why: "the C library's heap", also: ALL },
  membarrier: { why: 'the runtime publishes machine code to other threads', also: ALL },
  sched_yield: { why: 'spinning locks', also: ALL },
  nanosleep: { why: 'sleeps', also: ALL },
  clock_nanosleep: { why: 'sleeps', also: ALL },
  clock_gettime: { why: 'clocks, where the vDSO has none', also: ALL },
  clock_getres: { why: 'the same', also: ALL },
  gettimeofday: { why: 'the same', also: ALL },
  restart_syscall: { why: 'a sleep goes on after a signal', also: ALL },
  getpid: { why: 'the runtime, and the kick of a vCPU', also: ALL },
  gettid: { why: 'the runtime, and the name of a vCPU thread', also: ALL },
  tgkill: { why: 'the kick of a vCPU; the runtime stops its own threads', also: ALL },
  getrandom: { why: 'seeds of hash tables', also: ALL },
  getrusage: { why: 'times for the garbage collector', also: ALL },
  getcpu: { why: 'the allocator, where the vDSO has none', also: ALL },
  sysinfo: { why: 'the runtime looks how much memory there is', also: ALL },
  uname: { why: 'the runtime looks for features by kernel version', also: ALL },
  sched_getaffinity: { why: 'volt ctl vcpus; the runtime counts CPUs', also: ALL },
  openat: {
    why: '/proc/self/statm in a garbage collection, the list of host CPUs; only to read',
    also: ALL,
    when: [READ_ONLY_OPEN],
  },
  close: { why: 'the same', also: ALL },
  fstat: { why: 'the same', also: ALL },
  newfstatat: { why: 'the same; whether a thread still lives', also: ALL },
  statx: { why: 'the same', also: ALL },
  lseek: { why: 'sizes of files', also: ALL },
  clone: { why: 'threads of the runtime, and of vCPUs that come later', also: ALL, when: [THREAD_CLONE] },
  clone3: { why: 'its flags cannot be seen; the C library falls back to clone', also: ALL, errno: ENOSYS },
  set_robust_list: { why: 'a thread starts', also: ALL },
  rseq: { why: 'a thread starts', also: ALL },
  rt_sigprocmask: { why: 'a thread starts or ends', also: ALL },
  sigaltstack: { why: 'a thread starts or ends', also: ALL },
  rt_sigaction: { why: 'signal handlers come and go with the console', also: ALL },
  prctl: { why: 'names of threads and of mappings', also: ALL, when: [PLAIN_PRCTL] },
  exit: { why: 'a thread ends', also: ALL },
  exit_group: { why: 'Volt ends', also: ALL },
  epoll_ctl: { why: 'event loops, of workers too', also: ALL },
  epoll_create1: { why: "a new worker's event loop", also: ALL },
  eventfd2: { why: 'the same; interrupts and kicks of virtio queues', also: ALL },
  fcntl: { why: 'descriptors that do not block', also: ALL, when: [PLAIN_FCNTL] },
  sched_setaffinity: { why: 'volt ctl affinity', also: DEVICE },
  setpriority: { why: "priorities of the runtime's helpers", also: ALL },
  sched_setscheduler: { why: 'the same', also: ALL },
  rt_sigsuspend: { why: 'the garbage collector holds a thread while it scans its stack', also: ALL },
  getpriority: { why: "priorities of the runtime's helpers", also: ALL },
  sched_get_priority_max: { why: 'the same', also: ALL },
  sched_get_priority_min: { why: 'the same', also: ALL },
  prlimit64: { why: 'the size of stacks; only to read', also: ALL, when: [{ argument: 2, equals: [0] }] },
  sched_getparam: { why: 'the same', also: ALL },
  sched_getscheduler: { why: 'the same', also: ALL },
  pread64: { why: 'disks of guests', also: DEVICE },
  preadv: { why: 'disks of guests', also: DEVICE },
  preadv2: { why: 'console input: the runtime reads without waiting', also: DEVICE },
  readv: { why: 'network frames from a tap', also: DEVICE },
  pwrite64: { why: 'disks of guests', also: DEVICE },
  pwritev: { why: 'disks of guests', also: DEVICE },
  pwritev2: { why: 'the same without waiting', also: DEVICE },
  writev: { why: 'network frames to a tap; the last words of the sandbox', also: ALL },
  io_uring_enter: { why: 'disks of guests, by rings that can but read, write and flush', also: DEVICE },
  fsync: { why: 'a guest flushes its disk', also: DEVICE },
  fdatasync: { why: 'a guest flushes its disk', also: DEVICE },
  fallocate: { why: 'a guest discards blocks of its disk', also: DEVICE },
  memfd_create: { why: 'RAM that a daemon shares, anew after a reset of its guest' },
  ftruncate: { why: 'the same' },
  timerfd_create: { why: 'rate limits of devices', also: DEVICE },
  timerfd_settime: { why: 'the same', also: DEVICE },
  mbind: { why: "a guest's RAM on nodes of the host, again after its reset" },
  seccomp: { why: "a vCPU's thread takes its own filter", when: [{ argument: 0, equals: [1] }] },
  accept4: { why: 'a client of the control socket, or of a guest by vsock', also: DEVICE },
  socket: { why: 'a guest connects to the host by vsock', also: DEVICE, when: [UNIX_SOCKET] },
  connect: { why: 'the same', also: DEVICE },
  recvfrom: { why: 'its requests', also: DEVICE },
  sendto: { why: 'its answers', also: DEVICE },
  recvmsg: { why: 'its requests', also: DEVICE },
  sendmsg: { why: 'its answers', also: DEVICE },
  shutdown: { why: 'its end', also: DEVICE },
  setsockopt: { why: 'the runtime sets up a connection' },
  getsockopt: { why: 'the same' },
  getsockname: { why: 'the same' },
  getpeername: { why: 'the same' },
  unlink: { why: 'the control socket goes when Volt ends' },
  unlinkat: { why: 'the same' },
  readlink: { why: 'the same; the name of the terminal on stdin' },
  readlinkat: { why: 'the same' },
  lstat: { why: 'the same' },
  stat: { why: 'the same' },
  access: { why: 'whether a file is there' },
  faccessat: { why: 'the same' },
  faccessat2: { why: 'the same' },
  getdents64: { why: 'the threads of this process' },
  getcwd: { why: 'the runtime, when the console is opened' },
  getppid: { why: 'the runtime' },
  getpgrp: { why: 'whether the terminal is ours' },
  geteuid: { why: 'the runtime' },
  getuid: { why: 'the runtime' },
  getegid: { why: 'the runtime' },
  getgid: { why: 'the runtime' },
  wait4: { why: 'the runtime looks for children, of which there are none' },
};
