/**
 * CPU hotplug registers, which the DSDT's processor devices access. machine/ports.ts describes each register.
 * The guest reads and writes them by port offset; the VMM plugs vCPUs, requests their removal, and parks the
 * ejected ones. The caller holds the bus lock.
 */
import { CPU_HOTPLUG, CPU_HOTPLUG_NONE, CPU_HOTPLUG_STATUS } from '../machine/ports.ts';

/** Words of the device, followed by CPU_SLOT_WORD.size words for each vCPU. */
const CPU_HOTPLUG_WORD = { selected: 0, size: 1 } as const;
/** `flags` are CPU_HOTPLUG_STATUS. The others hold the arguments of the last _OST, and count the calls. */
const CPU_SLOT_WORD = { flags: 0, ostEvent: 1, ostStatus: 2, ostCount: 3, size: 4 } as const;
const { selected } = CPU_HOTPLUG_WORD;
const { present, inserted, removing, eject } = CPU_HOTPLUG_STATUS;

/** Number of words for `count` vCPUs. */
export function cpuHotplugWords(count: number): number {
  return CPU_HOTPLUG_WORD.size + count * CPU_SLOT_WORD.size;
}

/** What the VMM has to do after a write: park the ejected vCPU, or evaluate the new _OST. */
export const HOTPLUG_REQUEST = { none: 0, eject: 1, ost: 2 } as const;
export type HotplugRequest = (typeof HOTPLUG_REQUEST)[keyof typeof HOTPLUG_REQUEST];

export function resetCpuHotplug(words: Int32Array, presentCount: number): void {
  words.fill(0);
  for (let cpu = 0; cpu < presentCount; cpu++) words[slotWord(cpu, CPU_SLOT_WORD.flags)] = present;
}

function slotWord(cpu: number, word: number): number {
  return CPU_HOTPLUG_WORD.size + cpu * CPU_SLOT_WORD.size + word;
}

function slotCount(words: Int32Array): number {
  return (words.length - CPU_HOTPLUG_WORD.size) / CPU_SLOT_WORD.size;
}

/**
 * A 32-bit read of the register at `offset`. Other offsets read as 0, and so does `status` of a vCPU out of
 * range.
 */
export function cpuHotplugRead(words: Int32Array, offset: number): number {
  switch (offset) {
    case CPU_HOTPLUG.status: {
      const cpu = words[selected]! >>> 0;
      return cpu < slotCount(words) ? words[slotWord(cpu, CPU_SLOT_WORD.flags)]! : 0;
    }
    case CPU_HOTPLUG.next:
      return selectNext(words);
    default:
      return 0;
  }
}

function selectNext(words: Int32Array): number {
  for (let cpu = 0; cpu < slotCount(words); cpu++) {
    if ((words[slotWord(cpu, CPU_SLOT_WORD.flags)]! & (inserted | removing)) === 0) continue;
    words[selected] = cpu;
    return cpu;
  }
  return CPU_HOTPLUG_NONE;
}

/** A 32-bit write of the register at `offset`. `bootCpu` cannot be ejected. */
export function cpuHotplugWrite(
  words: Int32Array,
  offset: number,
  value: number,
  bootCpu: number,
): HotplugRequest {
  if (offset === CPU_HOTPLUG.select) {
    words[selected] = value;
    return HOTPLUG_REQUEST.none;
  }
  const cpu = words[selected]! >>> 0;
  if (cpu >= slotCount(words)) return HOTPLUG_REQUEST.none;
  switch (offset) {
    case CPU_HOTPLUG.status:
      return writeStatus(words, cpu, value, bootCpu);
    case CPU_HOTPLUG.ostEvent:
      words[slotWord(cpu, CPU_SLOT_WORD.ostEvent)] = value;
      return HOTPLUG_REQUEST.none;
    case CPU_HOTPLUG.ostStatus:
      words[slotWord(cpu, CPU_SLOT_WORD.ostStatus)] = value;
      words[slotWord(cpu, CPU_SLOT_WORD.ostCount)]!++;
      return HOTPLUG_REQUEST.ost;
    default:
      return HOTPLUG_REQUEST.none;
  }
}

function writeStatus(words: Int32Array, cpu: number, value: number, bootCpu: number): HotplugRequest {
  const at = slotWord(cpu, CPU_SLOT_WORD.flags);
  const flags = words[at]! & ~(value & (inserted | removing));
  const ejected = (value & eject) !== 0 && (flags & present) !== 0 && cpu !== bootCpu;
  // The guest evaluates _STA next, so `present` is cleared at once; `eject` stays set until the vCPU is
  // parked.
  words[at] = ejected ? eject : flags;
  return ejected ? HOTPLUG_REQUEST.eject : HOTPLUG_REQUEST.none;
}

/** Marks the vCPU present, with an insert event for the guest. */
export function plugCpu(words: Int32Array, cpu: number): void {
  words[slotWord(cpu, CPU_SLOT_WORD.flags)] = present | inserted;
}

/** Adds an eject request for the guest. */
export function requestCpuRemoval(words: Int32Array, cpu: number): void {
  words[slotWord(cpu, CPU_SLOT_WORD.flags)]! |= removing;
}

/** Withdraws the events that the guest has not acknowledged. */
export function cancelCpuRequest(words: Int32Array, cpu: number): void {
  words[slotWord(cpu, CPU_SLOT_WORD.flags)]! &= ~(inserted | removing);
}

export function isCpuPresent(words: Int32Array, cpu: number): boolean {
  return (words[slotWord(cpu, CPU_SLOT_WORD.flags)]! & present) !== 0;
}

/** Whether the guest has ejected the vCPU, and the VMM has not parked it yet. */
export function isCpuEjected(words: Int32Array, cpu: number): boolean {
  return (words[slotWord(cpu, CPU_SLOT_WORD.flags)]! & eject) !== 0;
}

export function clearCpuEjected(words: Int32Array, cpu: number): void {
  words[slotWord(cpu, CPU_SLOT_WORD.flags)]! &= ~eject;
}

/** Arguments of the guest's last _OST for the vCPU, and the number of its calls. (ACPI 6.5 §6.3.5) */
export function lastCpuOst(words: Int32Array, cpu: number): { event: number; status: number; count: number } {
  return {
    event: words[slotWord(cpu, CPU_SLOT_WORD.ostEvent)]! >>> 0,
    status: words[slotWord(cpu, CPU_SLOT_WORD.ostStatus)]! >>> 0,
    count: words[slotWord(cpu, CPU_SLOT_WORD.ostCount)]!,
  };
}
