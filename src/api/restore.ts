/** Makes a machine of a snapshot: the guest goes on where it was saved. */
import { closeSync, constants, fstatSync, openSync } from 'node:fs';
import { join } from 'node:path';
import { parseConfig, type ConfigInput, type ParsedConfig } from '../config/config.ts';
import type { ClockChoice } from '../config/machine-values.ts';
import { overrideConfig } from '../config/restore-config.ts';
import type { MemoryLayer, MemorySource } from '../memory/memory-source.ts';
import { KvmSystem } from '../kvm/system.ts';
import type { MachineState } from '../vmm/state/machine-state.ts';
import { prepareRestore } from '../vmm/state/restore.ts';
import { noteRestored } from '../vmm/state/snapshot.ts';
import { readStateFile } from '../vmm/state/read-state-file.ts';
import { VirtualMachine, type VmOptions } from '../vmm/virtual-machine.ts';
import { VoltError } from '../volt-error.ts';

/** Options of `restore`. */
export interface RestoreOptions extends Omit<VmOptions, 'restored'> {
  /** Default: `realtime`. */
  readonly clock?: ClockChoice;
  /** Unix socket of a userfaultfd handler that serves the guest's memory, instead of the snapshot's files. */
  readonly uffd?: string | undefined;
  /** Go on although this host's CPU lacks what the guest has seen. */
  readonly ignoreCpu?: boolean | undefined;
}

/** A snapshot's state, and the configuration of the machine that goes on with it. */
export interface RestoredConfig extends ParsedConfig {
  readonly directory: string;
  readonly state: MachineState;
}

/**
 * Reads the snapshot in `directory`. `overrides` has what this host gives the guest otherwise than the saved
 * configuration, in the sections of a configuration file: of devices, which are named by id, files, taps and
 * sockets. Throws VoltError 'image' and 'config'.
 */
export function readSnapshot(
  directory: string,
  overrides: ConfigInput = {},
  nameOf: (path: string) => string = (path) => `the snapshot's ${path}`,
): RestoredConfig {
  const state = readStateFile(directory);
  return { directory, state, ...parseConfig(overrideConfig(state.config, overrides), nameOf) };
}

/**
 * A machine that goes on where the guest was saved, once it is started. The snapshot's files stay as they are
 * and may be restored from any number of times; they may not change while a guest runs that was restored from
 * them. Throws like `new VirtualMachine`.
 */
export function restoreMachine(
  { directory, state, config }: RestoredConfig,
  { uffd, ...options }: RestoreOptions = {},
): VirtualMachine {
  const layers = uffd === undefined ? openLayers(directory, state) : [];
  try {
    const source: MemorySource =
      uffd === undefined ? { kind: 'layers', layers } : { kind: 'uffd', path: uffd };
    return continueMachine({ state, config }, source, options);
  } finally {
    for (const { fd } of layers) closeSync(fd);
  }
}

/** The same, with the memory from `source`; the caller may close its files afterwards. */
export function continueMachine(
  { state, config }: Pick<RestoredConfig, 'state' | 'config'>,
  source: MemorySource,
  { clock = 'realtime', ignoreCpu = false, ...options }: Omit<RestoreOptions, 'uffd'> = {},
): VirtualMachine {
  const { resources, warn = () => {} } = options;
  // Only asked what it supports.
  using own = resources ? undefined : new KvmSystem();
  const kvm = resources?.kvm ?? own!;
  const restored = prepareRestore({ state, source, clock, kvm, ignoreCpu, warn });
  const vm = new VirtualMachine(config, { ...options, restored });
  noteRestored(vm.machine, state.id, state.memory.layers);
  return vm;
}

function openLayers(directory: string, { memory }: MachineState): MemoryLayer[] {
  const open: MemoryLayer[] = [];
  try {
    for (const { file, bytes, runs } of memory.layers)
      open.push({ ...openLayer(directory, file, bytes), runs });
    return open;
  } catch (error) {
    for (const { fd } of open) closeSync(fd);
    throw error;
  }
}

function openLayer(directory: string, file: string, bytes: number): MemoryLayer {
  const path = join(directory, file);
  const fail = (found: string, cause?: unknown) =>
    new VoltError('image', `Cannot restore from ${directory}: ${found}; take the snapshot again`, { cause });
  let fd: number;
  try {
    // A FIFO must not block, and the name is the file's own.
    fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOFOLLOW);
  } catch (error) {
    throw fail(`its memory file ${file} cannot be opened (${(error as NodeJS.ErrnoException).code})`, error);
  }
  const stat = fstatSync(fd);
  if (stat.isFile() && stat.size === bytes) return { fd, name: path };
  closeSync(fd);
  throw fail(`its memory file ${file} has ${stat.size} bytes (expected ${bytes})`);
}
