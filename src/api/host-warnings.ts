/** Warnings about settings that are valid but will not work as intended on this host. */
import { readFileSync, statSync } from 'node:fs';
import type { VmConfig } from '../config/config.ts';
import { GIB, KIB, MIB } from '../machine/address.ts';
import { PMEM_UNIT_BYTES } from '../virtio/pmem/placement.ts';

/** IFF_UP. (Linux include/uapi/linux/if.h) */
const INTERFACE_UP = 1;

/** One sentence per warning. Reads /sys, /proc and file sizes only. */
export function hostWarnings(config: VmConfig): string[] {
  return [...memoryWarnings(config), ...tapWarnings(config), ...pmemWarnings(config)];
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
