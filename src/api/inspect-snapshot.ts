/** Inspection of a snapshot's directory; neither needs /dev/kvm, and nothing of the snapshot is changed. */
import { statSync } from 'node:fs';
import { join } from 'node:path';
import { compareCpu, type CpuComparison } from '../vmm/state/cpu-compatibility.ts';
import { cpuNeedsOf } from '../vmm/state/cpu-needs.ts';
import { describeState, type StateDescription } from '../vmm/state/describe-state.ts';
import { readStateFile } from '../vmm/state/read-state-file.ts';
import { readHostCpu } from './host-cpu.ts';

export interface SnapshotInspection extends StateDescription {
  /** Bytes that each layer's file takes on disk, in the order of `memory.layers`; undefined: it is not there. */
  readonly onDisk: readonly (number | undefined)[];
  /** What is wrong with the directory, one line each. */
  readonly problems: readonly string[];
}

/** Bytes in a block of stat's st_blocks. (stat(2)) */
const BLOCK_BYTES = 512;

/** Throws VoltError 'image' for a directory without a readable snapshot. */
export function inspectSnapshot(directory: string): SnapshotInspection {
  const state = describeState(readStateFile(directory));
  const problems: string[] = [];
  const onDisk = state.memory.layers.map(({ file }) => {
    const stat = statSync(join(directory, file), { throwIfNoEntry: false });
    if (!stat?.isFile()) problems.push(`${file}: the directory lacks this layer of the guest's memory`);
    else if (stat.size !== state.memory.bytes)
      problems.push(`${file}: it has ${stat.size} bytes (expected ${state.memory.bytes}, the size of RAM)`);
    return stat && stat.blocks * BLOCK_BYTES;
  });
  return { ...state, onDisk, problems };
}

export interface SnapshotComparison extends CpuComparison {
  /** Where what is known of this host is from. */
  readonly host: 'kvm' | 'cpuinfo';
  /** Why KVM was not asked. */
  readonly reason: string | undefined;
  /** `GenuineIntel, family …` of the guest's CPU, and its brand. */
  readonly cpu: StateDescription['cpu'];
}

/** Compares what the snapshot needs of a CPU with this host. Throws VoltError 'image'. */
export function compareSnapshot(directory: string): SnapshotComparison {
  const state = readStateFile(directory);
  const { cpu, source, reason } = readHostCpu();
  return {
    ...compareCpu(cpuNeedsOf(state), cpu),
    ...{ host: source, reason },
    cpu: describeState(state).cpu,
  };
}
