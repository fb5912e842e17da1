/** A running VM as the control socket and embedding programs steer it. */
import { statSync } from 'node:fs';
import { getThreadAffinity } from '../ffi/affinity.ts';
import { REGS, SREGS } from '../kvm/abi.ts';
import { readMpState, readRegs, readSregs } from '../kvm/vcpu.ts';
import { mpStateName } from '../smp/vcpu-state.ts';
import { exitName } from '../vmm/exit-report.ts';
import { EXIT_COUNTERS, VCPU_WORD } from '../vmm/shared-state.ts';
import {
  lastMpState,
  lifecycleOf,
  pauseVcpus,
  phaseOf,
  pinVcpu,
  resumeVcpus,
  sampleVcpus,
  type LiveVcpu,
} from '../vmm/vcpu-control.ts';
import type { VirtualMachine } from '../vmm/virtual-machine.ts';
import { VoltError } from '../volt-error.ts';
import type {
  ControlTarget,
  IpiRequest,
  RegisterSet,
  VcpuStatus,
  VmEvent,
  VmStatus,
} from './control/target.ts';

const SPECIAL = ['cr0', 'cr2', 'cr3', 'cr4', 'cr8', 'efer', 'apicBase'] as const;

export class VmControl implements ControlTarget {
  readonly #vm: VirtualMachine;
  readonly #startedAt = performance.now();
  readonly #listeners = new Set<(event: VmEvent) => void>();
  #ended = false;

  /** Make it when the VM starts: `uptimeMs` counts from here. */
  constructor(vm: VirtualMachine) {
    this.#vm = vm;
    void vm.ended.then((end) => {
      this.#ended = true;
      this.#tell({
        kind: 'ended',
        reason: end.lines[0] ?? end.kind,
        exitCode: end.exitCode,
        atMs: this.#now(),
      });
    });
  }

  status(): VmStatus {
    const { config, vcpus } = this.#vm;
    const phases = vcpus.map(({ words }) => phaseOf(words));
    const paused =
      phases.some((phase) => phase === 'paused') &&
      phases.every((phase) => phase === 'paused' || phase === 'stopped');
    return {
      state: this.#ended ? 'stopped' : paused ? 'paused' : 'running',
      pid: process.pid,
      uptimeMs: this.#now(),
      vcpus: vcpus.length,
      memoryBytes: config.memoryBytes,
      kernel: config.kernelPath ?? 'embedded',
    };
  }

  vcpus(): readonly VcpuStatus[] {
    return this.#vm.vcpus.map((vcpu) => this.#vcpuStatus(vcpu));
  }

  /** Out of KVM_RUN for the moment it takes, unless it is paused anyway. */
  async registers(index: number): Promise<RegisterSet> {
    const vcpu = this.#vcpu(index);
    return this.#vm.turns.take(async () => {
      const wasRunning = phaseOf(vcpu.words) !== 'paused';
      if (wasRunning) await pauseVcpus([vcpu]);
      try {
        return readRegisterSet(vcpu.kvm.fd);
      } finally {
        if (wasRunning) await resumeVcpus([vcpu]);
      }
    });
  }

  async pause(indices?: readonly number[]): Promise<void> {
    const vcpus = this.#select(indices);
    await this.#vm.turns.take(() => pauseVcpus(vcpus));
    this.#tell({ kind: 'paused', vcpus: vcpus.map(({ index }) => index), atMs: this.#now() });
  }

  async resume(indices?: readonly number[]): Promise<void> {
    const vcpus = this.#select(indices);
    await this.#vm.turns.take(() => resumeVcpus(vcpus));
    this.#tell({ kind: 'resumed', vcpus: vcpus.map(({ index }) => index), atMs: this.#now() });
  }

  stop(): Promise<unknown> {
    return this.#vm.stop();
  }

  /** Brings MP states and RIPs up to date, which `vcpus` then shows. */
  async sample(): Promise<void> {
    await sampleVcpus(this.#vm.vcpus);
  }

  sendIpi(request: IpiRequest): void {
    this.#mustRun();
    this.#vm.sendIpi(request);
    this.#tell({ kind: 'ipi', request, atMs: this.#now() });
  }

  /** INIT, then SIPI: starts an AP at vector × 0x1000, whatever it did before. */
  startAp(index: number, vector: number): void {
    const vcpu = this.#vcpu(index);
    if (vcpu.index === this.#vm.plan.bootCpu) {
      throw new VoltError('usage', `Cannot start vCPU ${index}: it is the BSP (expected an AP)`);
    }
    this.sendIpi({ destination: index, mode: 'init' });
    this.sendIpi({ destination: index, mode: 'sipi', vector });
  }

  setAffinity(index: number, cpus: readonly number[]): void {
    pinVcpu(this.#vcpu(index), cpus);
    this.#tell({ kind: 'affinity', vcpu: index, cpus, atMs: this.#now() });
  }

  onEvent(listener: (event: VmEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  #vcpuStatus({ index, words }: LiveVcpu): VcpuStatus {
    const { plan } = this.#vm;
    const threadId = Atomics.load(words, VCPU_WORD.threadId);
    const exits: Record<string, number> = {};
    for (let reason = 0; reason < EXIT_COUNTERS; reason++) {
      const count = words[VCPU_WORD.exits + reason]!;
      if (count > 0) exits[exitName(reason)] = count;
    }
    const out = phaseOf(words) === 'paused' || phaseOf(words) === 'stopped';
    return {
      index,
      apicId: plan.cpus[index]!.apicId,
      bsp: index === plan.bootCpu,
      state: lifecycleOf(words),
      mpState: out ? lastMpState(words) : undefined,
      threadId,
      affinity: threadId !== 0 && isAlive(threadId) ? getThreadAffinity(threadId) : [],
      exits,
    };
  }

  #select(indices: readonly number[] | undefined): readonly LiveVcpu[] {
    this.#mustRun();
    return indices === undefined ? this.#vm.vcpus : [...new Set(indices)].map((index) => this.#vcpu(index));
  }

  #vcpu(index: number): LiveVcpu {
    this.#mustRun();
    const vcpu = Number.isInteger(index) ? this.#vm.vcpus[index] : undefined;
    if (vcpu) return vcpu;
    throw new VoltError('usage', `Cannot find vCPU ${index} (expected 0 to ${this.#vm.vcpus.length - 1})`);
  }

  #mustRun(): void {
    if (this.#ended)
      throw new VoltError('usage', 'Cannot do that: the guest has ended (expected one that runs)');
  }

  #now(): number {
    return performance.now() - this.#startedAt;
  }

  #tell(event: VmEvent): void {
    for (const listener of this.#listeners) listener(event);
  }
}

function readRegisterSet(vcpuFd: number): RegisterSet {
  const regs = readRegs(vcpuFd);
  const sregs = readSregs(vcpuFd);
  const hex = (view: DataView, offset: number) => `0x${view.getBigUint64(offset, true).toString(16)}`;
  const general: Record<string, string> = {};
  for (const [name, offset] of Object.entries(REGS)) if (name !== 'size') general[name] = hex(regs, offset);
  const special: Record<string, string> = {};
  for (const name of SPECIAL) special[name] = hex(sregs, SREGS[name]);
  return { general, special, mpState: mpStateName(readMpState(vcpuFd)) };
}

function isAlive(threadId: number): boolean {
  return statSync(`/proc/self/task/${threadId}`, { throwIfNoEntry: false }) !== undefined;
}
