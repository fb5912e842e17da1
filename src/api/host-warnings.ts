/** Warnings about settings that are valid but will not work as intended on this host. */
import { readFileSync, statSync } from 'node:fs';
import type { VmConfig } from '../config/config.ts';
import { MINIMUM_MEMORY_MIB } from '../config/machine-values.ts';
import { GIB, KIB, MIB } from '../machine/address.ts';
import { PMEM_UNIT_BYTES } from '../virtio/pmem/placement.ts';
import { cgroupLimits, type CgroupLimits } from './cgroup-limits.ts';

/** IFF_UP. (Linux include/uapi/linux/if.h) */
const INTERFACE_UP = 1;

/** Most memory that Volt itself was seen to use beside the guest's RAM, with room. */
const OWN_BYTES = 64 * MIB;
/** Most threads that Volt was seen to have beside those of vCPUs, with room; each device may add one. */
const OWN_TASKS = 24;

/** One sentence per warning. Reads /sys, /proc and file sizes only. */
export function hostWarnings(config: VmConfig): string[] {
  return [
    ...memoryWarnings(config),
    ...cgroupWarnings(config, cgroupLimits()),
    ...tapWarnings(config),
    ...pmemWarnings(config),
  ];
}

function memoryWarnings({ memoryBytes }: VmConfig): string[] {
  // Nothing is read for a guest that is smaller than any host with KVM.
  if (memoryBytes <= GIB) return [];
  const host = hostMemoryBytes();
  if (memoryBytes <= host) return [];
  const gib = (bytes: number) => `${(bytes / GIB).toFixed(1)} GiB`;
  return [
    `the guest has ${gib(memoryBytes)} of RAM and this host ${gib(host)}: the host kills Volt when the guest uses more than is free; use a smaller --memory`,
  ];
}

/** Pure. A limit that is too low shows only later: the kernel kills Volt, or refuses a thread. */
export function cgroupWarnings(
  {
    memoryBytes,
    hugepages,
    maxCpus,
    devices,
  }: Pick<VmConfig, 'memoryBytes' | 'hugepages' | 'maxCpus' | 'devices'>,
  limits: CgroupLimits,
): string[] {
  const warnings: string[] = [];
  const needed = memoryBytes + OWN_BYTES;
  // Huge pages are the hugetlb controller's.
  if (!hugepages && needed > limits.memoryBytes) {
    const fits = Math.floor((limits.memoryBytes - OWN_BYTES) / MIB);
    const smaller = fits >= MINIMUM_MEMORY_MIB ? `use --memory ${fits}M, or ` : '';
    warnings.push(
      `the guest has ${memoryBytes / MIB} MiB of RAM, but the memory limit of this container or service is ${Math.floor(limits.memoryBytes / MIB)} MiB, so the host kills Volt when the guest uses its RAM; ${smaller}raise the limit to ${needed / MIB} MiB`,
    );
  }
  const tasks = maxCpus + devices.length + OWN_TASKS;
  if (tasks > limits.tasks) {
    warnings.push(
      `Volt needs up to ${tasks} threads, but the limit of this container or service is ${limits.tasks}; raise it (pids.max), or use fewer --cpus`,
    );
  }
  return warnings;
}

function hostMemoryBytes(): number {
  const kib = /^MemTotal:\s+(\d+) kB$/m.exec(readFileSync('/proc/meminfo', 'latin1'))?.[1];
  return kib === undefined ? Infinity : Number(kib) * KIB;
}

function tapWarnings({ devices }: VmConfig): string[] {
  return devices.flatMap((device) => {
    if (device.kind !== 'net' || device.tap === undefined || !isDown(device.tap)) return [];
    return [
      `tap ${device.tap} is down, so ${device.id} has no link; bring it up: ip link set ${device.tap} up`,
    ];
  });
}

function pmemWarnings({ devices }: VmConfig): string[] {
  return devices.flatMap((device) => {
    if (device.kind !== 'pmem' || device.readOnly) return [];
    const { size: bytes } = statSync(device.path);
    if (bytes % PMEM_UNIT_BYTES === 0) return [];
    const units = Math.ceil(bytes / PMEM_UNIT_BYTES) * (PMEM_UNIT_BYTES / MIB);
    return [
      `the guest sees ${units} MiB, but ${device.path} has ${bytes} bytes, and writes beyond its end are lost; extend it: truncate -s ${units}M`,
    ];
  });
}

/** False for an interface that does not exist, for which opening has its own error. */
function isDown(name: string): boolean {
  try {
    const flags = readFileSync(`/sys/class/net/${name}/flags`, 'latin1');
    return (Number(flags) & INTERFACE_UP) === 0;
  } catch {
    return false;
  }
}
