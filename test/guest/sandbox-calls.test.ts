/**
 * Asks the kernel, from inside the sandbox, about every system call, as each class of thread: the allowed set
 * is exact.
 */
import { describe, expect, setDefaultTimeout } from 'bun:test';
import { resolve } from 'node:path';
import { SYSCALL_NAMES, syscallNumber } from '../../src/sandbox/syscalls.ts';
import { missingForSandbox } from '../../src/vmm/sandbox.ts';
import { testNeeding } from '../support/needs.ts';

/** For hangs only. */
setDefaultTimeout(60_000);

const needsSandbox = testNeeding('seccomp and Landlock', missingForSandbox().length > 0);

type Class = 'process' | 'vcpu' | 'device';
/** `pid` is the process's own id. */
type Argument = number | 'pid';
/** `allow`, `trap`, or the errno that the call fails with. */
type Verdict = 'allow' | 'trap' | number;

const LAST_NUMBER = 470;
/** An argument that no rule expects. */
const ODD = 987_654_325;
const [EPERM, EACCES, ENOSYS] = [1, 13, 38];
/**
 * uretprobe and uprobe are the kernel's own: it lets them past all filters, and ends with SIGILL a process
 * that makes them outside its probes' trampolines. (Linux kernel/seccomp.c)
 */
const UNFILTERED = [335, 336];

async function ask(of: Class, rows: readonly (readonly Argument[])[], devices = ''): Promise<Verdict[]> {
  const script = resolve(import.meta.dir, 'probe-calls.ts');
  await using child = Bun.spawn([process.execPath, script, of, devices], {
    stdin: new Blob([JSON.stringify(rows)]),
    stdout: 'pipe',
    stderr: 'pipe',
  });
  const [stdout, stderr] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
  ]);
  expect(stderr).toBe('');
  return JSON.parse(stdout) as Verdict[];
}

/** Allowed whatever the arguments are, to all classes. */
const TO_ALL = `read write close fstat poll lseek munmap brk rt_sigprocmask rt_sigreturn writev sched_yield mremap
  nanosleep getpid exit uname gettimeofday getrusage sysinfo rt_sigsuspend sigaltstack sched_get_priority_max
  sched_get_priority_min gettid sched_getaffinity restart_syscall clock_gettime clock_getres clock_nanosleep exit_group
  epoll_wait epoll_ctl newfstatat ppoll set_robust_list epoll_pwait eventfd2 epoll_create1 getcpu getrandom membarrier
  statx rseq epoll_pwait2`;
/** Descriptors that are open already, by number. */
const TO_DEVICES = `pread64 pwrite64 readv recvfrom shutdown fsync fdatasync timerfd_create timerfd_settime preadv
  pwritev preadv2 pwritev2 io_uring_enter`;
const TO_PROCESS = `getsockname getpeername getsockopt wait4 getcwd unlink readlink getuid getgid geteuid getegid getppid
  getpgrp getdents64 mbind`;

const wordsOf = (text: string) => text.trim().split(/\s+/);

const EXPECTED: Readonly<Record<Class, Readonly<Record<string, readonly string[]>>>> = {
  process: {
    allow: [TO_ALL, TO_DEVICES, TO_PROCESS].flatMap(wordsOf),
    [EPERM]: wordsOf(
      'setsockopt getpriority setpriority sched_getparam sched_setscheduler sched_getscheduler',
    ),
    [EACCES]: wordsOf('stat lstat access unlinkat readlinkat faccessat faccessat2'),
    [ENOSYS]: ['clone3'],
  },
  vcpu: {
    allow: wordsOf(TO_ALL),
    [EPERM]: wordsOf('getpriority setpriority sched_getparam sched_setscheduler sched_getscheduler'),
    [ENOSYS]: ['clone3'],
  },
  device: {
    allow: [TO_ALL, TO_DEVICES].flatMap(wordsOf),
    [EPERM]: wordsOf('getpriority sched_getparam sched_setscheduler sched_getscheduler'),
    [ENOSYS]: ['clone3'],
  },
};

describe('of all system calls with odd arguments', () => {
  needsSandbox.each(['process', 'vcpu', 'device'] as const)('exactly these are allowed to %s', async (of) => {
    const numbers = Array.from({ length: LAST_NUMBER + 1 }, (_, i) => i).filter(
      (i) => !UNFILTERED.includes(i),
    );

    const verdicts = await ask(
      of,
      numbers.map((number) => [number, ...Array<number>(6).fill(ODD)]),
    );

    const byVerdict: Record<string, string[]> = {};
    numbers.forEach((number, i) => {
      if (verdicts[i] === 'trap') return;
      (byVerdict[String(verdicts[i])] ??= []).push(SYSCALL_NAMES[number] ?? String(number));
    });
    const sorted = (lists: Readonly<Record<string, readonly string[]>>) =>
      Object.fromEntries(Object.entries(lists).map(([verdict, names]) => [verdict, [...names].sort()]));
    expect(sorted(byVerdict)).toEqual(sorted(EXPECTED[of]));
  });
});

const [SIGKILL, SIGABRT, SIGCONT, SIGPWR, KICK, SIGSYS] = [9, 6, 18, 30, 34, 31];
const [PROT_RW, PROT_RX, PROT_RWX] = [3, 5, 7];
const [TCGETS, TCSETS, TIOCSTI, FIONBIO, FIOASYNC] = [0x5401, 0x5402, 0x5412, 0x5421, 0x5452];
const [KVM_RUN, KVM_CREATE_VM, KVM_CREATE_DEVICE, KVM_GET_REGS] = [0xae80, 0xae01, 0xc00c_aee0, 0x8090_ae81];
const [KVM_GET_XSAVE2, KVM_SET_XSAVE, KVM_GET_MSRS] = [0x9000_aecf, 0x5000_aea5, 0xc008_ae88];
const [TUNSETIFF, TUNSETOFFLOAD, BLKDISCARD, BLKROSET] = [0x4004_54ca, 0x4004_54d0, 0x1277, 0x125d];
const [O_RDONLY, O_WRONLY, O_RDWR, O_CREAT, O_TMPFILE] = [0, 1, 2, 0o100, 0o20200000];
const [F_GETFL, F_SETFL, F_SETOWN, F_SETLK, F_ADD_SEALS, F_NOTIFY] = [3, 4, 8, 6, 1033, 1026];
const [AF_UNIX, AF_INET, STREAM, DATAGRAM] = [1, 2, 0x80801, 0x80802];
const [PTHREAD_CREATE, CLONE_NEWUSER, SIGCHLD] = [0x3d0f00, 0x1000_0000, 17];
const [FUTEX_WAIT_PRIVATE, FUTEX_LOCK_PI] = [0x80, 6];
const [MADV_DONTNEED, MADV_HWPOISON, MADV_MERGEABLE] = [4, 100, 12];
const [PR_SET_NAME, PR_SET_DUMPABLE, PR_SET_PTRACER] = [15, 4, 0x59616d61];
const POINTER = 0x1_0000_0000;
const RECEIVE_FILES = 0x4000_0040;
const INIT = 1;

/** Name, arguments, and the classes to which the call is allowed. */
const PINNED: readonly (readonly [string, readonly Argument[], string])[] = [
  ['tgkill', ['pid', ODD, KICK], 'process vcpu device'],
  ['tgkill', ['pid', ODD, SIGPWR], 'process vcpu device'],
  ['tgkill', ['pid', ODD, SIGABRT], 'process vcpu device'],
  ['tgkill', ['pid', ODD, SIGKILL], ''],
  ['tgkill', ['pid', ODD, SIGCONT], ''],
  ['tgkill', [INIT, INIT, KICK], ''],
  ['tgkill', [INIT, INIT, 0], ''],
  ['kill', ['pid', KICK], ''],
  ['tkill', ['pid', KICK], ''],
  ['prlimit64', [0, 7, 0, POINTER], 'process vcpu device'],
  ['prlimit64', [0, 7, POINTER, 0], ''],
  ['prlimit64', [INIT, 7, 0, POINTER], ''],
  ['prlimit64', [INIT, 7, POINTER, 0], ''],
  ['sched_setscheduler', [0, 0, 0], 'process vcpu device'],
  ['sched_setscheduler', [INIT, 0, 0], ''],
  ['mmap', [0, 4096, PROT_RW, 0x22, -1, 0], 'process vcpu device'],
  ['mmap', [0, 4096, PROT_RX, 0x22, -1, 0], ''],
  ['mmap', [0, 4096, PROT_RWX, 0x1, 3, 0], ''],
  ['mprotect', [POINTER, 4096, PROT_RW], 'process vcpu device'],
  ['mprotect', [POINTER, 4096, PROT_RX], ''],
  ['pkey_mprotect', [POINTER, 4096, PROT_RX, -1], ''],
  ['madvise', [POINTER, 4096, MADV_DONTNEED], 'process vcpu device'],
  ['madvise', [POINTER, 4096, MADV_HWPOISON], ''],
  ['madvise', [POINTER, 4096, MADV_MERGEABLE], ''],
  ['futex', [POINTER, FUTEX_WAIT_PRIVATE], 'process vcpu device'],
  ['futex', [POINTER, FUTEX_LOCK_PI], ''],
  ['clone', [PTHREAD_CREATE], 'process vcpu device'],
  ['clone', [PTHREAD_CREATE + CLONE_NEWUSER], ''],
  ['clone', [SIGCHLD], ''],
  ['clone', [PTHREAD_CREATE + POINTER], ''],
  ['openat', [-100, POINTER, O_RDONLY], 'process vcpu device'],
  ['openat', [-100, POINTER, O_WRONLY], ''],
  ['openat', [-100, POINTER, O_RDWR], ''],
  ['openat', [-100, POINTER, O_CREAT], ''],
  ['openat', [-100, POINTER, O_TMPFILE], ''],
  ['fcntl', [0, F_GETFL], 'process vcpu device'],
  ['fcntl', [0, F_SETFL], 'process vcpu device'],
  ['fcntl', [0, F_ADD_SEALS], 'process vcpu device'],
  ['fcntl', [0, F_SETOWN, INIT], ''],
  ['fcntl', [0, F_SETLK], ''],
  ['fcntl', [0, F_NOTIFY], ''],
  ['prctl', [PR_SET_NAME], 'process vcpu device'],
  ['prctl', [PR_SET_DUMPABLE, 1], ''],
  ['prctl', [PR_SET_PTRACER, -1], ''],
  ['rt_sigaction', [SIGCONT], 'process vcpu device'],
  ['rt_sigaction', [SIGSYS], ''],
  ['seccomp', [1, 0], 'process'],
  ['seccomp', [1, 1], ''],
  ['seccomp', [2, 0], ''],
  ['ioctl', [3, KVM_RUN], 'process vcpu'],
  ['ioctl', [3, KVM_GET_REGS], 'process vcpu'],
  ['ioctl', [3, KVM_CREATE_VM], 'process'],
  ['ioctl', [3, KVM_CREATE_DEVICE], ''],
  ['ioctl', [3, KVM_GET_XSAVE2], 'process'],
  ['ioctl', [3, KVM_GET_MSRS], 'process'],
  ['ioctl', [3, KVM_SET_XSAVE], ''],
  ['ioctl', [0, TCGETS], 'process'],
  ['ioctl', [0, TCSETS], 'process vcpu device'],
  ['ioctl', [3, TCSETS], 'process'],
  ['ioctl', [0, TIOCSTI], ''],
  ['ioctl', [0, FIONBIO], ''],
  ['ioctl', [0, FIOASYNC], ''],
  ['ioctl', [3, TUNSETOFFLOAD], 'process device'],
  ['ioctl', [3, TUNSETIFF], ''],
  ['ioctl', [3, BLKDISCARD], 'process device'],
  ['ioctl', [3, BLKROSET], ''],
  ['fallocate', [3, 3, 0, 512], 'process device'],
  ['fallocate', [3, 8, 0, 512], ''],
  ['accept4', [3, 0, 0, 0x80800], 'process device'],
  ['accept4', [3, 0, 0, 0], ''],
  ['sendto', [3, POINTER, 1, 0, 0, 0], 'process device'],
  ['sendto', [3, POINTER, 1, 0, POINTER, 110], ''],
  ['setsockopt', [3, 6, 1], 'process'],
  ['setsockopt', [3, 1, 2], ''],
  ['sched_setaffinity', [0, 128, POINTER], 'process vcpu'],
  ['sched_setaffinity', [INIT, 128, POINTER], ''],
  ['sched_setaffinity', ['pid', 128, POINTER], ''],
  ['setpriority', [0, 0, 5], 'process vcpu'],
  ['setpriority', [0, ODD, 5], ''],
  ['setpriority', [1, 0, 5], ''],
  ['setpriority', [2, 1000, 5], ''],
];

/** The same for guests with these devices; without them no class may make these calls. */
const OF_DEVICES: readonly (readonly [string, readonly Argument[], string])[] = [
  ['socket', [AF_UNIX, STREAM, 0], 'process device'],
  ['connect', [3, POINTER, 110], 'process device'],
  ['sendmsg', [3, POINTER, 0], 'process device'],
  ['memfd_create', [POINTER, 3], 'process'],
  ['ftruncate', [3, 4096], 'process'],
  ['recvmsg', [3, POINTER, RECEIVE_FILES], 'process'],
];
const NEVER_OF_DEVICES: readonly (readonly [string, readonly Argument[], string])[] = [
  ['socket', [AF_UNIX, DATAGRAM, 0], ''],
  ['socket', [AF_INET, STREAM, 0], ''],
  ['memfd_create', [POINTER, 0x13], ''],
  ['recvmsg', [3, POINTER, 0], ''],
  ['bind', [3, POINTER, 110], ''],
  ['listen', [3, 1], ''],
];

describe('arguments are restricted', () => {
  const check = async (of: Class, cases: typeof PINNED, devices?: string) => {
    const rows = cases.map(([name, args]) => [syscallNumber(name), ...args]);
    const verdicts = await ask(of, rows, devices);
    const allowed = cases.filter((_, i) => verdicts[i] === 'allow').map(([name, args]) => [name, args]);
    return {
      allowed,
      expected: cases.filter((row) => row[2].split(' ').includes(of)).map(([name, args]) => [name, args]),
    };
  };

  needsSandbox.each(['process', 'vcpu', 'device'] as const)('of calls of %s', async (of) => {
    const { allowed, expected } = await check(of, PINNED);

    expect(allowed).toEqual(expected);
  });

  needsSandbox.each(['process', 'vcpu', 'device'] as const)(
    'of calls of %s that vsock, shares and the control socket alone need',
    async (of) => {
      const cases = [...OF_DEVICES, ...NEVER_OF_DEVICES];
      const without = await check(of, cases);
      const { allowed, expected } = await check(of, cases, 'vsock,share,control');

      expect(allowed).toEqual(expected);
      expect(without.allowed).toEqual([]);
    },
  );
});
