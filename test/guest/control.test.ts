/** Steering real vCPUs through the library. All of it needs /dev/kvm. */
import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { existsSync } from 'node:fs';
import { parseConfig, VirtualMachine } from '../../src/api/index.ts';
import type { VmEvent } from '../../src/api/control/target.ts';
import { VmControl } from '../../src/api/vm-control.ts';
import { ConsolePump } from '../../src/vmm/console-pump.ts';
import { VCPU_WORD } from '../../src/vmm/shared-state.ts';
import { TemporaryFolder } from '../cli/volt-process.ts';
import { smallConfig, waitUntil } from './guest-run.ts';
import { asm, buildPvhElf, program, u32 } from './tiny-guest.ts';

/** For hangs only. */
setDefaultTimeout(120_000);

const needsKvm = test.skipIf(!existsSync('/dev/kvm'));

/** A machine under way, its console and its control; stopped and given back at the end of the test. */
class Running implements AsyncDisposable {
  readonly vm: VirtualMachine;
  readonly control: VmControl;
  readonly events: VmEvent[] = [];
  readonly #pump: ConsolePump;
  #output = '';

  constructor(vm: VirtualMachine) {
    this.vm = vm;
    this.#pump = new ConsolePump(
      vm.shared,
      (bytes) => this.#take(bytes),
      () => {},
    );
    void this.#pump.run();
    this.control = new VmControl(vm);
    this.control.onEvent((event) => this.events.push(event));
    vm.start();
  }

  get output(): string {
    return this.#output;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.vm.stop();
    await this.#pump.finish();
    this.vm[Symbol.dispose]();
  }

  #take(bytes: Uint8Array): number {
    this.#output += Buffer.from(bytes).toString('latin1');
    return bytes.length;
  }
}

/** The embedded kernel with every CPU busy for ever, once it says so. */
async function busyMachine(cpus: number): Promise<Running> {
  const input = {
    'boot-source': { boot_args: 'loop' },
    'machine-config': { vcpu_count: cpus, mem_size_mib: 64 },
  };
  const running = new Running(new VirtualMachine(parseConfig(input).config));
  await waitUntil('the first heartbeat', () => running.output.includes('heartbeat 1:'));
  return running;
}

async function tinyMachine(code: Uint8Array, cpus: number): Promise<Running> {
  using folder = new TemporaryFolder();
  const path = await folder.write('kernel', buildPvhElf(code));
  return new Running(new VirtualMachine(smallConfig(path, cpus)));
}

/** Copies real-mode code to 0x8000, four bytes at a time, where a SIPI with vector 8 finds it. */
function copyTo8000(code: readonly number[]): number[] {
  const padded = [...code, ...Array<number>((4 - (code.length % 4)) % 4).fill(0x90)];
  return Array.from({ length: padded.length / 4 }, (_, i) => {
    const word = padded.slice(4 * i, 4 * i + 4);
    return [0xc7, 0x05, ...u32(0x8000 + 4 * i), ...word];
  }).flat();
}

/** 16-bit: out 0x3F8, 'A'; then 0 to the exit port. */
const AP_PRINTS_AND_ENDS = [
  0xba, 0xf8, 0x03, 0xb0, 0x41, 0xee, 0xba, 0xf4, 0x00, 0x66, 0x31, 0xc0, 0x66, 0xef,
];

describe('MP state', () => {
  needsKvm('before the start a BSP is runnable and APs are uninitialized, says KVM', () => {
    using vm = new VirtualMachine(
      parseConfig({ 'machine-config': { vcpu_count: 3, mem_size_mib: 64 } }).config,
    );

    const states = new VmControl(vm).vcpus().map(({ state }) => state);

    expect(states).toEqual(['created', 'created', 'created']);
  });

  needsKvm('of an AP that nobody starts is "waiting for SIPI", and it shows when paused', async () => {
    await using running = await tinyMachine(program(asm.print('up'), asm.halt()), 2);
    await waitUntil('output', () => running.output === 'up');

    await running.control.pause();

    const [bsp, ap] = running.control.vcpus();
    expect(bsp).toMatchObject({ bsp: true, state: 'paused', mpState: 'halted' });
    expect(ap).toMatchObject({ bsp: false, state: 'paused', mpState: 'uninitialized' });
  });

  needsKvm('--boot-cpu makes another vCPU the BSP', async () => {
    const input = { 'machine-config': { vcpu_count: 3, mem_size_mib: 64 }, volt: { boot_cpu: 2 } };
    const config = { ...parseConfig(input).config, cmdline: 'json quick' };
    await using running = new Running(new VirtualMachine(config));

    const end = await running.vm.ended;
    await waitUntil('the whole report', () => /\}\s*\n$/.test(running.output));

    expect(end.exitCode).toBe(0);
    expect(JSON.parse(running.output)).toMatchObject({ verdict: 'pass', cpus: { apicIds: [2, 0, 1] } });
  });
});

describe('pause and resume', () => {
  needsKvm('hundreds of rounds on a busy 4-CPU guest lose no heartbeat', async () => {
    await using running = await busyMachine(4);

    for (let round = 0; round < 300; round++) {
      await running.control.pause();
      await running.control.resume();
    }
    const beats = () =>
      [...running.output.matchAll(/heartbeat (\d+): 4 CPUs busy/g)].map((match) => Number(match[1]));
    const before = beats().length;
    await waitUntil('two more heartbeats', () => beats().length >= before + 2);

    expect(beats()).toEqual(Array.from({ length: beats().length }, (_, i) => i + 1));
    expect(running.control.vcpus().map(({ state }) => state)).toEqual(Array(4).fill('running'));
  });

  needsKvm('a paused guest stands still, and its registers can be read', async () => {
    await using running = await busyMachine(2);
    await running.control.pause();

    const first = await running.control.registers(1);
    const second = await running.control.registers(1);

    expect(second).toEqual(first);
    expect(first.general['rip']).toMatch(/^0x[1-9a-f]/);
    expect(running.control.status().state).toBe('paused');
  });

  needsKvm('one vCPU alone can be paused; the registers of the other are read in passing', async () => {
    await using running = await busyMachine(2);
    await running.control.pause([1]);

    await running.control.registers(0);

    expect(running.control.vcpus().map(({ state }) => state)).toEqual(['running', 'paused']);
    expect(running.control.status().state).toBe('running');
    expect(running.events.map(({ kind }) => kind)).toEqual(['paused']);
  });

  needsKvm('whoever reads registers meanwhile undoes no pause', async () => {
    await using running = await busyMachine(2);

    for (let round = 0; round < 20; round++) {
      const other = new VmControl(running.vm);
      const reading = [running.control.registers(1), other.registers(1), running.control.registers(0)];
      await Promise.all([
        ...reading,
        running.control.pause(),
        other.registers(1),
        running.control.registers(1),
      ]);

      expect(running.control.vcpus().map(({ state }) => state)).toEqual(['paused', 'paused']);
      await Promise.all([running.control.registers(1), running.control.resume()]);
      expect(running.control.vcpus().map(({ state }) => state)).toEqual(['running', 'running']);
    }
  });

  needsKvm('a paused guest can be stopped', async () => {
    await using running = await busyMachine(2);
    await running.control.pause();

    await running.control.stop();

    expect(running.control.status().state).toBe('stopped');
    expect(running.events.at(-1)).toMatchObject({ kind: 'ended', exitCode: 0 });
  });

  needsKvm('many may ask at once where running vCPUs are, and all get their answer', async () => {
    await using running = await busyMachine(2);

    await Promise.all(Array.from({ length: 50 }, () => running.control.sample()));

    const { words } = running.vm.vcpus[0]!;
    expect(words[VCPU_WORD.sampleDone]).toBe(words[VCPU_WORD.sampleWanted]);
  });

  needsKvm('sampling tells where running vCPUs are', async () => {
    await using running = await busyMachine(2);

    await running.control.sample();

    expect(running.control.vcpus().map(({ state }) => state)).toEqual(['running', 'running']);
  });
});

describe('interrupts from outside', () => {
  needsKvm('INIT and SIPI start an AP that the guest left waiting', async () => {
    const code = program(copyTo8000(AP_PRINTS_AND_ENDS), asm.print('ready'), asm.halt());
    await using running = await tinyMachine(code, 2);
    await waitUntil('the BSP', () => running.output === 'ready');

    running.control.startAp(1, 8);
    const end = await running.vm.ended;

    expect(end).toMatchObject({ kind: 'guest-exit', exitCode: 0, vcpu: 1 });
    await waitUntil("the AP's byte", () => running.output === 'readyA');
  });

  needsKvm('INIT takes a running AP back to waiting for a SIPI', async () => {
    await using running = await busyMachine(2);

    running.control.sendIpi({ destination: 1, mode: 'init' });

    await waitUntil('the AP to wait', () => {
      void running.control.sample();
      return running.control.vcpus()[1]!.state === 'waiting-for-sipi';
    });
  });

  needsKvm('an NMI reaches a halted vCPU: without an IDT that is a triple fault', async () => {
    await using running = await tinyMachine(program(asm.print('up'), asm.halt()), 1);
    await waitUntil('output', () => running.output === 'up');

    running.control.sendIpi({ destination: 0, mode: 'nmi' });

    expect((await running.vm.ended).kind).toBe('triple-fault');
  });

  needsKvm('a fixed interrupt for an APIC that the guest never enabled is an error', async () => {
    await using running = await tinyMachine(program(asm.print('up'), asm.halt()), 2);
    await waitUntil('output', () => running.output === 'up');

    expect(() => running.control.sendIpi({ destination: 1, mode: 'fixed', vector: 0x40 })).toThrow(
      'Cannot send fixed to vCPU 1: its APIC does not take it',
    );
    expect(() => running.control.sendIpi({ destination: 7, mode: 'nmi' })).toThrow(
      'expected a vCPU from 0 to 1',
    );
    expect(() => running.control.startAp(0, 8)).toThrow('it is the BSP');
  });
});

describe('affinity', () => {
  needsKvm('is set at the start and at run time, and shows', async () => {
    const input = { 'machine-config': { vcpu_count: 1, mem_size_mib: 64 }, volt: { cpu_affinity: '0=0' } };
    const config = { ...parseConfig(input).config, cmdline: 'loop' };
    await using running = new Running(new VirtualMachine(config));
    await waitUntil('the first heartbeat', () => running.output.includes('heartbeat 1:'));
    expect(running.control.vcpus()[0]!.affinity).toEqual([0]);

    expect(() => running.control.setAffinity(0, [4095])).toThrow('there is no host CPU 4095');
    running.control.setAffinity(0, [0]);

    expect(running.events.at(-1)).toMatchObject({ kind: 'affinity', vcpu: 0, cpus: [0] });
  });
});
