/** Carries out what clients ask for: configures the microVM, starts it, and controls it while it runs. */
import { parseConfig, type VmConfig } from '../../config/config.ts';
import { CpuTemplateError } from '../../cpuid/cpu-template.ts';
import { SyscallError } from '../../ffi/errno.ts';
import { randomBytes } from '../../ffi/random.ts';
import type { ThreadFilters } from '../../vmm/sandbox.ts';
import type { VmControl } from '../vm-control.ts';
import type { VirtualMachine } from '../../vmm/virtual-machine.ts';
import { VoltError } from '../../volt-error.ts';
import { faultResponse, type ApiResponse } from './http/response.ts';
import { formatOutput, type Output } from '../../json/output.ts';
import type { Log, Logger } from './logger.ts';
import type { Metrics } from './metrics.ts';
import type { Readiness } from './make-ready.ts';
import { startMicroVm, type MicroVm } from './microvm.ts';
import { ActionFault } from './model/fault.ts';
import { toConfigInput, withExtras } from './model/machine-input.ts';
import type { LatencyNames } from './model/metrics.ts';
import type { MmdsStore } from './model/mmds-store.ts';
import type { VmResources } from './model/resources.ts';
import { FIRECRACKER_VERSION } from './model/version.ts';
import { RunningDevices } from './running-devices.ts';
import { BOOT_SPECIFIC, refusalByOrder, type Action } from './request/action.ts';
import type { SnapshotCreateBody, SnapshotLoadBody } from './request/bodies.ts';

export interface ControllerOptions {
  readonly id: string;
  readonly resources: VmResources;
  readonly mmds: MmdsStore;
  /** The metadata as guests read them. */
  readonly mmdsBuffer: SharedArrayBuffer;
  readonly logger: Logger;
  readonly metrics: Metrics;
  /** What is prepared before the start. */
  readonly readiness?: Readiness | undefined;
  /** Virtio devices are on a PCI bus. */
  readonly pci: boolean;
  /** Enters the sandbox. */
  readonly beforeStart: (machine: VirtualMachine) => ThreadFilters | undefined;
}

const DONE: ApiResponse = { status: 204 };

/** A snapshot could not be loaded: the process is of no use any more, and ends. */
export class RestoreFailure extends Error {}

export class Controller {
  readonly #options: ControllerOptions;
  readonly #main: Log;
  readonly #started = Promise.withResolvers<MicroVm>();
  #vm: MicroVm | undefined;
  #devices: RunningDevices | undefined;
  #paused = false;
  #extras: Readonly<Record<string, unknown>> = {};
  #configured = false;

  constructor(options: ControllerOptions) {
    this.#options = options;
    this.#main = options.logger.on('main');
  }

  /** Settles when the guest has been started; rejects when no guest can be started any more. */
  get started(): Promise<MicroVm> {
    return this.#started.promise;
  }

  /** That of the running guest. */
  get control(): VmControl | undefined {
    return this.#vm?.control;
  }

  /** Keys of the section `volt` of a configuration file, and `vcpu_count`, for the start. */
  setExtras(extras: Readonly<Record<string, unknown>>): void {
    this.#extras = extras;
  }

  /** Throws ActionFault for what the client did wrong. */
  async run(action: Action): Promise<ApiResponse> {
    this.#options.readiness?.noteRequest();
    const refusal = refusalByOrder(action.name, this.#vm !== undefined);
    if (refusal !== undefined) throw new ActionFault(refusal);
    if (!this.#vm && BOOT_SPECIFIC.has(action.name)) this.#configured = true;
    return this.#runAllowed(action);
  }

  async #runAllowed(action: Action): Promise<ApiResponse> {
    const { resources, mmds, logger, metrics, id } = this.#options;
    switch (action.name) {
      case 'ConfigureBootSource':
        resources.setBootSource(action.operand);
        return DONE;
      case 'ConfigureLogger':
        try {
          logger.configure(action.operand);
        } catch (error) {
          throw error instanceof ActionFault ? new ActionFault(`Logger error: ${error.message}`) : error;
        }
        return DONE;
      case 'ConfigureMetrics':
        metrics.configure(action.operand);
        return DONE;
      case 'ConfigureSerial':
        resources.setSerial(action.operand);
        return DONE;
      case 'InsertBlockDevice':
        this.#refusePlug();
        resources.insertDrive(action.operand);
        return DONE;
      case 'InsertNetworkDevice':
        this.#refusePlug();
        resources.insertInterface(action.operand);
        return DONE;
      case 'InsertPmemDevice':
        this.#refusePlug();
        resources.insertPmem(action.operand);
        return DONE;
      case 'HotUnplugDevice':
        throw new ActionFault(this.#options.pci ? NO_HOTPLUG : PCI_OFF);
      case 'PutCpuConfiguration':
        resources.setCpuTemplate(action.operand);
        return DONE;
      case 'SetBalloonDevice':
        resources.setBalloon(action.operand);
        return DONE;
      case 'SetEntropyDevice':
        resources.setEntropy(action.operand);
        return DONE;
      case 'SetMemoryHotplugDevice':
        resources.setMemoryHotplug(action.operand);
        return DONE;
      case 'SetMmdsConfiguration':
        resources.setMmds(action.operand);
        return DONE;
      case 'SetVsockDevice':
        resources.setVsock(action.operand);
        return DONE;
      case 'UpdateMachineConfiguration':
        resources.updateMachine(action.operand);
        return DONE;
      case 'PutMmds':
        mmds.put(action.operand);
        return DONE;
      case 'PatchMmds':
        mmds.patch(action.operand);
        return DONE;
      case 'GetMmds':
        return { status: 200, body: mmds.format() };
      case 'GetFullVmConfig':
        this.#main.warn(
          'If the VM was restored from snapshot, boot-source, machine-config.smt, and machine-config.cpu_template will all be empty.',
        );
        return answer(resources.describeAll());
      case 'GetVmMachineConfig':
        return answer(resources.describeMachine());
      case 'GetVmmVersion':
        return answer({ firecracker_version: FIRECRACKER_VERSION });
      case 'GetVmInstanceInfo':
        return answer({
          id,
          state: this.#state(),
          vmm_version: FIRECRACKER_VERSION,
          app_name: 'Firecracker',
        });
      case 'GetBalloonConfig': {
        const balloon = resources.describeBalloon();
        if (balloon !== undefined) return answer(balloon);
        throw new ActionFault(
          this.#vm
            ? 'Internal VMM error: Failed perform action on device: Device not found'
            : 'Balloon config error: No balloon device found.',
        );
      }
      case 'StartMicroVm':
        await this.#options.readiness?.end();
        return this.start();
      case 'LoadSnapshot':
        return this.#loadSnapshot(action.operand);
      default:
        return this.#runStarted(action);
    }
  }

  async #runStarted(action: Action): Promise<ApiResponse> {
    const { metrics } = this.#options;
    const devices = this.#devices!;
    switch (action.name) {
      case 'FlushMetrics':
        metrics.flush();
        return DONE;
      case 'Pause':
        await this.#timed('pause_vm', 'pause vm', () => this.#vm!.control.pause());
        this.#paused = true;
        return DONE;
      case 'Resume':
        await this.#timed('resume_vm', 'resume vm', () => this.#vm!.control.resume());
        this.#paused = false;
        return DONE;
      case 'SendCtrlAltDel':
        devices.sendCtrlAltDel();
        return DONE;
      case 'CreateSnapshot':
        return this.#createSnapshot(action.operand);
      case 'GetBalloonStats':
        return answer(devices.balloonStats());
      case 'GetFreePageHintingStatus':
        return answer(devices.hintingStatus());
      case 'StartFreePageHinting':
        devices.startHinting(action.operand.acknowledge_on_stop);
        return DONE;
      case 'StopFreePageHinting':
        devices.stopHinting();
        return DONE;
      case 'UpdateBalloon':
        devices.resizeBalloon(action.operand.amount_mib);
        return DONE;
      case 'UpdateBalloonStatistics':
        await devices.setBalloonPolling(action.operand.stats_polling_interval_s);
        return DONE;
      case 'UpdateBlockDevice':
        await devices.updateDrive(action.operand);
        return DONE;
      case 'UpdateNetworkInterface':
        await devices.updateInterface(action.operand);
        return DONE;
      case 'UpdatePmemDevice':
        await devices.updatePmem(action.operand);
        return DONE;
      case 'GetMemoryHotplugStatus':
        return answer(devices.memoryHotplugStatus());
      case 'UpdateMemoryHotplugSize':
        devices.resizeMemoryHotplug();
        return DONE;
      default:
        throw new Error(`no handler of ${action.name}`);
    }
  }

  /** Starts the guest as it is configured. Throws ActionFault; clients may then correct their configuration. */
  start(): ApiResponse {
    const { resources, beforeStart, pci } = this.#options;
    if (!resources.bootSource) throw startFault('Cannot start microvm without kernel configuration.');
    if (resources.hasEmptyPmem()) throw startFault('Cannot create pmem device: Error backing file size is 0');
    try {
      const { config, warnings } = parseConfig(withExtras(toConfigInput(resources, { pci }), this.#extras));
      warnings.forEach(this.#main.warn);
      this.#begin(startMicroVm({ config: this.#withMmds(config), log: this.#main, beforeStart }));
      for (const line of resources.settingsWithoutEffect()) this.#main.warn(line);
    } catch (error) {
      if (error instanceof CpuTemplateError) throw startFault(describeTemplateError(error));
      if (error instanceof VoltError || error instanceof SyscallError) throw startFault(error.message);
      throw error;
    }
    return DONE;
  }

  /** The configuration with the metadata service on the interfaces that have it. */
  #withMmds(config: VmConfig): VmConfig {
    const { resources, mmdsBuffer, id } = this.#options;
    const { mmds } = resources;
    if (!mmds) return config;
    const start = {
      buffer: mmdsBuffer,
      address: parseAddress(mmds.ipv4_address),
      version: mmds.version,
      imdsCompat: mmds.imds_compat,
      key: randomBytes(MMDS_KEY_BYTES),
      id,
    };
    const devices = config.devices.map((device) =>
      device.kind === 'net' && mmds.network_interfaces.includes(device.id)
        ? { ...device, mmds: start }
        : device,
    );
    return { ...config, devices };
  }

  #state(): string {
    if (!this.#vm) return 'Not started';
    return this.#paused ? 'Paused' : 'Running';
  }

  #refusePlug(): void {
    if (this.#vm) throw new ActionFault(this.#options.pci ? NO_HOTPLUG : PCI_OFF);
  }

  async #timed(latency: keyof LatencyNames, words: string, act: () => Promise<void>): Promise<void> {
    const from = performance.now();
    await act();
    const us = Math.max(1, Math.round((performance.now() - from) * 1000));
    this.#options.metrics.latencies[latency] = us;
    this.#main.info(`'${words}' VMM action took ${us} us.`);
  }

  async #createSnapshot(body: SnapshotCreateBody): Promise<ApiResponse> {
    if (!this.#paused)
      throw new ActionFault(
        'Create snapshot error: Cannot save the microVM state: Operation not allowed: save/restore unavailable while running',
      );
    const { createSnapshot } = await import('./create-snapshot.ts');
    const isFull = body.snapshot_type === 'Full';
    await this.#timed(
      isFull ? 'full_create_snapshot' : 'diff_create_snapshot',
      isFull ? 'create full snapshot' : 'create diff snapshot',
      () => createSnapshot(this.#vm!.machine, body, this.#options.resources),
    );
    return DONE;
  }

  async #loadSnapshot(body: SnapshotLoadBody): Promise<ApiResponse> {
    if (this.#configured)
      throw new ActionFault(
        'Load snapshot error: Loading a microVM snapshot not allowed after configuring boot-specific resources.',
      );
    try {
      await this.#timed('load_snapshot', 'load snapshot', () => this.#restore(body));
      return DONE;
    } catch (error) {
      this.#started.reject(new RestoreFailure());
      throw error;
    }
  }

  async #restore(body: SnapshotLoadBody): Promise<void> {
    await this.#options.readiness?.end();
    const { resources, beforeStart } = this.#options;
    const { loadSnapshot } = await import('./load-snapshot.ts');
    const { config, warnings, make } = loadSnapshot(body, resources);
    warnings.forEach(this.#main.warn);
    this.#begin(
      startMicroVm({
        ...{ config: this.#withMmds(config), make, log: this.#main, beforeStart },
        paused: !body.resume_vm,
      }),
    );
    this.#paused = !body.resume_vm;
  }

  #begin(vm: MicroVm): void {
    this.#vm = vm;
    this.#devices = new RunningDevices(vm, this.#options.resources);
    this.#options.metrics.start(vm.control);
    this.#started.resolve(vm);
  }
}

function parseAddress(text: string): number {
  return text.split('.').reduce((address, part) => address * 256 + Number(part), 0);
}

const MMDS_KEY_BYTES = 32;
const PCI_OFF = 'PCI is not enabled';
const NO_HOTPLUG = 'The requested operation is not supported: hotplug of devices';

function answer(output: Output): ApiResponse {
  return { status: 200, body: formatOutput(output) };
}

/** In Firecracker's words. */
function describeTemplateError({ mismatch, numbers }: CpuTemplateError): string {
  const [first, second] = numbers.map((number) => number.toString(16));
  switch (mismatch) {
    case 'vendor':
      return 'Failed to get CPU template: CPU vendor mismatched between actual CPU and CPU template.';
    case 'model':
      return 'Failed to get CPU template: The current CPU model is not permitted to apply the CPU template.';
    case 'capability':
      return `Kvm error: Missing KVM capabilities: 0x${first}`;
    case 'leaf':
      return `System configuration error: Failed to create guest config: Template changes a CPUID entry not supported by KVM: Leaf: ${first}, Subleaf: ${second}`;
    case 'msr':
      return `System configuration error: Failed to create guest config: KVM vcpu ioctl failed: Failed to get KVM vcpu msr: 0x${first}`;
  }
}

function startFault(why: string): ActionFault {
  return new ActionFault(`Start microvm error: ${why}`);
}

export function toFaultResponse(error: ActionFault): ApiResponse {
  return faultResponse(error.message, error.status);
}
