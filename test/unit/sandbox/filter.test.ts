/** The filters, run instruction by instruction as the kernel runs them. */
import { describe, expect, test } from 'bun:test';
import {
  buildFilter,
  findOptionalCalls,
  INSTRUCTION,
  VERDICT,
  X32_BIT,
} from '../../../src/sandbox/filter.ts';
import { SYSCALL_RULES, THREAD_CLASSES, type ThreadClass } from '../../../src/sandbox/rules.ts';
import { SYSCALL_COUNT, SYSCALL_NAMES, syscallNumber } from '../../../src/sandbox/syscalls.ts';
import { IOCTL } from '../../../src/kvm/abi.ts';
import { MACHINE_KVM_IOCTL, VCPU_KVM_IOCTL } from '../../../src/sandbox/ioctls.ts';
import { NEVER } from '../../../src/sandbox/optional-devices.ts';
import { prebuiltFilter } from '../../../src/sandbox/prebuilt.ts';
import { judge } from './bpf-machine.ts';

const PID = 4711;
/** Without what clients that name files need. */
const filters = Object.fromEntries(THREAD_CLASSES.map((of) => [of, withoutFiles(of, buildFilter(of, PID))]));
const call = (of: string, name: string, ...args: number[]) =>
  judge(filters[of]!, { number: syscallNumber(name), arguments: args.map((arg) => BigInt(arg >>> 0)) });

function withoutFiles(of: ThreadClass, program: Uint8Array): Uint8Array {
  const view = new DataView(program.buffer);
  for (const at of findOptionalCalls(of, 'files')) view.setUint32(at, NEVER, true);
  return program;
}

const AUDIT_ARCH_I386 = 0x4000_0003;
const EPERM = 1;
const ENOSYS = 38;

describe('a filter', () => {
  test.each(THREAD_CLASSES)('of %s lets nothing through that no rule names', (of) => {
    const named = new Set(Object.keys(SYSCALL_RULES).map(syscallNumber));
    const numbers = Array.from({ length: SYSCALL_COUNT + 600 }, (_, number) => number);
    const through = numbers.filter((number) => judge(filters[of]!, { number }) !== VERDICT.trap);

    expect(through.filter((number) => !named.has(number))).toEqual([]);
    expect(through.length).toBeGreaterThan(30);
  });

  test.each(THREAD_CLASSES)('of %s traps calls of the 32-bit and x32 ABIs, whatever their number', (of) => {
    const numbers = [0, 1, 16, 202, 231];
    const i386 = numbers.map((number) => judge(filters[of]!, { number, architecture: AUDIT_ARCH_I386 }));
    const x32 = numbers.map((number) => judge(filters[of]!, { number: number + X32_BIT }));

    expect([...i386, ...x32]).toEqual(Array(10).fill(VERDICT.trap));
  });

  test.each(THREAD_CLASSES)('of %s is short enough for the kernel', (of) => {
    expect(filters[of]!.length / INSTRUCTION.size).toBeLessThan(4096);
  });

  test('of vCPUs and of devices allow no call that the process may not make', () => {
    for (const number of SYSCALL_NAMES.keys()) {
      const process = judge(filters['process']!, { number });
      for (const of of ['vcpu', 'device']) {
        const verdict = judge(filters[of]!, { number });
        expect([verdict, number]).toEqual([verdict === VERDICT.allow ? process : verdict, number]);
      }
    }
  });
});

describe('what the process may do', () => {
  test('it never starts a program or a process', () => {
    const CLONE_THREAD = 0x10000;
    const PTHREAD_CREATE = 0x3d0f00;
    for (const name of ['execve', 'execveat', 'fork', 'vfork']) {
      expect(call('process', name)).toBe(VERDICT.trap);
    }
    expect(call('process', 'clone', 17)).toBe(VERDICT.trap);
    expect(call('process', 'clone', PTHREAD_CREATE)).toBe(VERDICT.allow);
    expect(call('process', 'clone', CLONE_THREAD)).toBe(VERDICT.trap);
    expect(call('process', 'clone3')).toBe(VERDICT.errno | ENOSYS);
  });

  test('with an API whose clients name files, its main thread alone opens files to write', () => {
    const O_RDWR = 2;
    const openFile = { number: syscallNumber('openat'), arguments: [0n, 0n, BigInt(O_RDWR)] };
    const verdicts = THREAD_CLASSES.map((of) => judge(buildFilter(of, PID), openFile));

    expect(verdicts).toEqual([VERDICT.allow, VERDICT.trap, VERDICT.trap]);
  });

  test('it opens files only to read', () => {
    const O_WRONLY = 1;
    const O_RDWR = 2;
    const O_CREAT = 0o100;
    const O_TRUNC = 0o1000;
    const O_CLOEXEC = 0o2000000;
    expect(call('process', 'openat', -100, 0, O_CLOEXEC)).toBe(VERDICT.allow);
    for (const flags of [O_WRONLY, O_RDWR, O_CREAT, O_TRUNC, O_RDWR | O_CLOEXEC]) {
      expect(call('process', 'openat', -100, 0, flags)).toBe(VERDICT.trap);
    }
    expect(call('process', 'openat2')).toBe(VERDICT.trap);
  });

  test('it makes Unix sockets alone, to connect, which a vCPU may not', () => {
    const [AF_UNIX, AF_INET, AF_NETLINK, AF_PACKET, AF_VSOCK] = [1, 2, 16, 17, 40];

    const STREAM = 0x80801;
    expect(call('process', 'socket', AF_UNIX, STREAM)).toBe(VERDICT.allow);
    expect(call('process', 'socket', AF_UNIX)).toBe(VERDICT.trap);
    expect(call('vcpu', 'socket', AF_UNIX, STREAM)).toBe(VERDICT.trap);
    expect(call('vcpu', 'connect')).toBe(VERDICT.trap);
    for (const family of [AF_INET, AF_NETLINK, AF_PACKET, AF_VSOCK])
      expect(call('process', 'socket', family, STREAM)).toBe(VERDICT.trap);
  });

  test('it makes no listening sockets, mounts, traces, modules and namespaces', () => {
    const forbidden = ['bind', 'listen', 'mount', 'ptrace', 'init_module', 'unshare', 'setns', 'bpf'];
    for (const name of [
      ...forbidden,
      'process_vm_readv',
      'keyctl',
      'userfaultfd',
      'perf_event_open',
      'io_uring_setup',
    ])
      expect(call('process', name)).toBe(VERDICT.trap);
  });

  test('of ioctls it has those of KVM, and of terminals those that type nothing', () => {
    const KVM_RUN = 0xae80;
    const TCGETS = 0x5401;
    const TIOCSTI = 0x5412;
    const FS_IOC_SETFLAGS = 0x40086602;
    expect(call('process', 'ioctl', 3, KVM_RUN)).toBe(VERDICT.allow);
    expect(call('process', 'ioctl', 0, TCGETS)).toBe(VERDICT.allow);
    expect(call('process', 'ioctl', 0, TIOCSTI)).toBe(VERDICT.trap);
    expect(call('process', 'ioctl', 3, FS_IOC_SETFLAGS)).toBe(VERDICT.trap);
  });

  test('it cannot undo no_new_privs or become dumpable by prctl, but it may name threads', () => {
    const PR_SET_NAME = 15;
    const PR_SET_DUMPABLE = 4;
    const PR_SET_SECCOMP = 22;
    expect(call('process', 'prctl', PR_SET_NAME)).toBe(VERDICT.allow);
    expect(call('process', 'prctl', PR_SET_DUMPABLE)).toBe(VERDICT.trap);
    expect(call('process', 'prctl', PR_SET_SECCOMP)).toBe(VERDICT.trap);
  });
});

describe('arguments', () => {
  test('of KVM are those of kvm/abi.ts', () => {
    const known: Record<string, number> = { ...VCPU_KVM_IOCTL, ...MACHINE_KVM_IOCTL };
    expect(known).toEqual(Object.fromEntries(Object.entries(IOCTL).map(([name, k]) => [name, Number(k)])));
  });

  test('that are pointers are compared as a whole', () => {
    const prlimit = (limit: bigint) =>
      judge(filters['process']!, { number: syscallNumber('prlimit64'), arguments: [0n, 7n, limit, 0n] });
    expect([prlimit(0n), prlimit(0x1_0000_0000n)]).toEqual([VERDICT.allow, VERDICT.trap]);
  });

  test.each(THREAD_CLASSES)('of %s name no process but this one', (of) => {
    const KICK = 34;
    expect(call(of, 'tgkill', PID, 5, KICK)).toBe(VERDICT.allow);
    expect(call(of, 'tgkill', PID + 1, 5, KICK)).toBe(VERDICT.trap);
    expect(call(of, 'prlimit64', PID + 1, 7, 0)).toBe(VERDICT.trap);
  });

  test('of a prebuilt filter become those of a built one, without the devices that a guest lacks', () => {
    for (const of of THREAD_CLASSES) {
      const { base64, pids, optional } = prebuiltFilter(of);
      const program = Buffer.from(base64, 'base64') as Buffer<ArrayBuffer>;
      for (const at of pids) program.writeUInt32LE(PID, at);
      expect(program.equals(buildFilter(of, PID))).toBe(true);
      for (const at of optional.vsock) program.writeUInt32LE(NEVER, at);
      const number = syscallNumber('connect');
      expect(judge(program, { number })).toBe(VERDICT.trap);
      expect(judge(program, { number: syscallNumber('read') })).toBe(VERDICT.allow);
    }
  });
});

describe("what a vCPU's thread may do", () => {
  test('it runs its vCPU, takes locks and wakes others up', () => {
    const KVM_RUN = 0xae80;
    expect(call('vcpu', 'ioctl', 3, KVM_RUN)).toBe(VERDICT.allow);
    expect(call('vcpu', 'futex')).toBe(VERDICT.allow);
    expect(call('vcpu', 'write')).toBe(VERDICT.allow);
  });

  test('it tells KVM of interrupts and notify addresses only for a guest with a PCI bus', () => {
    const IRQFD = 0x4020_ae76;
    const without = buildFilter('vcpu', PID);
    const view = new DataView(without.buffer);
    for (const at of findOptionalCalls('vcpu', 'pci')) view.setUint32(at, NEVER, true);

    const irqfd = { number: syscallNumber('ioctl'), arguments: [3n, BigInt(IRQFD)] };

    expect(judge(filters['vcpu']!, irqfd)).toBe(VERDICT.allow);
    expect(judge(without, irqfd)).toBe(VERDICT.trap);
  });

  test('it pins and renices itself alone', () => {
    expect(call('vcpu', 'sched_setaffinity', 0)).toBe(VERDICT.allow);
    expect(call('vcpu', 'sched_setaffinity', PID)).toBe(VERDICT.trap);
    expect(call('vcpu', 'setpriority', 0, 0)).toBe(VERDICT.allow);
    expect(call('vcpu', 'setpriority', 0, PID)).toBe(VERDICT.errno | EPERM);
  });

  test('it has nothing to do with files, sockets, terminals and filters', () => {
    const TCGETS = 0x5401;
    expect(call('vcpu', 'ioctl', 0, TCGETS)).toBe(VERDICT.trap);
    for (const name of ['unlink', 'accept4', 'recvfrom', 'pwrite64', 'fsync', 'seccomp'])
      expect(call('vcpu', name)).toBe(VERDICT.trap);
  });
});

test('every rule has a reason', () => {
  expect(Object.values(SYSCALL_RULES).filter(({ why }) => why.length < 5)).toEqual([]);
});
