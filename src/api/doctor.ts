/** Checks whether this host can run Volt, with advice on what is missing. */
import { readFileSync } from 'node:fs';
import { SyscallError } from '../ffi/errno.ts';
import { hasSeccomp, landlockAbi } from '../ffi/sandbox.ts';
import { CAP } from '../kvm/abi.ts';
import { encodeCpuid } from '../kvm/cpuid-codec.ts';
import { KvmSystem } from '../kvm/system.ts';
import { GIB, MIB, guestAddress } from '../machine/address.ts';
import { GuestMemory } from '../memory/guest-memory.ts';
import { cgroupLimits, type CgroupLimits } from './cgroup-limits.ts';

/** One requirement of Volt, and the next step if the host does not meet it. */
export interface HostCheck {
  readonly name: string;
  /** 'warn': Volt runs with restrictions. 'fail': it does not run. */
  readonly state: 'ok' | 'warn' | 'fail';
  readonly found: string;
  /** The next step; missing if the state is 'ok'. */
  readonly advice?: string;
}

interface NeededCapability {
  readonly name: string;
  readonly capability: number;
  readonly without: 'warn' | 'fail';
  readonly advice: string;
}

const UPDATE = 'run a newer host kernel';

const CAPABILITIES: readonly NeededCapability[] = [
  { name: 'in-kernel interrupt controllers', capability: CAP.irqchip, without: 'fail', advice: UPDATE },
  { name: 'in-kernel PIT', capability: CAP.pit2, without: 'fail', advice: UPDATE },
  { name: 'MP state of vCPUs', capability: CAP.mpState, without: 'fail', advice: UPDATE },
  {
    name: 'immediate exit',
    capability: CAP.immediateExit,
    without: 'fail',
    advice: `${UPDATE} (4.12 or later)`,
  },
  {
    name: 'TSC-deadline timer',
    capability: CAP.tscDeadlineTimer,
    without: 'warn',
    advice: 'guests use the PIT, which causes more exits; run on a host with this timer to avoid that',
  },
  {
    name: 'x2APIC ids above 255',
    capability: CAP.x2apicApi,
    without: 'warn',
    advice: `guests can have at most 254 vCPUs; for more, ${UPDATE}`,
  },
  { name: 'irqfd', capability: CAP.irqfd, without: 'warn', advice: UPDATE },
  { name: 'ioeventfd', capability: CAP.ioeventfd, without: 'warn', advice: UPDATE },
];

/** Never throws: an error becomes a failed check. */
export function checkHost(): HostCheck[] {
  return [
    ...checkKvm(),
    checkGuestMemory(),
    checkHugePages(),
    checkOpenFiles(),
    ...checkSandbox(),
    checkCpuCount(),
    checkCgroup(cgroupLimits()),
  ];
}

function checkKvm(): HostCheck[] {
  try {
    using system = new KvmSystem();
    const checks: HostCheck[] = [{ name: '/dev/kvm', state: 'ok', found: 'opens, API version 12' }];
    for (const { name, capability, without, advice } of CAPABILITIES) {
      checks.push(
        system.check(capability) > 0
          ? { name, state: 'ok', found: 'yes' }
          : { name, state: without, found: 'no', advice },
      );
    }
    checks.push({ name: 'vCPUs per guest', state: 'ok', found: `up to ${system.maxVcpus}` });
    checks.push(createVm(system));
    return checks;
  } catch (error) {
    return [failed('/dev/kvm', error)];
  }
}

function createVm(system: KvmSystem): HostCheck {
  try {
    using vm = system.createVm();
    vm.createInterruptControllers();
    using vcpu = vm.createVcpu(0);
    vcpu.setCpuid(encodeCpuid(system.supportedCpuid()));
    return { name: 'virtual machine', state: 'ok', found: 'a VM with a vCPU can be created' };
  } catch (error) {
    return failed('virtual machine', error);
  }
}

function checkGuestMemory(): HostCheck {
  try {
    using _memory = new GuestMemory([{ address: guestAddress(0), bytes: 64 * GIB }]);
    return { name: 'address space', state: 'ok', found: '64 GiB of guest RAM can be mapped' };
  } catch {
    return {
      name: 'address space',
      state: 'warn',
      found: '64 GiB of guest RAM cannot be mapped',
      advice: 'raise ulimit -v for large guests',
    };
  }
}

function checkHugePages(): HostCheck {
  const free = Number(/HugePages_Free:\s+(\d+)/.exec(readText('/proc/meminfo'))?.[1] ?? 0);
  const name = 'huge pages';
  if (free > 0)
    return { name, state: 'ok', found: `${free * 2} MiB in 2 MiB pages are free for --hugepages` };
  return {
    name,
    state: 'warn',
    found: 'none are reserved',
    advice: 'for --hugepages, reserve some: sysctl vm.nr_hugepages=256',
  };
}

function checkOpenFiles(): HostCheck {
  const limit = /Max open files\s+(\d+|unlimited)/.exec(readText('/proc/self/limits'))?.[1] ?? '?';
  const name = 'open files';
  if (limit === 'unlimited' || Number(limit) >= 1024) return { name, state: 'ok', found: `up to ${limit}` };
  return { name, state: 'warn', found: `up to ${limit}`, advice: 'raise ulimit -n: each vCPU needs three' };
}

function checkSandbox(): HostCheck[] {
  const abi = landlockAbi();
  const lock = abi > 0 ? `yes, ABI ${abi}` : 'no';
  return [
    hasSeccomp()
      ? { name: 'system call filters', state: 'ok', found: 'yes' }
      : {
          name: 'system call filters',
          state: 'warn',
          found: 'no',
          advice: 'the sandbox does not restrict system calls; use a host kernel with CONFIG_SECCOMP_FILTER',
        },
    abi > 0
      ? { name: 'Landlock', state: 'ok', found: lock }
      : {
          name: 'Landlock',
          state: 'warn',
          found: lock,
          advice:
            'the sandbox does not restrict file access; boot the host with lsm=landlock,… (5.13 or later)',
        },
  ];
}

function checkCpuCount(): HostCheck {
  const available = navigator.hardwareConcurrency;
  const memory = Number(/MemAvailable:\s+(\d+)/.exec(readText('/proc/meminfo'))?.[1] ?? 0) * 1024;
  return {
    name: 'host',
    state: 'ok',
    found: `${available} CPUs, ${Math.floor(memory / MIB)} MiB of memory available`,
  };
}

/** The limits of a container or a service; they are for `--memory`, `--cpus` and the number of guests to fit. */
function checkCgroup({ memoryBytes, cpus, tasks }: CgroupLimits): HostCheck {
  const found = [
    ...(memoryBytes < Infinity ? [`${Math.floor(memoryBytes / MIB)} MiB of memory`] : []),
    ...(cpus < Infinity ? [`${cpus} CPUs`] : []),
    ...(tasks < Infinity ? [`${tasks} threads`] : []),
  ];
  return { name: 'limits of the cgroup', state: 'ok', found: found.length > 0 ? found.join(', ') : 'none' };
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

function failed(name: string, error: unknown): HostCheck {
  const message = error instanceof Error ? error.message : String(error);
  const split = error instanceof SyscallError ? message.indexOf('; ') : -1;
  if (split < 0) return { name, state: 'fail', found: message };
  return { name, state: 'fail', found: message.slice(0, split), advice: message.slice(split + 2) };
}
