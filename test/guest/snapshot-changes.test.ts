/** What is asked of a machine while it is being saved: refused in one line, or done when it goes on. */
import { describe, expect, setDefaultTimeout } from 'bun:test';
import { readdirSync, statSync } from 'node:fs';
import {
  mergeConfig,
  parseConfig,
  VirtualMachine,
  type SnapshotOptions,
  type SnapshotProgress,
  type VmConfig,
} from '../../src/api/index.ts';
import { CPU_HOTPLUG_STATUS } from '../../src/machine/ports.ts';
import { cpuHotplugWords, isCpuEjected, isCpuPresent } from '../../src/chips/cpu-hotplug.ts';
import { encodeState } from '../../src/vmm/state/machine-state.ts';
import { readStateFile } from '../../src/vmm/state/read-state-file.ts';
import { phaseOf } from '../../src/vmm/vcpu/sample.ts';
import { kvmOpens, TemporaryFolder } from '../cli/volt-process.ts';
import { testNeeding } from '../support/needs.ts';
import { smallConfig, waitUntil } from './guest-run.ts';
import { pluggingGuest } from './plugging-guest.ts';
import { CollectedMachine, restoreMachine, saveMachine } from './saved-machine.ts';
import { asm, buildPvhElf, program } from './tiny-guest.ts';

/** For hangs only. */
setDefaultTimeout(120_000);
const needsKvm = testNeeding('/dev/kvm', !kvmOpens);

/** Says "ready", resets itself at the first byte that it gets. */
const resettingGuest = () => {
  const onByte = asm.untilZero([...asm.in8(0x3fd), 0x24, 0x01, 0x34, 0x01]);
  return program(asm.print('ready'), onByte, asm.in8(0x3f8), asm.out8(0x64, 0xfe), asm.halt());
};

class SavedGuest implements AsyncDisposable {
  readonly #stack = new AsyncDisposableStack();
  readonly #folder = this.#stack.use(new TemporaryFolder());
  readonly directory = this.#folder.at('snap');
  machine!: CollectedMachine;

  static async start(
    code: Uint8Array,
    ready: string,
    change: (config: VmConfig) => VmConfig = (config) => config,
  ): Promise<SavedGuest> {
    const guest = new SavedGuest();
    const path = await guest.#folder.write('kernel', buildPvhElf(code));
    guest.machine = new CollectedMachine(new VirtualMachine(change(smallConfig(path))));
    guest.#stack.defer(() => guest.machine.end().then(() => {}));
    await waitUntil('the guest is ready', () => guest.machine.output.includes(ready));
    return guest;
  }

  get vm(): VirtualMachine {
    return this.machine.vm;
  }

  /** Saves it, and calls `act` once it is at `step`; resolves with what both came to. */
  async save<T>(
    act: () => Promise<T> | T,
    options: SnapshotOptions = {},
    step: SnapshotProgress['step'] = 'writing',
  ) {
    let acted: Promise<T> | undefined;
    const onProgress = (progress: SnapshotProgress) => {
      if (progress.step !== step || acted) return;
      acted = (async () => act())();
      // It is looked at below, once the snapshot is over.
      acted.catch(() => {});
    };
    const saved = this.vm.snapshot(this.directory, { ...options, onProgress });
    const [snapshot] = await Promise.allSettled([saved]);
    const [other] = await Promise.allSettled([acted]);
    return { snapshot, other };
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#stack.disposeAsync();
  }
}

const hotpluggable = (config: VmConfig) =>
  parseConfig(mergeConfig(config.input, { volt: { max_cpus: 3 } })).config;
const reasonOf = (result: PromiseSettledResult<unknown>) =>
  result.status === 'rejected' ? (result.reason as Error).message : result.status;

describe('while a guest is being saved', () => {
  needsKvm('a second snapshot is refused, and the first is whole', async () => {
    await using guest = await SavedGuest.start(program(asm.print('ready'), asm.halt()), 'ready');

    const { snapshot, other } = await guest.save(() => guest.vm.snapshot(`${guest.directory}2`));

    expect(reasonOf(snapshot)).toBe('fulfilled');
    expect(reasonOf(other)).toBe(
      'Cannot save the guest: another snapshot of it is under way; wait for its end',
    );
    expect(readStateFile(guest.directory).vcpus).toHaveLength(1);
  });

  needsKvm('vCPUs are plugged when it goes on', async () => {
    await using guest = await SavedGuest.start(pluggingGuest(), 'b', hotpluggable);

    const { snapshot, other } = await guest.save(() => guest.vm.setCpuCount(3));
    await waitUntil('both say so', () => guest.machine.output === 'baa');

    const saved = readStateFile(guest.directory);
    const savedWords = Int32Array.from(saved.chips.cpuHotplug);
    expect([reasonOf(snapshot), reasonOf(other)]).toEqual(['fulfilled', 'fulfilled']);
    expect(saved.vcpus).toHaveLength(1);
    expect([0, 1, 2].map((cpu) => isCpuPresent(savedWords, cpu))).toEqual([true, false, false]);
    expect(guest.vm.vcpus).toHaveLength(3);
  });

  needsKvm('a pause keeps it paused afterwards', async () => {
    await using guest = await SavedGuest.start(program(asm.print('ready'), asm.halt()), 'ready');

    const { snapshot, other } = await guest.save(() => guest.vm.pause());

    expect([reasonOf(snapshot), reasonOf(other)]).toEqual(['fulfilled', 'fulfilled']);
    expect(guest.vm.vcpus.map(({ words }) => phaseOf(words))).toEqual(['paused']);
  });

  needsKvm('nothing resumes it before all is written', async () => {
    await using guest = await SavedGuest.start(program(asm.print('ready'), asm.halt()), 'ready');
    await guest.vm.pause();
    const stateFiles = () => readdirSync(guest.directory).filter((name) => name.startsWith('state'));
    const written = () => stateFiles().map((name) => statSync(`${guest.directory}/${name}`).size > 0);
    const seen: boolean[][] = [];

    const { snapshot, other } = await guest.save(async () => {
      seen.push(written());
      await guest.vm.resume();
      seen.push(written());
    });

    expect([reasonOf(snapshot), reasonOf(other)]).toEqual(['fulfilled', 'fulfilled']);
    expect(seen).toEqual([[false], [true]]);
    expect(guest.vm.vcpus.map(({ words }) => phaseOf(words))).toEqual(['running']);
  });

  needsKvm('its end ends the snapshot, and the one before stays', async () => {
    await using guest = await SavedGuest.start(program(asm.print('ready'), asm.halt()), 'ready');
    const { id } = await guest.vm.snapshot(guest.directory);

    const { snapshot } = await guest.save(() => void guest.vm.stop());

    expect(reasonOf(snapshot)).toBe(
      'Cannot save the guest: it has ended meanwhile; the last snapshot is unchanged',
    );
    expect(readStateFile(guest.directory).id).toBe(id);
  });

  needsKvm('its reset ends a live copy, and the snapshot before stays', async () => {
    await using guest = await SavedGuest.start(resettingGuest(), 'ready');
    const { id } = await guest.vm.snapshot(guest.directory);

    const { snapshot } = await guest.save(
      async () => {
        guest.vm.sendConsole(Buffer.from('x'));
        // The copy is under way for as long as this takes.
        Bun.sleepSync(50);
      },
      { live: true },
      'live',
    );

    expect(reasonOf(snapshot)).toBe(
      'Cannot save the guest: it has reset itself meanwhile; the last snapshot is unchanged',
    );
    expect(readStateFile(guest.directory).id).toBe(id);
    expect((await guest.vm.ended).kind).toBe('reset');
  });

  needsKvm('a byte for its serial port is in the snapshot or comes when it goes on', async () => {
    await using guest = await SavedGuest.start(resettingGuest(), 'ready');

    const { snapshot } = await guest.save(() => guest.vm.sendConsole(Buffer.from('x')));

    expect(reasonOf(snapshot)).toBe('fulfilled');
    expect((await guest.vm.ended).kind).toBe('reset');
  });
});

needsKvm('a vCPU that was saved between its ejection and its parking can be plugged again', async () => {
  await using guest = await SavedGuest.start(pluggingGuest(), 'b', hotpluggable);
  await guest.vm.setCpuCount(2);
  await waitUntil('the plugged vCPU says so', () => guest.machine.output === 'ba');
  await guest.vm.setCpuCount(1);
  using saved = await saveMachine(guest.vm);
  const cpuHotplug = [...saved.state.chips.cpuHotplug];
  // The flags come first.
  cpuHotplug[cpuHotplugWords(1)] = CPU_HOTPLUG_STATUS.eject;
  const file = encodeState({ ...saved.state, chips: { ...saved.state.chips, cpuHotplug } });

  const after = new CollectedMachine(restoreMachine({ ...saved, file }, guest.vm.machine.resources));
  await waitUntil('it is parked', () => !isCpuEjected(after.vm.shared.cpuHotplug, 1));
  const change = await after.vm.setCpuCount(2);
  await waitUntil('it says so', () => after.output === 'a');
  await after.end();

  expect(change).toMatchObject({ present: 2, added: [1], unanswered: [] });
});
