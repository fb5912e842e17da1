/**
 * One virtual machine: the only place where files, KVM, guest memory and workers meet.
 *
 * `new` builds everything up to the point where vCPUs could run; `start` lets them run; `ended` settles when the
 * first of them ends the machine, with all others stopped; dispose gives everything back.
 */
import { CAP, RUN } from '../kvm/abi.ts';
import { KvmSystem } from '../kvm/system.ts';
import { readTscKhz, type KvmVcpu } from '../kvm/vcpu.ts';
import type { KvmVm } from '../kvm/vm.ts';
import { resetI8042 } from '../devices/i8042.ts';
import { resetUart, uartReceive } from '../devices/uart.ts';
import { installKickHandler, kickThread } from '../ffi/signal.ts';
import { GuestMemory } from '../memory/guest-memory.ts';
import { VoltError } from '../volt-error.ts';
import { applyCommonState, applyEntry, applyLoad, applyWrites } from './apply.ts';
import { createBoard, type Board } from './board.ts';
import type { VmConfig } from './config.ts';
import { openImage, openKernel, type ImageFile } from './image-file.ts';
import { planCpuid, planImage, planMachine, type MachinePlan } from './plan.ts';
import {
  createSharedState,
  lockBus,
  ringDoorbell,
  unlockBus,
  VCPU_COMMAND,
  VCPU_WORD,
  VM_WORD,
  type SharedState,
} from './shared-state.ts';
import { Timeline } from './timeline.ts';
import type { VcpuStart } from './vcpu-worker.ts';
import type { VcpuMessage } from './vcpu-report.ts';
import { readVcpuState } from './register-dump.ts';
import { describeEnd, type VmEnd } from './vm-end.ts';

export interface VmOptions {
  /** Note when APs start; costs each AP some polling when it wakes up. */
  readonly timeline?: boolean;
}

interface Vcpu {
  readonly kvm: KvmVcpu;
  readonly worker: Worker;
  readonly words: Int32Array;
  readonly runFlags: Uint8Array;
  ended: boolean;
}

export class VirtualMachine implements Disposable {
  readonly plan: MachinePlan;
  readonly shared: SharedState;
  readonly timeline = new Timeline();
  /** Settles once no vCPU runs any more. Never rejects. */
  readonly ended: Promise<VmEnd>;

  readonly #stack = new DisposableStack();
  readonly #workers: Worker[] = [];
  readonly #vcpus: Vcpu[] = [];
  readonly #board: Board;
  readonly #vm: KvmVm;
  readonly #recordTimeline: boolean;
  #cause: VcpuMessage | undefined;
  #resolveEnded!: (end: VmEnd) => void;
  #started = false;

  /** Throws VoltError for a bad image and SyscallError for what the host refuses; nothing is left behind then. */
  constructor(config: VmConfig, options: VmOptions = {}) {
    this.#recordTimeline = options.timeline ?? false;
    this.ended = new Promise((resolve) => (this.#resolveEnded = resolve));
    // Workers take the longest to come up, so they start first, beside everything below.
    const workers = Array.from({ length: config.cpus }, () => this.#spawnWorker());
    try {
      const kernel = this.#stack.use(openKernel(config.kernelPath));
      const initrd = config.initrdPath
        ? this.#stack.use(openImage(config.initrdPath, '--initrd'))
        : undefined;
      const image = planImage(config, kernel, initrd);
      this.timeline.mark('kernel recognised');

      const system = this.#stack.use(new KvmSystem());
      if (config.cpus > system.maxVcpus) {
        throw new VoltError(
          'host',
          `Cannot create ${config.cpus} vCPUs: this host's KVM allows ${system.maxVcpus} (expected fewer --cpus)`,
        );
      }
      this.#vm = this.#stack.use(system.createVm());
      this.#vm.createInterruptControllers();
      this.timeline.mark('VM made');

      const tscDeadline = system.check(CAP.tscDeadlineTimer) > 0;
      this.plan = planMachine(config, image, { tscDeadline });
      const memory = this.#stack.use(new GuestMemory(this.plan.ranges, { hugepages: config.hugepages }));
      this.#loadMemory(memory, kernel, initrd);
      this.timeline.mark('kernel loaded');

      const kvmVcpus = this.plan.cpus.map((cpu) => this.#stack.use(this.#vm.createVcpu(cpu.apicId)));
      const tscKhz = readTscKhz(kvmVcpus[0]!.fd);
      const host = { cpuid: system.supportedCpuid(), tscDeadline, tscKhz };
      this.shared = createSharedState(config.cpus);
      kvmVcpus.forEach((kvm, i) => {
        kvm.setCpuid(planCpuid(this.plan, this.plan.cpus[i]!, host));
        applyCommonState(kvm);
        const runFlags = new Uint8Array(kvm.runPage.view(0, RUN.exitReason));
        this.#vcpus.push({
          kvm,
          worker: workers[i]!,
          words: this.shared.vcpuWords(i),
          runFlags,
          ended: false,
        });
      });
      applyEntry(kvmVcpus[0]!, this.plan.boot.entry);
      resetUart(this.shared.uart);
      resetI8042(this.shared.i8042);
      this.#board = createBoard(this.shared, this.#vm.fd, this.plan.ranges[0]!.bytes);
      this.timeline.mark('vCPUs made');
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  /** Lets the vCPUs run: the APs first, the BSP when all of them are about to wait for their SIPI. */
  start(): void {
    if (this.#started)
      throw new VoltError('usage', 'Cannot start the VM: it was started before (expected once)');
    this.#started = true;
    installKickHandler();
    this.#vcpus.forEach(({ kvm, worker }, index) => {
      worker.onmessage = ({ data }: MessageEvent<VcpuMessage>) => this.#onReport(data);
      worker.onerror = (event) => {
        event.preventDefault();
        this.#onReport({ index, report: { kind: 'failed', message: event.message } });
      };
      const start: VcpuStart = {
        buffer: this.shared.buffer,
        vcpuCount: this.shared.vcpuCount,
        index,
        vcpuFd: kvm.fd,
        vmFd: this.#vm.fd,
        runAddress: kvm.runPage.address,
        runBytes: kvm.runPage.bytes,
        lowMemoryBytes: this.#board.lowMemoryBytes,
        timeline: this.#recordTimeline,
      };
      worker.postMessage(start);
    });
    this.timeline.mark('vCPUs told to start');
  }

  /** Ends the guest without asking it. `ended` settles when all vCPUs are out of KVM_RUN. */
  stop(): Promise<VmEnd> {
    this.#stopVcpus();
    return this.ended;
  }

  /** Gives bytes to the guest's serial port; returns how many it had room for. */
  sendConsole(bytes: Uint8Array): number {
    lockBus(this.shared.words);
    try {
      return uartReceive(this.#board.uart, bytes);
    } finally {
      unlockBus(this.shared.words);
    }
  }

  [Symbol.dispose](): void {
    for (const worker of this.#workers) worker.terminate();
    this.#stack.dispose();
  }

  #spawnWorker(): Worker {
    const worker = new Worker(new URL('./vcpu-worker.ts', import.meta.url).href, { smol: true });
    this.#workers.push(worker);
    return worker;
  }

  #loadMemory(memory: GuestMemory, kernel: ImageFile, initrd: ImageFile | undefined): void {
    const files = { kernel, initrd };
    for (const load of this.plan.loads) applyLoad(memory, load, files[load.file]!);
    applyWrites(memory, this.plan.writes);
    memory.regions.forEach(({ address, bytes, host }, slot) =>
      this.#vm.setMemorySlot(slot, address, bytes, host),
    );
  }

  #onReport({ index, report }: VcpuMessage): void {
    const vcpu = this.#vcpus[index];
    if (!vcpu || vcpu.ended) return;
    vcpu.ended = true;
    // The first report tells why the VM ended; what follows is how the others were stopped because of it.
    if (!this.#cause || (this.#cause.report.kind === 'stopped' && report.kind !== 'stopped')) {
      this.#cause = { index, report };
    }
    this.#stopVcpus();
    if (this.#vcpus.every((each) => each.ended)) {
      const states = this.#vcpus.map(({ kvm }) => readVcpuState(kvm.fd));
      this.#resolveEnded(describeEnd(this.#cause.index, this.#cause.report, states));
    }
  }

  #stopVcpus(): void {
    Atomics.store(this.shared.words, VM_WORD.ending, 1);
    for (const { words, runFlags, ended } of this.#vcpus) {
      if (ended || Atomics.exchange(words, VCPU_WORD.command, VCPU_COMMAND.stop) === VCPU_COMMAND.stop)
        continue;
      runFlags[RUN.immediateExit] = 1;
      const threadId = Atomics.load(words, VCPU_WORD.threadId);
      if (threadId !== 0) kickThread(threadId);
    }
    Atomics.notify(this.shared.words, VM_WORD.transmitTail);
    ringDoorbell(this.shared.words);
  }
}
