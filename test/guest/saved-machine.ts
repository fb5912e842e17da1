/** Saves machines of the library and restores them, as tests of states need it. */
import { closeSync, openSync } from 'node:fs';
import { randomBytes } from 'node:crypto';
import {
  HostResources,
  parseConfig,
  VirtualMachine,
  type VmConfig,
  type VmEnd,
  VoltError,
} from '../../src/api/index.ts';
import { prepareCopyThreads } from '../../src/ffi/copy-threads.ts';
import { writeMemory } from '../../src/memory/memory-writer.ts';
import { ConsolePump } from '../../src/vmm/serial/pump.ts';
import { captureMachine } from '../../src/vmm/state/capture.ts';
import { decodeState, encodeState, type MachineState } from '../../src/vmm/state/machine-state.ts';
import { memoryFileName } from '../../src/vmm/state/memory-state.ts';
import { prepareRestore, type RestoredClock } from '../../src/vmm/state/restore.ts';
import { describeVcpu } from '../../src/vmm/vcpu/sample.ts';
import { TemporaryFolder } from '../cli/volt-process.ts';

/** A state file's bytes, and the memory file beside it. */
export interface SavedMachine extends Disposable {
  readonly file: Uint8Array;
  readonly state: MachineState;
  readonly memoryPath: string;
}

/** Pauses the machine and saves it. It stays paused. */
export async function saveMachine(vm: VirtualMachine): Promise<SavedMachine> {
  const folder = new TemporaryFolder();
  const id = randomBytes(16).toString('hex');
  const memoryPath = `${folder.path}/${memoryFileName(id)}`;
  await vm.pause();
  await vm.machine.devices?.pause();
  const layers = [{ file: memoryFileName(id), bytes: vm.config.memoryBytes }];
  const state = captureMachine(vm.machine, { id, createdAt: Date.now(), layers });
  prepareCopyThreads();
  const fd = openSync(memoryPath, 'w+');
  try {
    await writeMemory(vm.machine.memory, fd);
  } finally {
    closeSync(fd);
  }
  const file = encodeState(state);
  return { file, state, memoryPath, [Symbol.dispose]: () => folder[Symbol.dispose]() };
}

export interface RestoreChoice {
  readonly clock?: RestoredClock;
  readonly warn?: (line: string) => void;
  /** Applied to the configuration of the snapshot. */
  readonly change?: (config: VmConfig) => VmConfig;
}

/** A new machine that continues from the files of a saved one; not started yet. */
export function restoreMachine(
  { file, memoryPath }: Pick<SavedMachine, 'file' | 'memoryPath'>,
  resources: HostResources,
  { clock = 'offset', warn = () => {}, change = (config) => config }: RestoreChoice = {},
): VirtualMachine {
  const state = decodeState(file, 'the snapshot');
  const fd = openSync(memoryPath, 'r');
  try {
    const source = { kind: 'layers', layers: [{ fd, name: memoryPath }] } as const;
    const restored = prepareRestore({ state, source, clock, kvm: resources.kvm, warn });
    const config = change({ ...parseConfig(state.config).config, cpus: state.cpus });
    return new VirtualMachine(config, { resources, warn, restored });
  } finally {
    closeSync(fd);
  }
}

/** A machine whose console is collected. */
export class CollectedMachine {
  readonly vm: VirtualMachine;
  readonly #pump: ConsolePump;
  #output = '';

  constructor(vm: VirtualMachine) {
    this.vm = vm;
    const take = (bytes: Uint8Array) => {
      this.#output += Buffer.from(bytes).toString('latin1');
      return bytes.length;
    };
    this.#pump = new ConsolePump(vm.shared, take, () => {});
    void this.#pump.run();
    vm.start();
  }

  get output(): string {
    return this.#output;
  }

  /** Stops the machine if it still runs, and disposes of it. Returns all that it has printed. */
  async end(): Promise<string> {
    await this.vm.stop();
    await this.#pump.finish(() => this.vm.flushConsole());
    this.vm[Symbol.dispose]();
    return this.#output;
  }
}

export interface ChainResult {
  readonly output: string;
  readonly saves: number;
  readonly end: VmEnd;
  /** MP states in which vCPUs were saved. */
  readonly mpStates: ReadonlySet<number>;
}

/**
 * Runs a guest that is saved, stopped, restored, saved again, …, each time after `nextPauseMs()`, up to `limit`
 * times, and then runs to its end. Throws when it does not end.
 */
export async function runInPieces(
  config: VmConfig,
  nextPauseMs: () => number,
  limit: number,
): Promise<ChainResult> {
  using resources = new HostResources();
  const mpStates = new Set<number>();
  let output = '';
  let machine = new CollectedMachine(new VirtualMachine(config, { resources }));
  for (let saves = 0; ; saves++) {
    const end = await endWithin(machine.vm, saves < limit ? nextPauseMs() : HANG_MS);
    if (end || saves >= limit) {
      const states = machine.vm.vcpus.map((vcpu) => describeVcpu(vcpu, machine.vm.symbols.describe));
      output += await machine.end();
      if (end) return { output, saves, end, mpStates };
      throw new Error(`The guest hangs after ${saves} saves: ${states.join('; ')}; output: ${output}`);
    }
    const saved = await saveUnlessEnded(machine.vm);
    if (!saved) {
      output += await machine.end();
      return { output, saves, end: await machine.vm.ended, mpStates };
    }
    using _ = saved;
    for (const { mpState } of saved.state.vcpus) mpStates.add(mpState);
    output += await machine.end();
    machine = new CollectedMachine(restoreMachine(saved, resources));
  }
}

/** undefined when the guest has ended meanwhile. */
async function saveUnlessEnded(vm: VirtualMachine): Promise<SavedMachine | undefined> {
  try {
    return await saveMachine(vm);
  } catch (error) {
    if (error instanceof VoltError && error.code === 'guest') return undefined;
    throw error;
  }
}

const HANG_MS = 120_000;

async function endWithin(vm: VirtualMachine, ms: number): Promise<VmEnd | undefined> {
  const timer = Promise.withResolvers<undefined>();
  const id = setTimeout(() => timer.resolve(undefined), ms);
  const end = await Promise.race([vm.ended, timer.promise]);
  clearTimeout(id);
  return end;
}
