/**
 * One virtual machine: the only place where files, KVM, guest memory and workers meet.
 *
 * `new` builds everything up to the point where vCPUs could run; `start` lets them run; `ended` settles when the
 * first of them ends the machine, with all others stopped; dispose gives everything back.
 */
import { resetCpuHotplug } from '../devices/cpu-hotplug.ts';
import { resetI8042 } from '../devices/i8042.ts';
import { resetUart, uartReceive } from '../devices/uart.ts';
import { raiseOpenFilesLimit } from '../ffi/limits.ts';
import { installKickHandler } from '../ffi/signal.ts';
import { CAP, KVM_MP_STATE, RUN } from '../kvm/abi.ts';
import { KvmSystem } from '../kvm/system.ts';
import { readMpState, readTscKhz, type KvmVcpu } from '../kvm/vcpu.ts';
import { IrqLine, type KvmVm } from '../kvm/vm.ts';
import { GSI } from '../machine/irqs.ts';
import { ACPI_EVENT } from '../machine/ports.ts';
import { GuestMemory } from '../memory/guest-memory.ts';
import type { IpiRequest } from '../smp/ipi.ts';
import { mpStateName } from '../smp/vcpu-state.ts';
import { VoltError } from '../volt-error.ts';
import { applyCommonState, applyEntry, applyLoad, applyWrites } from './apply.ts';
import { createBoard, type Board } from './board.ts';
import type { VmConfig } from './config.ts';
import { parkEjected, setCpuCount, type CpuChange, type HotplugMachine } from './cpu-hotplug.ts';
import { deliverIpi } from './deliver-ipi.ts';
import { checkSymbolsPath, GuestSymbols } from './guest-symbols.ts';
import { openImage, openKernel, type ImageFile } from './image-file.ts';
import { bindNodes } from './node-memory.ts';
import { planCpuid, planImage, planMachine, type HostFacts, type MachinePlan } from './plan.ts';
import { readVcpuState } from './register-dump.ts';
import {
  createSharedState,
  lockBus,
  ringDoorbell,
  unlockBus,
  VCPU_COMMAND,
  VCPU_PHASE,
  VCPU_WORD,
  VM_WORD,
  type SharedState,
} from './shared-state.ts';
import { Timeline } from './timeline.ts';
import { Turns } from './turns.ts';
import {
  checkHostCpus,
  kick,
  parkVcpu,
  unparkVcpu,
  waitUntilRunning,
  type LiveVcpu,
} from './vcpu-control.ts';
import type { VcpuMessage } from './vcpu-report.ts';
import type { VcpuStart } from './vcpu-worker.ts';
import { describeEnd, type VmEnd } from './vm-end.ts';
import type { VirtioReport } from './virtio-link.ts';
import { VirtioMachine, type MachineDevice } from './virtio-machine.ts';
import { vcpuWorkerUrl } from './worker-url.ts';

/** What a VM may be told beside its configuration. */
export interface VmOptions {
  /** Note when APs start; costs each AP some polling when it wakes up. */
  readonly timeline?: boolean;
  /** Hears what does not stop the guest, a line each, such as symbols that cannot be read. */
  readonly warn?: (line: string) => void;
}

interface Vcpu extends LiveVcpu {
  readonly worker: Worker;
  /** Its local APIC's registers as reset leaves them. */
  readonly lapic: Uint8Array;
  ended: boolean;
}

/** Above it an id needs x2APIC; 255 is the broadcast. */
const HIGHEST_XAPIC_ID = 254;

/** How long dispose waits for vCPU threads that do not leave the guest. */
const DISPOSE_TIMEOUT_MS = 5000;

/** A virtual machine: `new` builds it, `start` lets it run, `ended` tells how it ended, dispose gives everything back. */
export class VirtualMachine implements Disposable {
  readonly config: VmConfig;
  readonly plan: MachinePlan;
  readonly shared: SharedState;
  readonly timeline = new Timeline();
  /** Names of the guest's code addresses; nothing is read until somebody asks for one. */
  readonly symbols: GuestSymbols;
  /** For whatever takes vCPUs out of the guest or lets them in again, so that no caller undoes another's pause. */
  readonly turns = new Turns();
  /** Settles once no vCPU runs any more. Never rejects. */
  readonly ended: Promise<VmEnd>;

  readonly #stack = new DisposableStack();
  readonly #workers: Worker[] = [];
  readonly #vcpus: Vcpu[] = [];
  readonly #board: Board;
  readonly #vm: KvmVm;
  /** undefined: a machine without virtio devices. */
  readonly #virtio: VirtioMachine | undefined;
  readonly #host: HostFacts;
  readonly #recordTimeline: boolean;
  readonly #acpiEvent: IrqLine;
  #hotplug: Promise<unknown> = Promise.resolve();
  #cause: VcpuMessage | undefined;
  #resolveEnded!: (end: VmEnd) => void;
  #started = false;
  #closed = false;

  /** Throws VoltError for a bad image and SyscallError for what the host refuses; nothing is left behind then. */
  constructor(config: VmConfig, options: VmOptions = {}) {
    this.config = config;
    // Before any thread is made: a host CPU that is not there would stop the guest halfway.
    for (const [index, cpus] of config.affinity) checkHostCpus(index, cpus);
    checkOpenFilesLimit(config.maxCpus, config.devices.length);
    if (config.symbolsPath !== undefined) checkSymbolsPath(config.symbolsPath);
    const { warn = () => {} } = options;
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
      if (config.maxCpus > system.maxVcpus) {
        throw new VoltError(
          'host',
          `Cannot create ${config.maxCpus} vCPUs: this host's KVM allows ${system.maxVcpus} (expected fewer --cpus)`,
        );
      }
      this.#vm = this.#stack.use(system.createVm());
      this.#vm.createInterruptControllers();
      const tscDeadline = system.check(CAP.tscDeadlineTimer) > 0;
      this.plan = planMachine(config, image, { tscDeadline });
      const { cpus, bootCpu } = this.plan;
      if (cpus.at(-1)!.apicId > HIGHEST_XAPIC_ID) this.#vm.useX2apicIds();
      if (bootCpu !== 0) this.#vm.setBootCpu(cpus[bootCpu]!.apicId);
      this.timeline.mark('VM made');

      this.symbols = new GuestSymbols(config, this.plan.boot.protocol, warn);
      const memory = this.#stack.use(new GuestMemory(this.plan.ranges, { hugepages: config.hugepages }));
      for (const warning of bindNodes(memory, this.plan.nodeMemory, config.numa)) warn(warning);
      this.#loadMemory(memory, kernel, initrd);
      this.timeline.mark('kernel loaded');

      if (config.devices.length > 0)
        this.#virtio = this.#stack.use(new VirtioMachine(config.devices, this.#vm, memory));

      const present = cpus.slice(0, config.cpus);
      const kvmVcpus = present.map((cpu) => this.#stack.use(this.#vm.createVcpu(cpu.apicId)));
      const tscKhz = readTscKhz(kvmVcpus[0]!.fd);
      this.#host = { cpuid: system.supportedCpuid(), tscDeadline, tscKhz };
      this.shared = createSharedState(config.maxCpus);
      kvmVcpus.forEach((kvm, i) => this.#vcpus.push(this.#prepareVcpu(i, kvm, workers[i]!)));
      applyEntry(kvmVcpus[bootCpu]!, this.plan.boot.entry);
      resetUart(this.shared.uart);
      resetI8042(this.shared.i8042);
      resetCpuHotplug(this.shared.cpuHotplug, config.cpus);
      this.#acpiEvent = new IrqLine(this.#vm.fd, GSI.acpiEvent);
      this.#board = createBoard(this.shared, {
        vmFd: this.#vm.fd,
        lowMemoryBytes: this.plan.ranges[0]!.bytes,
        bootCpu,
      });
      this.timeline.mark('vCPUs made');
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  /** Lets the vCPUs run: the APs first, the BSP when all of them are about to wait for their SIPI. */
  start(): void {
    if (this.#started) {
      throw new VoltError('usage', 'Cannot start the VM: it was started before (expected once)');
    }
    // Stopped before its start, by a signal that came early, say: it has ended already.
    if (this.#closed) return;
    this.#started = true;
    installKickHandler();
    this.#virtio?.start((report) => this.#onDeviceReport(report));
    for (const vcpu of this.#vcpus) this.#startVcpu(vcpu);
    if (this.config.maxCpus > this.config.cpus) void this.#parkEjectedForever();
    this.timeline.mark('vCPUs told to start');
  }

  /** Ends the guest without asking it. `ended` settles when all vCPUs are out of KVM_RUN. */
  stop(): Promise<VmEnd> {
    this.#closed = true;
    if (this.#started) this.#stopVcpus();
    else this.#resolveEnded(describeEnd(this.config.bootCpu, { kind: 'stopped' }, []));
    return this.ended;
  }

  /** What steers the vCPUs that are in the machine now, by ascending index. */
  get vcpus(): readonly LiveVcpu[] {
    return this.#vcpus.filter(({ words }) => Atomics.load(words, VCPU_WORD.phase) !== VCPU_PHASE.parked);
  }

  /**
   * Plugs or removes vCPUs until there are `count`, and waits for the guest to take or to give them. Throws
   * VoltError 'usage' without room for them and 'guest' when the guest keeps one.
   */
  setCpuCount(count: number): Promise<CpuChange> {
    const change = this.#hotplug.then(() => setCpuCount(this.#hotplugMachine(), count));
    this.#hotplug = change.catch(() => {});
    return change;
  }

  /** Presses the power button, as ACPI knows it: a guest that listens shuts itself down. */
  pressPowerButton(): void {
    if (!this.config.acpi) {
      throw new VoltError(
        'usage',
        'Cannot press the power button: the guest has no ACPI (expected it without --no-acpi)',
      );
    }
    this.#raiseAcpiEvent(ACPI_EVENT.powerButton);
  }

  /** Virtio devices, in the order of their places. */
  get devices(): readonly MachineDevice[] {
    return this.#virtio?.devices ?? [];
  }

  /** Delivers an interrupt from outside. Throws VoltError 'usage' for a request that makes no sense. */
  sendIpi(request: IpiRequest): void {
    deliverIpi(
      this.#vm,
      this.plan,
      this.vcpus.map(({ index }) => index),
      request,
    );
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

  /** Stops the guest if it runs, and gives everything back. May be called again. */
  [Symbol.dispose](): void {
    this.#closed = true;
    const vcpusQuiet = !this.#started || this.#waitUntilStopped();
    const quiet = (this.#virtio?.stop() ?? true) && vcpusQuiet;
    for (const worker of this.#workers.splice(0)) worker.terminate();
    // A thread that would not leave still uses its mappings: then they stay, rather than being a crash.
    if (quiet) this.#stack.dispose();
    // Without an end so far; afterwards this changes nothing.
    this.#resolveEnded(describeEnd(this.config.bootCpu, { kind: 'stopped' }, []));
  }

  /** Stops all vCPUs and blocks, for microseconds as a rule, until their threads have left the guest for good. */
  #waitUntilStopped(): boolean {
    this.#stopVcpus();
    const deadline = performance.now() + DISPOSE_TIMEOUT_MS;
    return this.#vcpus.every(({ words }) => {
      for (;;) {
        const phase = Atomics.load(words, VCPU_WORD.phase);
        if (phase === VCPU_PHASE.stopped) return true;
        const left = deadline - performance.now();
        if (left <= 0) return false;
        Atomics.wait(words, VCPU_WORD.phase, phase, left);
      }
    });
  }

  #prepareVcpu(index: number, kvm: KvmVcpu, worker: Worker): Vcpu {
    kvm.setCpuid(planCpuid(this.plan, this.plan.cpus[index]!, this.#host));
    applyCommonState(kvm);
    const runFlags = new Uint8Array(kvm.runPage.view(0, RUN.exitReason));
    const words = this.shared.vcpuWords(index);
    words[VCPU_WORD.mpState] = checkMpState(kvm.fd, index, index === this.plan.bootCpu);
    return { index, kvm, worker, words, runFlags, lapic: kvm.readLapic(), ended: false };
  }

  #startVcpu({ kvm, worker, index }: Vcpu): void {
    worker.onmessage = ({ data }: MessageEvent<VcpuMessage>) => this.#onReport(data);
    worker.onerror = (event) => {
      event.preventDefault();
      this.#onReport({ index, report: { kind: 'failed', message: errorLine(event.message) } });
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
      virtio: this.#virtio?.links ?? [],
      bootCpu: this.plan.bootCpu,
      apsAtStart: this.config.cpus - 1,
      bsp: index === this.plan.bootCpu,
      affinity: this.config.affinity.get(index),
      timeline: this.#recordTimeline,
    };
    worker.postMessage(start);
  }

  #raiseAcpiEvent(event: number): void {
    Atomics.or(this.shared.words, VM_WORD.acpiEvents, event);
    this.#acpiEvent.set(1);
    this.#acpiEvent.set(0);
  }

  #hotplugMachine(): HotplugMachine {
    const { shared, config, plan } = this;
    return {
      shared,
      present: config.cpus,
      maxCpus: config.maxCpus,
      bootCpu: plan.bootCpu,
      readyVcpu: (index) => this.#readyVcpu(index),
      parkVcpu: (index) => parkVcpu(this.#vcpus[index]!),
      tellGuest: () => this.#raiseAcpiEvent(ACPI_EVENT.cpuHotplug),
      hasEnded: () => Atomics.load(shared.words, VM_WORD.ending) !== 0,
    };
  }

  /** A vCPU beyond those made before is the next one, since the lowest free ones are plugged first. */
  async #readyVcpu(index: number): Promise<void> {
    const parked = this.#vcpus[index];
    if (parked) {
      parked.kvm.resetToWait(parked.lapic);
      unparkVcpu(parked);
      return waitUntilRunning(parked);
    }
    const kvm = this.#stack.use(this.#vm.createVcpu(this.plan.cpus[index]!.apicId));
    const vcpu = this.#prepareVcpu(index, kvm, this.#spawnWorker());
    this.#vcpus.push(vcpu);
    this.#startVcpu(vcpu);
    return waitUntilRunning(vcpu);
  }

  async #parkEjectedForever(): Promise<void> {
    const machine = this.#hotplugMachine();
    while (!machine.hasEnded()) {
      const seen = Atomics.load(this.shared.words, VM_WORD.hotplugRequests);
      await parkEjected(machine);
      const wait = Atomics.waitAsync(this.shared.words, VM_WORD.hotplugRequests, seen);
      if (wait.async) await wait.value;
    }
  }

  #spawnWorker(): Worker {
    const worker = new Worker(vcpuWorkerUrl(), { smol: true });
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
      // What the guest wrote before its end is to be in its files.
      this.#virtio?.stop();
      const states = this.#vcpus.map(({ kvm }) => readVcpuState(kvm.fd));
      this.#resolveEnded(describeEnd(this.#cause.index, this.#cause.report, states));
    }
  }

  #onDeviceReport(report: VirtioReport): void {
    // A device that gave up on its driver is the guest's affair; a worker that failed is not.
    if (report.kind === 'device-failed') return;
    this.#cause ??= {
      index: this.config.bootCpu,
      report: { kind: 'failed', message: errorLine(report.message) },
    };
    this.#stopVcpus();
  }

  #stopVcpus(): void {
    Atomics.store(this.shared.words, VM_WORD.ending, 1);
    for (const vcpu of this.#vcpus) {
      const { words, ended } = vcpu;
      if (ended || Atomics.exchange(words, VCPU_WORD.command, VCPU_COMMAND.stop) === VCPU_COMMAND.stop)
        continue;
      Atomics.notify(words, VCPU_WORD.command);
      kick(vcpu);
    }
    Atomics.notify(this.shared.words, VM_WORD.transmitTail);
    Atomics.notify(this.shared.words, VM_WORD.hotplugRequests);
    ringDoorbell(this.shared.words);
  }
}

/** KVM's own account of who may run: a BSP starts runnable, APs uninitialized. Anything else is a defect. */
function checkMpState(vcpuFd: number, index: number, bsp: boolean): number {
  const expected = bsp ? KVM_MP_STATE.runnable : KVM_MP_STATE.uninitialized;
  const found = readMpState(vcpuFd);
  if (found === expected) return found;
  throw new VoltError(
    'internal',
    `Cannot start vCPU ${index}: KVM has it ${mpStateName(found)} (expected ${mpStateName(expected)})`,
  );
}

/** The runtime's message for an error that escaped a worker has a piece of source and a stack around it. */
function errorLine(message: string): string {
  const line = /^\s*(?:\w*[Ee]rror): .*$/m.exec(message) ?? /^.*$/m.exec(message);
  return `${line?.[0].trim()} (a defect of Volt; please report it)`;
}

/** A vCPU takes KVM's descriptor and two of its Worker's event loop. */
const FILES_PER_VCPU = 3;
/** A device takes its files, two eventfds and one for each queue; its worker four. */
const FILES_PER_DEVICE = 24;
const FILES_BESIDES = 32;

/** The runtime aborts the process when a Worker finds no descriptor left. */
function checkOpenFilesLimit(cpus: number, devices: number): void {
  const needed = cpus * FILES_PER_VCPU + devices * FILES_PER_DEVICE + FILES_BESIDES;
  const limit = raiseOpenFilesLimit(needed);
  if (limit >= needed) return;
  throw new VoltError(
    'host',
    `Cannot start ${cpus} vCPUs: this process may open ${limit} files (expected ${needed}; raise it with ulimit -n)`,
  );
}
