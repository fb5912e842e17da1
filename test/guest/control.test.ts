/** Steering real vCPUs through the library. All of it needs /dev/kvm. */
import { describe, expect, setDefaultTimeout } from 'bun:test';
import { readFileSync } from 'node:fs';
import { parseConfig, VirtualMachine } from '../../src/api/index.ts';
import { VmControl } from '../../src/api/vm-control.ts';
import {
  readMpState,
  readSipiVector,
  readRegs,
  readSregs,
  writeMpState,
  writeSipiVector,
} from '../../src/kvm/vcpu.ts';
import { onlineCpus } from '../../src/ffi/affinity.ts';
import { VCPU_WORD } from '../../src/vmm/bus/shared-state.ts';
import { getU64 } from '../../src/binary/bytes.ts';
import { KVM_MP_STATE, REGS, SEGMENT, SREGS } from '../../src/kvm/abi.ts';
import { kvmOpens } from '../cli/volt-process.ts';
import { testNeeding } from '../support/needs.ts';
import { waitUntil } from './guest-run.ts';
import { busyMachine, copyTo8000, Running, tinyMachine } from './running.ts';
import { asm, program } from './tiny-guest.ts';

/** For hangs only. */
setDefaultTimeout(120_000);

const needsKvm = testNeeding('/dev/kvm', !kvmOpens);

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

describe('setting the MP state', () => {
  const stateOf = async (running: Running, index: number) => (await running.control.registers(index)).mpState;

  needsKvm('every state of x86 can be set, by its name, on a vCPU that is out of the guest', async () => {
    const code = program(asm.print('up'), asm.halt());
    await using running = await tinyMachine(code, 2);
    await waitUntil('output', () => running.output === 'up');
    await running.control.pause();

    const read: string[] = [];
    for (const state of ['runnable', 'uninitialized', 'init-received', 'halted'] as const) {
      await running.control.setMpState(1, state);
      read.push(await stateOf(running, 1));
    }

    expect(read).toEqual(['runnable', 'uninitialized', 'init-received', 'halted']);
    expect(running.control.vcpus()[1]).toMatchObject({ state: 'paused', mpState: 'halted' });
    expect(running.events.filter(({ kind }) => kind === 'mp-state')).toHaveLength(4);
  });

  needsKvm('sipi-received with a vector starts an AP at vector x 0x1000', async () => {
    const code = program(copyTo8000(AP_PRINTS_AND_ENDS), asm.print('ready'), asm.halt());
    await using running = await tinyMachine(code, 2);
    await waitUntil('the BSP', () => running.output === 'ready');
    await running.control.pause([1]);

    await running.control.setMpState(1, 'sipi-received', 8);
    await running.control.resume([1]);

    expect(await running.vm.ended).toMatchObject({ kind: 'guest-exit', exitCode: 0, vcpu: 1 });
    await waitUntil("the AP's byte", () => running.output === 'readyA');
  });

  needsKvm(
    'KVM follows a SIPI as soon as it is asked for the state, and keeps its vector to itself',
    async () => {
      await using running = await tinyMachine(program(asm.print('up'), asm.halt()), 2);
      await waitUntil('output', () => running.output === 'up');
      await running.control.pause();
      const { fd } = running.vm.vcpus[1]!.kvm;

      writeSipiVector(fd, 8);
      writeMpState(fd, KVM_MP_STATE.sipiReceived);
      const vector = readSipiVector(fd);
      const state = readMpState(fd);

      // Linux: "never valid when reporting to user space". An older KVM would say 8 and sipi-received.
      expect(vector).toBe(0);
      expect(state).toBe(KVM_MP_STATE.runnable);
      expect(getU64(readSregs(fd), SREGS.cs + SEGMENT.base)).toBe(0x8000);
      expect(getU64(readRegs(fd), REGS.rip)).toBe(0);
    },
  );

  needsKvm('is refused for a running vCPU, and for a vector that does not fit', async () => {
    await using running = await busyMachine(2);

    const refusals = await Promise.all([
      running.control.setMpState(1, 'halted').catch(String),
      running.control.setMpState(1, 'sipi-received').catch(String),
      running.control.setMpState(1, 'halted', 8).catch(String),
    ]);

    expect(refusals).toEqual([
      'VoltError: Cannot set the MP state of vCPU 1: it is running (expected paused)',
      'VoltError: Cannot set the MP state of vCPU 1 to sipi-received: vector is missing (expected a vector from 0 to 255)',
      'VoltError: Cannot set the MP state of vCPU 1 to halted: vector is 8 (expected no vector)',
    ]);
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
      [...running.output.matchAll(/heartbeat (\d+): \d CPUs busy/g)].map((match) => Number(match[1]));
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

  needsKvm('INIT and SIPI restart a running AP of the embedded kernel, in its trampoline', async () => {
    await using running = await busyMachine(2);

    running.control.startAp(1, 8);
    const place = async () => {
      await running.control.sample();
      return running.control.vcpus()[1]!;
    };
    let ap = await place();
    await waitUntil('the AP to park', () => {
      void place().then((now) => (ap = now));
      return ap.state === 'halted';
    });

    // It finds its block taken, by itself when it was started first, and parks without touching it.
    const rip = Number(ap.rip);
    expect(rip).toBeGreaterThan(0x8000);
    expect(rip).toBeLessThan(0x9000);
    expect((await running.control.registers(1)).special['efer']).toBe('0x500');
    expect(running.control.vcpus()[0]!.state).toBe('running');
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
      'Cannot send fixed to vCPU 1: its local APIC does not accept it',
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

    const missing = running.control.setAffinity(0, [4095]);
    await expect(missing).rejects.toThrow('there is no host CPU 4095');
    await running.control.setAffinity(0, [0]);

    expect(running.events.at(-1)).toMatchObject({ kind: 'affinity', vcpu: 0, cpus: [0] });
  });
});

describe('scheduling', () => {
  needsKvm('of a paused vCPU changes while it stays paused, whoever asks how often', async () => {
    await using running = await busyMachine(2);
    await running.control.pause();

    const last = onlineCpus().at(-1)!;
    await Promise.all([0, last, 0, last].map((cpu, i) => running.control.setAffinity(i % 2, [cpu])));
    await running.control.setNice(1, 19);
    const vcpus = running.control.vcpus();

    expect(vcpus.map(({ affinity, state }) => [affinity, state])).toEqual([
      [[0], 'paused'],
      [[last], 'paused'],
    ]);
  });

  needsKvm('of a vCPU that has ended is an error', async () => {
    await using running = await busyMachine(2);
    await running.vm.stop();

    await expect(running.control.setNice(1, 3)).rejects.toThrow('the guest has ended');
  });
});

describe('priority', () => {
  /** Field 19 of /proc/PID/stat. (proc(5)) */
  const niceOf = (threadId: number) =>
    Number(
      readFileSync(`/proc/self/task/${threadId}/stat`, 'latin1')
        .replace(/^.*\) /, '')
        .split(' ')[19 - 3],
    );

  needsKvm('is the nice value of the thread of one vCPU, and shows there', async () => {
    await using running = await busyMachine(2);
    const [bsp, ap] = running.control.vcpus();

    await running.control.setNice(1, 19);

    expect([niceOf(bsp!.threadId), niceOf(ap!.threadId)]).toEqual([niceOf(process.pid), 19]);
    expect(running.events.at(-1)).toMatchObject({ kind: 'nice', vcpu: 1, nice: 19 });
    const tooLow = running.control.setNice(1, 20);
    await expect(tooLow).rejects.toThrow('20 (expected a whole number from -20 to 19)');
  });
});
