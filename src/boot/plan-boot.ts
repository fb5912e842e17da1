/** Recognises the kernel's format, chooses the boot protocol, and plans the boot. */
import { LAYOUT } from '../machine/layout.ts';
import { buildBiosDataArea } from './bios-data.ts';
import { checkLoads, imageError, type BootInputs } from './boot-inputs.ts';
import type { BootPlan, BootProtocol, MemoryWrite } from './boot-plan.ts';
import { planBzImage } from './bzimage.ts';
import { parseElf, type ElfImage } from './elf.ts';
import { planLinux } from './linux.ts';
import { findMultibootHeader, planMultiboot } from './multiboot.ts';
import { planPvh, pvhEntry } from './pvh.ts';
import { buildInterruptVectors, buildRealModeHandlers } from './real-mode-handlers.ts';
import { checkInitrd, checkModule, recogniseImage } from './recognise.ts';

/** Throws VoltError 'image' if the kernel, the initrd and the RAM do not fit together. */
export function planBoot(inputs: BootInputs, protocol?: BootProtocol): BootPlan {
  if (inputs.initrd) checkModule(inputs.initrd);
  const chosen = choosePlan(inputs, protocol);
  const plan = { ...chosen, writes: [...chosen.writes, ...realModeWrites()] };
  checkLoads(inputs, plan.loads, plan.writes);
  return plan;
}

/** Structures of PC firmware that a kernel's real-mode code may use. */
function realModeWrites(): MemoryWrite[] {
  const { interruptVectors, biosDataArea, realModeHandlers } = LAYOUT;
  return [
    { name: 'interrupt-vectors', address: interruptVectors.address, bytes: buildInterruptVectors() },
    { name: 'bios-data-area', address: biosDataArea.address, bytes: buildBiosDataArea() },
    { name: 'real-mode-handlers', address: realModeHandlers.address, bytes: buildRealModeHandlers() },
  ];
}

/**
 * An ELF kernel may support several protocols. One with notes of the owner "Linux" is booted by the Linux
 * protocol, which avoids the PVH entry stub; others by PVH or else Multiboot, if they support it.
 */
function choosePlan(inputs: BootInputs, wanted: BootProtocol | undefined): BootPlan {
  const { kernel } = inputs;
  const kind = recogniseImage(kernel, () => findMultibootHeader(kernel) !== undefined);
  if (kind === 'bzimage') {
    if (inputs.initrd) checkInitrd(inputs.initrd);
    refuseUnless(wanted === undefined || wanted === 'bzimage', inputs, wanted, 'it is a bzImage');
    return planBzImage(inputs);
  }
  refuseUnless(wanted !== 'bzimage', inputs, wanted, 'it is not a bzImage');
  const header = findMultibootHeader(kernel);
  const image = kind === 'elf' ? parseElf(kernel) : undefined;
  const pvh = image && pvhEntry(image);

  if (wanted === 'pvh') refuseUnless(pvh !== undefined, inputs, wanted, 'it has no PVH note');
  if (wanted === 'linux') refuseUnless(image !== undefined, inputs, wanted, 'it is a flat Multiboot image');
  if (wanted === 'multiboot')
    refuseUnless(header !== undefined, inputs, wanted, 'it has no Multiboot header');
  // Modules of other kernels may be programs: seL4's is its root server, Xen's the kernel of dom0.
  const hasModules = wanted !== 'linux' && (pvh !== undefined || header !== undefined);
  if (inputs.initrd && (!hasModules || (image && isLinux(image)))) checkInitrd(inputs.initrd);
  if (image && (wanted === 'linux' || (wanted === undefined && isLinux(image))))
    return planLinux(inputs, image);
  if (image && pvh !== undefined && wanted !== 'multiboot') return planPvh(inputs, image, pvh);
  if (header) return planMultiboot(inputs, header, image);
  if (image) return planLinux(inputs, image);
  throw imageError(kernel.name, 'it is a flat Multiboot image', { expected: 'an ELF file' });
}

/** Linux has notes with the owner "Linux" since 4.19 (its build salt). */
function isLinux(image: ElfImage): boolean {
  return image.bits === 64 && image.notes.some((note) => note.owner === 'Linux');
}

function refuseUnless(
  condition: boolean,
  inputs: BootInputs,
  wanted: BootProtocol | undefined,
  found: string,
): void {
  if (!condition) {
    throw imageError(inputs.kernel.name, `--boot ${wanted} was given, but ${found}`, {
      fix: 'leave out --boot, or use a kernel for that protocol',
    });
  }
}
