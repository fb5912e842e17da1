/**
 * Carries out a plan: writes guest memory, which nothing else does before the guest runs, and sets registers.
 */
import type { EntryState, FileLoad, MemoryWrite, SegmentState } from '../boot/boot-plan.ts';
import { readToAddress } from '../ffi/file.ts';
import { putU64 } from '../binary/bytes.ts';
import { DTABLE, MSR, REGS, SEGMENT, SREGS } from '../kvm/abi.ts';
import { encodeMsrs, type KvmVcpu } from '../kvm/vcpu.ts';
import { offsetAddress } from '../machine/address.ts';
import type { GuestMemory } from '../memory/guest-memory.ts';
import { VoltError } from '../volt-error.ts';
import type { ImageFile } from './image-file.ts';

/** RFLAGS bit 1 is always set; interrupts are off. */
const RFLAGS_RESET = 2;

/** MSRs that firmware sets and Linux relies on: fast string operations; MTRRs on, write-back by default. */
const BOOT_MSRS = encodeMsrs([
  { index: MSR.ia32MiscEnable, data: 0x1 },
  { index: MSR.ia32MtrrDefType, data: 0x806 },
]);

export function applyWrites(memory: GuestMemory, writes: readonly MemoryWrite[]): void {
  for (const { address, bytes } of writes) memory.write(address, bytes);
}

/**
 * Reads a range of a file into guest memory. Mapping the file instead is not faster: the guest then takes a
 * page fault for each page, and writes to most (docs/performance.md, "Linux guests").
 */
export function applyLoad(memory: GuestMemory, load: FileLoad, file: ImageFile): void {
  let done = 0;
  for (const { start, end } of load.zeroes ?? []) {
    readPart(memory, load, file, done, start);
    done = end;
  }
  readPart(memory, load, file, done, load.fileBytes);
}

/** `start` and `end` are offsets in the load. */
function readPart(memory: GuestMemory, load: FileLoad, file: ImageFile, start: number, end: number): void {
  const address = offsetAddress(load.address, start);
  const fileOffset = load.fileOffset + start;
  const bytes = end - start;
  if (file.fd === undefined) {
    memory.write(address, file.read(fileOffset, bytes));
    return;
  }
  // SAFETY: hostAddress checks that the range is RAM, which no vCPU uses yet.
  const got = readToAddress(file.fd, memory.hostAddress(address, bytes), bytes, fileOffset);
  if (got === bytes) return;
  throw new VoltError(
    'image',
    `Cannot load ${file.name}: it was cut short while Volt read it (expected ${bytes - got} more bytes)`,
  );
}

/** State that firmware leaves in every vCPU. */
export function applyCommonState(vcpu: KvmVcpu): void {
  vcpu.setMsrs(BOOT_MSRS);
  vcpu.resetFpu();
  vcpu.setLocalInterruptPins();
}

/** State in which the BSP enters the kernel; APs keep KVM's reset state and wait for INIT and SIPI. */
export function applyEntry(vcpu: KvmVcpu, entry: EntryState): void {
  vcpu.updateSregs((view) => {
    for (const name of ['ds', 'es', 'fs', 'gs', 'ss'] as const) putSegment(view, SREGS[name], entry.data);
    putSegment(view, SREGS.cs, entry.code);
    putSegment(view, SREGS.tr, entry.task);
    putU64(view, SREGS.gdt + DTABLE.base, entry.gdt.base);
    view.setUint16(SREGS.gdt + DTABLE.limit, entry.gdt.limit, true);
    // No IDT: an exception before the guest has its own is a triple fault, which Volt reports.
    putU64(view, SREGS.idt + DTABLE.base, 0);
    view.setUint16(SREGS.idt + DTABLE.limit, 0, true);
    for (const name of ['cr0', 'cr3', 'cr4', 'efer'] as const) putU64(view, SREGS[name], entry[name]);
  });
  vcpu.setRegs((view) => {
    putU64(view, REGS.rflags, RFLAGS_RESET);
    for (const name of ['rip', 'rsp', 'rax', 'rbx', 'rsi'] as const) putU64(view, REGS[name], entry[name]);
  });
}

function putSegment(view: DataView, at: number, segment: SegmentState): void {
  putU64(view, at + SEGMENT.base, segment.base);
  view.setUint32(at + SEGMENT.limit, segment.limit, true);
  view.setUint16(at + SEGMENT.selector, segment.selector, true);
  for (const field of ['type', 'present', 'dpl', 'db', 's', 'l', 'g'] as const) {
    view.setUint8(at + SEGMENT[field], segment[field]);
  }
  view.setUint8(at + SEGMENT.avl, 0);
  view.setUint8(at + SEGMENT.unusable, 0);
}
