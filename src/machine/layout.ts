/**
 * The guest physical map: every fixed guest address of Volt, ascending, each with its reason.
 * `layout.test.ts` checks that no two rows overlap.
 *
 * RAM starts at 0 and continues up to 3 GiB. The GiB below 4 GiB is the MMIO hole with the virtio devices, PCI and
 * the APICs; RAM that does not fit below it starts at 4 GiB.
 */
import { GIB, KIB, MIB, PAGE_BYTES, guestAddress, type GuestAddress } from './address.ts';

export interface LayoutRow {
  readonly address: GuestAddress;
  /** 0: the range has no fixed end. */
  readonly bytes: number;
  readonly reason: string;
}

function row(address: number, bytes: number, reason: string): LayoutRow {
  return { address: guestAddress(address), bytes, reason };
}

export const LAYOUT = {
  interruptVectors: row(0, 0x400, 'real-mode interrupt vectors'),
  biosDataArea: row(0x400, 0x100, 'BIOS data area: EBDA segment and size of base memory'),
  gdt: row(0x500, 0x40, 'boot GDT'),
  multibootInfo: row(0x4000, 0x1000, 'Multiboot information, module list and memory map'),
  pvhStartInfo: row(0x6000, 0x1000, 'PVH hvm_start_info, module list and memory map'),
  zeroPage: row(0x7000, 0x1000, 'Linux boot_params, the "zero page"'),
  apTrampoline: row(0x8000, 0x1000, 'kept free: guests copy their AP trampoline here (SIPI vector 8)'),
  pageTables: row(0x9000, 3 * PAGE_BYTES, 'PML4, PDPT and one page directory for the 64-bit entry'),
  commandLine: row(0x2_0000, 64 * KIB, 'kernel command line with its final NUL'),
  mpFloatingPointer: row(
    0x9_fc00,
    0x10,
    'MP floating pointer: last KiB of base memory, which MPS 1.4 §4 scans',
  ),
  mpConfigTable: row(0x9_fc10, 0x3f0, 'MP configuration table while it fits, which is up to 41 CPUs'),
  videoMemory: row(0xa_0000, 0x2_0000, 'legacy video memory'),
  acpiTables: row(0xc_0000, 0x2_ff00, 'ACPI tables, where option ROMs would be'),
  vmGenerationId: row(
    0xe_ff00,
    0x10,
    'VM generation ID: in no RAM entry of the E820 map, as its specification demands',
  ),
  acpiRsdp: row(0xe_ffc0, 0x40, 'ACPI RSDP, in the range that ACPI 6.5 §5.2.5.1 has scanned'),
  biosArea: row(0xf_0000, 0xff00, 'BIOS area: MP configuration table of more than 41 CPUs'),
  realModeHandlers: row(0xf_ff00, 0xf0, 'handlers of real-mode interrupts, where firmware has its own'),
  resetVector: row(0xf_fff0, 0x10, 'where real-mode code jumps to reset a PC, F000:FFF0'),
  kernel: row(0x10_0000, 0, 'lowest address of a kernel'),
  mmioHole: row(3 * GIB, 0x1000_0000, 'MMIO hole: memory of PCI devices, half of it for each bus'),
  virtio: row(0xd000_0000, 0x1_0000, 'virtio MMIO devices, one page each'),
  mmioHoleMiddle: row(0xd001_0000, 0xfff_0000, 'MMIO hole: free'),
  pciEcam: row(0xe000_0000, 2 * MIB, 'configuration spaces of PCI devices (ECAM), 1 MiB for each bus'),
  mmioHoleRest: row(0xe020_0000, 0x1ea0_0000, 'MMIO hole up to the I/O APIC: free'),
  ioApic: row(0xfec0_0000, 0x1000, 'I/O APIC registers'),
  localApic: row(0xfee0_0000, 0x1000, 'local APIC registers, the same address on every CPU'),
  identityMap: row(0xfffb_c000, 0x1000, "KVM's identity-map page (Intel hosts without unrestricted guest)"),
  tss: row(0xfffb_d000, 0x3000, "KVM's three TSS pages (the same hosts)"),
  highMemory: row(4 * GIB, 0, 'RAM that does not fit below the MMIO hole'),
} as const satisfies Record<string, LayoutRow>;

export const VM_GENERATION_ID_BYTES = LAYOUT.vmGenerationId.bytes;

/** End of conventional memory. The EBDA above it, up to 640 KiB, holds the MP floating pointer and table. */
export const EBDA_START = LAYOUT.mpFloatingPointer.address;
export const EBDA_END = guestAddress(0xa_0000);

/** Smallest --memory. */
export const MINIMUM_MEMORY_BYTES = 32 * MIB;

/** A contiguous range of guest RAM. */
export interface RamRange {
  readonly address: GuestAddress;
  readonly bytes: number;
}

/**
 * The ranges of `memoryBytes` of RAM: one from 0, and one from 4 GiB if it does not fit below the MMIO hole.
 */
export function ramRanges(memoryBytes: number): RamRange[] {
  const low = Math.min(memoryBytes, LAYOUT.mmioHole.address);
  const ranges: RamRange[] = [{ address: guestAddress(0), bytes: low }];
  if (memoryBytes > low) ranges.push({ address: LAYOUT.highMemory.address, bytes: memoryBytes - low });
  return ranges;
}

/** Memory of PCI devices on one bus, below 4 GiB. */
export const PCI_WINDOW_BYTES = LAYOUT.mmioHole.bytes / 2;
/** The same above all RAM. */
export const PCI_HIGH_WINDOW_BYTES = 8 * GIB;
export const MAX_PCI_BUSES = 2;
