/** Inspection of the structures that Volt would build, and of MP tables in files; neither needs /dev/kvm. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { hex } from '../binary/bytes.ts';
import type { MemoryWrite } from '../boot/boot-plan.ts';
import type { CpuVendor } from '../cpuid/baseline.ts';
import { VM_GENERATION_ID_BYTES } from '../machine/layout.ts';
import { findFloatingPointer } from '../smp/mp-table-read.ts';
import type { VmConfig } from '../config/config.ts';
import { openImage, openKernel } from '../vmm/image-file.ts';
import { inspectMpTables, inspectPlan, type Inspection, type MpInspection } from '../plan/inspection.ts';
import { planImage, planMachine, pmemOf } from '../plan/plan.ts';
import { readPmemBytes } from '../virtio/pmem/open.ts';
import { VoltError } from '../volt-error.ts';

export interface MachineInspection {
  readonly inspection: Inspection;
  /** The bytes of the structures, for dumps. */
  readonly writes: readonly MemoryWrite[];
}

/** Plans a machine and checks the plan, without KVM. Throws the same VoltErrors as `new VirtualMachine`. */
export function inspectMachine(config: VmConfig): MachineInspection {
  using kernel = openKernel(config.kernelPath, config.fileNames.kernel);
  using initrd =
    config.initrdPath === undefined ? undefined : openImage(config.initrdPath, config.fileNames.initrd);
  const plan = planMachine(
    config,
    planImage(config, kernel, initrd),
    // A guest that runs gets a random one.
    { tscDeadline: true, vmGenerationId: new Uint8Array(VM_GENERATION_ID_BYTES) },
    {
      pmemBytes: pmemOf(config).map(readPmemBytes),
    },
  );
  return { inspection: inspectPlan(plan, config.cmdline, hostVendor()), writes: plan.writes };
}

/**
 * Writes one file per structure, `name@address.bin`. Throws VoltError 'host' if the directory cannot be
 * written.
 */
export function dumpWrites(writes: readonly MemoryWrite[], directory: string): string[] {
  try {
    mkdirSync(directory, { recursive: true });
    return writes.map(({ name, address, bytes }) => {
      const path = join(directory, `${name}@${hex(address)}.bin`);
      writeFileSync(path, bytes);
      return path;
    });
  } catch (error) {
    throw new VoltError(
      'host',
      `Cannot write --dump ${directory}: ${(error as Error).message}; use a directory that you may write to`,
      {
        cause: error,
      },
    );
  }
}

/** Bytes of a memory dump that are searched; MP tables are below 1 MiB. */
const DUMP_BYTES = 16 * 1024 * 1024;

/** MP tables in a file, and their problems. */
export interface FileInspection {
  readonly mpTables: MpInspection;
  readonly problems: readonly string[];
}

/**
 * Reads MP tables from a dump of guest memory that starts at guest address 0, or from a file that starts with
 * a floating pointer or a configuration table, such as those of `--dump`.
 */
export function inspectFile(path: string): FileInspection {
  using file = openImage(path, '--from');
  const dump = file.read(0, Math.min(file.bytes, DUMP_BYTES));
  if (startsWith(dump, 'PCMP')) {
    const { mpTables, problems } = inspectMpTables(0, new Uint8Array(), dump);
    return { mpTables, problems: problems.filter((problem) => !problem.startsWith('MP floating pointer')) };
  }
  const at = findFloatingPointer(dump);
  if (at < 0) {
    throw new VoltError(
      'usage',
      `Cannot use --from ${path}: it has no MP floating pointer (expected a memory dump from guest address 0, or a file that starts with _MP_ or PCMP)`,
    );
  }
  const pointer = dump.subarray(at, at + 16);
  const table = new DataView(pointer.buffer, pointer.byteOffset).getUint32(4, true);
  return inspectMpTables(at, pointer, table < dump.length ? dump.subarray(table) : undefined);
}

function startsWith(bytes: Uint8Array, text: string): boolean {
  return Buffer.from(bytes.subarray(0, text.length)).toString('latin1') === text;
}

/** The vendor of this host's CPU; AMD's topology leaves differ from Intel's. */
function hostVendor(): CpuVendor {
  try {
    return readFileSync('/proc/cpuinfo', 'utf8').includes('AuthenticAMD') ? 'AuthenticAMD' : 'GenuineIntel';
  } catch {
    return 'GenuineIntel';
  }
}
