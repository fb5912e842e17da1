/**
 * Reads a microVM from the two files of a snapshot. The settings that its client made come from the state file and are as
 * untrusted as a configuration file: they go through the same parser and the same checks.
 */
import { closeSync, constants, fstatSync, openSync, readFileSync } from 'node:fs';
import { parseConfig, type VmConfig } from '../../config/config.ts';
import { overrideConfig } from '../../config/restore-config.ts';
import { SyscallError } from '../../ffi/errno.ts';
import { JsonFault } from '../../json/reader.ts';
import type { MemorySource } from '../../memory/memory-source.ts';
import type { HostResources } from '../../vmm/host-resources.ts';
import { decodeState, MAX_STATE_BYTES, type MachineState } from '../../vmm/state/machine-state.ts';
import { ramBytes } from '../../vmm/state/memory-state.ts';
import type { VirtualMachine } from '../../vmm/virtual-machine.ts';
import { VoltError } from '../../volt-error.ts';
import { continueMachine } from '../restore.ts';
import { parseConfigFile } from './model/config-file.ts';
import { ActionFault } from './model/fault.ts';
import { toConfigInput } from './model/machine-input.ts';
import type { VmResources } from './model/resources.ts';
import { describeOsError } from './os-error.ts';
import type { SnapshotLoadBody } from './request/bodies.ts';

/** A CRC of 64 bits ends Firecracker's files. */
const MIN_STATE_BYTES = 8;

const VERSION = /^\d{1,4}\.\d{1,4}\.\d{1,4}$/;

/** Sections of which the host's side may be another one than when the microVM was saved. */
const HOST_SECTIONS = ['drives', 'pmem', 'network-interfaces', 'vsock', 'volt'] as const;

/** A snapshot whose settings are in the resources, and whose machine can be made. */
export interface LoadedSnapshot {
  readonly config: VmConfig;
  readonly warnings: readonly string[];
  /** Makes the machine of `config`, or of one with more on the host's side. Throws ActionFault. */
  readonly make: (
    config: VmConfig,
    options: { readonly resources: HostResources; readonly warn: (line: string) => void },
  ) => VirtualMachine;
}

/** Reads the state and configures `resources`, which are empty. Throws ActionFault. */
export function loadSnapshot(body: SnapshotLoadBody, resources: VmResources): LoadedSnapshot {
  const { state, config: text } = readState(body.snapshot_path);
  configure(text, body, resources);
  const isHuge = resources.machine.huge_pages === '2M';
  if (isHuge && body.mem_backend.backend_type === 'File')
    throw memoryFault(
      'file: Cannot restore hugetlbfs backed snapshot by mapping the memory file. Please use uffd.',
    );
  const { config, warnings } = building(() => parseConfig(withHostSide(state.config, resources)));
  return {
    config,
    warnings,
    make: (finalConfig, options) => {
      const clock = body.clock_realtime ? 'realtime' : 'offset';
      using source = openSource(body.mem_backend, state);
      try {
        return continueMachine({ state, config: finalConfig }, source.source, { ...options, clock });
      } catch (error) {
        if (source.source.kind === 'uffd' && error instanceof VoltError && isSyscallError(error.cause))
          throw memoryFault(`uffd: Failed to connect to UDS Unix stream: ${describeOsError(error.cause)}`);
        throw toBuildFault(error);
      }
    },
  };
}

/** The format's version of the state file at `path`, for `--describe-snapshot`. Throws VoltError and node:fs's errors. */
export function readSnapshotVersion(path: string): string {
  return readApiSection(decodeState(readBounded(path), path)).version;
}

interface StateFile {
  readonly state: MachineState;
  /** The settings, in the form of a configuration file. */
  readonly config: string;
}

function readState(path: string): StateFile {
  const refuse = (why: string) => restoreFault(`Failed to get snapshot state from file: ${why}`);
  let bytes: Uint8Array;
  try {
    bytes = readBounded(path);
  } catch (error) {
    throw refuse(
      error instanceof VoltError
        ? `Failed to load snapshot state from file: ${error.message}`
        : `Failed to open snapshot file: ${describeOsError(error)}`,
    );
  }
  if (bytes.length < MIN_STATE_BYTES)
    throw refuse('Failed to load snapshot state from file: IO Error: File too short to contain CRC');
  try {
    const state = decodeState(bytes, path);
    return { state, config: readApiSection(state).config };
  } catch (error) {
    if (!(error instanceof VoltError)) throw error;
    throw refuse(`Failed to load snapshot state from file: ${error.message}`);
  }
}

/** Throws VoltError 'image', and node:fs's errors. */
function readBounded(path: string): Uint8Array {
  const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    const stat = fstatSync(fd);
    if (stat.isFile() && stat.size <= MAX_STATE_BYTES) return readFileSync(fd);
    throw new VoltError('image', `Cannot read the snapshot ${path}: it is no state file of Volt`);
  } finally {
    closeSync(fd);
  }
}

function readApiSection({ api, memory }: MachineState): {
  readonly version: string;
  readonly config: string;
} {
  const { version, config } = api ?? {};
  if (
    typeof version === 'string' &&
    VERSION.test(version) &&
    typeof config === 'string' &&
    memory.layers.length === 1
  )
    return { version, config };
  throw new VoltError(
    'image',
    'Cannot read the snapshot: it was not written through this API; use volt restore',
  );
}

function configure(text: string, body: SnapshotLoadBody, resources: VmResources): void {
  const file = building(() => parseConfigFile(Buffer.from(text)));
  const interfaces = [...file['network-interfaces']];
  for (const { iface_id: id, host_dev_name: name } of body.network_overrides) {
    const index = interfaces.findIndex(({ iface_id: each }) => each === id);
    if (index < 0) throw restoreFault('Failed to get snapshot state from file: Unknown Network Device.');
    interfaces[index] = { ...interfaces[index]!, host_dev_name: name };
  }
  if (body.vsock_override && !file.vsock)
    throw restoreFault('Failed to get snapshot state from file: Unknown Vsock Device.');
  building(() => {
    const machine = file['machine-config'];
    const { huge_pages: pages, track_dirty_pages } = body;
    if (machine)
      resources.updateMachine({
        ...machine,
        track_dirty_pages,
        huge_pages: pages === 'Snapshot' ? machine.huge_pages : pages,
      });
    for (const drive of file.drives) resources.insertDrive(drive);
    for (const each of interfaces) resources.insertInterface(each);
    if (file.vsock) resources.setVsock({ ...file.vsock, ...body.vsock_override });
    if (file.balloon) resources.setBalloon(file.balloon);
    if (file['mmds-config']) resources.setMmds(file['mmds-config']);
    if (file.entropy) resources.setEntropy(file.entropy);
    for (const each of file.pmem) resources.insertPmem(each);
  });
}

/** The saved configuration with the files, taps and sockets that the resources name now. */
function withHostSide(saved: MachineState['config'], resources: VmResources): MachineState['config'] {
  const input = toConfigInput(resources);
  const machine = { ...(saved['machine-config'] as object), huge_pages: hugePages(input) };
  const present = HOST_SECTIONS.filter((name) => input[name] !== undefined && saved[name] !== undefined);
  const over = Object.fromEntries(present.map((name) => [name, input[name]]));
  return overrideConfig({ ...saved, 'machine-config': machine }, over);
}

function hugePages(input: ReturnType<typeof toConfigInput>): unknown {
  return (input['machine-config'] as { readonly huge_pages: unknown }).huge_pages;
}

/** The memory behind `mem_backend`. Its file may be closed once the machine is made. */
function openSource(
  { backend_type: type, backend_path: path }: SnapshotLoadBody['mem_backend'],
  state: MachineState,
): Disposable & { readonly source: MemorySource } {
  if (type === 'Uffd') return { source: { kind: 'uffd', path }, [Symbol.dispose]: () => {} };
  let fd: number;
  try {
    fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (error) {
    throw memoryFault(`file: Failed to load guest memory: ${describeOsError(error)}`);
  }
  const stat = fstatSync(fd);
  const bytes = ramBytes(state.memory.regions);
  if (!stat.isFile() || stat.size !== bytes) {
    closeSync(fd);
    throw memoryFault(
      `file: Failed to restore guest memory: ${path} has ${stat.size} bytes (expected ${bytes})`,
    );
  }
  return {
    source: { kind: 'layers', layers: [{ fd, name: path }] },
    [Symbol.dispose]: () => closeSync(fd),
  };
}

/** Turns what is wrong with the settings or this host into a fault. */
function building<T>(act: () => T): T {
  try {
    return act();
  } catch (error) {
    throw toBuildFault(error);
  }
}

function toBuildFault(error: unknown): unknown {
  const isKnown =
    error instanceof ActionFault ||
    error instanceof JsonFault ||
    error instanceof VoltError ||
    error instanceof SyscallError;
  return isKnown ? restoreFault(`Failed to build microVM from snapshot: ${error.message}`) : error;
}

function isSyscallError(error: unknown): error is SyscallError {
  return error instanceof SyscallError;
}

function memoryFault(why: string): ActionFault {
  return restoreFault(`Failed to load guest memory: Error creating guest memory from ${why}`);
}

function restoreFault(why: string): ActionFault {
  return new ActionFault(`Load snapshot error: Failed to restore from snapshot: ${why}`);
}
