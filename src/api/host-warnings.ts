/** What a configuration asks of this host that the host will not do, although nothing refuses it. */
import { readFileSync, statSync } from 'node:fs';
import type { VmConfig } from '../config/config.ts';
import { GIB, KIB, MIB } from '../machine/address.ts';
import { PMEM_UNIT_BYTES } from '../virtio/pmem/placement.ts';

/** IFF_UP. (Linux include/uapi/linux/if.h) */
const INTERFACE_UP = 1;

/** A sentence for each. Reads /sys and /proc only. */
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
    `the guest has ${gib(memoryBytes)} of RAM and this host ${gib(host)}: the host ends the guest when it uses more than is free`,
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
      `the guest sees ${units} MiB of ${device.path}, and what it writes behind its ${bytes} bytes is lost; truncate -s ${units}M keeps it`,
    ];
  });
}

/** False for an interface that is not there: opening it says so. */
function isDown(name: string): boolean {
  try {
    const flags = readFileSync(`/sys/class/net/${name}/flags`, 'latin1');
    return (Number(flags) & INTERFACE_UP) === 0;
  } catch {
    return false;
  }
}
