/** Changes devices of a running guest, and reads their state. */
import { SyscallError } from '../../ffi/errno.ts';
import type { DeviceSet, MachineDevice } from '../../virtio/host/device-set.ts';
import { pressCtrlAltDelete } from '../../vmm/keyboard.ts';
import { VoltError } from '../../volt-error.ts';
import { HOST_CHECKS } from './host-checks.ts';
import type { Output } from '../../json/output.ts';
import type { MicroVm } from './microvm.ts';
import { ActionFault } from './model/fault.ts';
import { toLimitChange } from './model/machine-input.ts';
import { updateLimiter, type VmResources } from './model/resources.ts';
import type { DriveUpdateBody, NetworkInterfaceUpdateBody, PmemUpdateBody } from './request/bodies.ts';

const NOT_FOUND = 'Failed perform action on device: Device not found';
const NOT_ACTIVE = 'Balloon: Device not activated yet.';
const PAGES_PER_MIB = 256;

/** Errors have the prefix of their action, as in Firecracker. */
const balloonFault = (why: string) => new ActionFault(`Balloon update error: ${why}`);
const internalFault = (why: string) => new ActionFault(`Internal VMM error: ${why}`);

export class RunningDevices {
  readonly #vm: MicroVm;
  readonly #resources: VmResources;

  constructor(vm: MicroVm, resources: VmResources) {
    this.#vm = vm;
    this.#resources = resources;
  }

  sendCtrlAltDel(): void {
    const { vm, shared } = this.#vm.machine.machine;
    // The guest may take its time, or have no driver: the answer does not wait.
    void pressCtrlAltDelete(vm.fd, shared);
  }

  balloonStats(): Output {
    const { balloon } = this.#resources;
    if (!balloon) throw internalFault(NOT_FOUND);
    if (balloon.stats_polling_interval_s === 0)
      throw internalFault('Balloon: Received stats query when stats are disabled.');
    const { wantedMib, actualMib, stats } = this.#vm.control.balloon();
    return {
      target_pages: wantedMib * PAGES_PER_MIB,
      actual_pages: actualMib * PAGES_PER_MIB,
      target_mib: Math.floor(wantedMib),
      actual_mib: Math.floor(actualMib),
      ...stats,
    };
  }

  resizeBalloon(mib: number): void {
    this.#needBalloon();
    const total = this.#resources.machine.mem_size_mib;
    if (BigInt(mib) > total) throw balloonFault(`Balloon: Requested memory should be less than ${total}MiB`);
    this.#vm.control.balloon(mib);
    this.#resources.replaceBalloon({ amount_mib: mib });
  }

  async setBalloonPolling(seconds: number): Promise<void> {
    const { balloon } = this.#resources;
    if (!balloon) throw balloonFault(NOT_FOUND);
    if (balloon.stats_polling_interval_s === seconds) return;
    if (balloon.stats_polling_interval_s === 0 || seconds === 0)
      throw balloonFault('Balloon: Statistics cannot be enabled/disabled after activation.');
    await this.#set.change(this.#device('balloon'), { kind: 'balloon-polling', seconds });
    this.#resources.replaceBalloon({ stats_polling_interval_s: seconds });
  }

  hintingStatus(): Output {
    this.#needHinting();
    return { host_cmd: 0, guest_cmd: null };
  }

  startHinting(_acknowledgeOnStop: boolean): void {
    this.#needHinting();
    this.#needBalloon();
  }

  stopHinting(): void {
    this.#needHinting();
    this.#needBalloon();
  }

  async updateDrive({
    drive_id: id,
    path_on_host: path,
    rate_limiter: limiter,
  }: DriveUpdateBody): Promise<void> {
    const refuse = (why: string) =>
      new ActionFault(
        `Drive config error: Unable to patch the block device: ${why} Please verify the request arguments.`,
      );
    const drive = this.#resources.drives.find((each) => each.drive_id === id);
    if (!drive) throw refuse(NOT_FOUND);
    if (path === null && limiter === null) throw refuse('Block: Running method expected different backend.');
    const device = this.#device('block', id);
    if (path !== null) {
      const problem = HOST_CHECKS.disk(path, drive.is_read_only ?? false);
      if (problem !== undefined)
        throw refuse(`Block: Virtio backend error: Error manipulating the backing file: ${problem} ${path}`);
      await refused(refuse, this.#set.changeDiskFile(device, path));
    }
    if (limiter !== null)
      await refused(refuse, this.#set.change(device, { kind: 'limits', limits: toLimitChange(limiter) }));
    this.#resources.replaceDrive({
      ...drive,
      path_on_host: path ?? drive.path_on_host,
      rate_limiter: updateLimiter(drive.rate_limiter, limiter),
    });
  }

  async updateInterface({
    iface_id: id,
    rx_rate_limiter: rx,
    tx_rate_limiter: tx,
  }: NetworkInterfaceUpdateBody): Promise<void> {
    const refuse = (why: string) =>
      new ActionFault(`Network config error: Unable to update the net device: ${why}`);
    const each = this.#resources.interfaces.find(({ iface_id: known }) => known === id);
    if (!each) throw refuse(NOT_FOUND);
    const change = {
      kind: 'net-limits',
      receive: toLimitChange(rx),
      transmit: toLimitChange(tx),
    } as const;
    await refused(refuse, this.#set.change(this.#device('net', id), change));
    this.#resources.replaceInterface({
      ...each,
      rx_rate_limiter: updateLimiter(each.rx_rate_limiter, rx),
      tx_rate_limiter: updateLimiter(each.tx_rate_limiter, tx),
    });
  }

  async updatePmem({ id, rate_limiter: limiter }: PmemUpdateBody): Promise<void> {
    if (limiter === null) return;
    const refuse = (why: string) =>
      new ActionFault(
        `Pmem config error: Unable to patch the pmem device: ${why} Please verify the request arguments.`,
      );
    const each = this.#resources.pmem.find(({ id: known }) => known === id);
    if (!each) throw refuse(NOT_FOUND);
    const change = { kind: 'limits', limits: toLimitChange(limiter) } as const;
    await refused(refuse, this.#set.change(this.#device('pmem', id), change));
    this.#resources.replacePmem({ ...each, rate_limiter: updateLimiter(each.rate_limiter, limiter) });
  }

  /** There is never a device: a guest with one is not started. */
  memoryHotplugStatus(): Output {
    throw internalFault(NOT_FOUND);
  }

  resizeMemoryHotplug(): void {
    throw new ActionFault(`Memory hotplug update error: ${NOT_FOUND}`);
  }

  get #set(): DeviceSet {
    return this.#vm.machine.machine.devices!;
  }

  #device(kind: string, id?: string): MachineDevice {
    return this.#set.devices.find(
      ({ config }) => config.kind === kind && (id === undefined || config.id === id),
    )!;
  }

  /** A balloon whose driver is ready. */
  #needBalloon(): void {
    if (!this.#resources.balloon) throw balloonFault(NOT_FOUND);
    const status = this.#vm.control.devices().find(({ kind }) => kind === 'balloon');
    if (status?.state !== 'running') throw balloonFault(NOT_ACTIVE);
  }

  #needHinting(): void {
    const { balloon } = this.#resources;
    if (!balloon) throw balloonFault(NOT_FOUND);
    if (!balloon.free_page_hinting) throw balloonFault('Balloon: Attempting to use hinting when not enabled');
  }
}

/** Turns what the host refuses into an answer. */
async function refused(refuse: (why: string) => ActionFault, change: Promise<void>): Promise<void> {
  try {
    await change;
  } catch (error) {
    if (error instanceof VoltError || error instanceof SyscallError) throw refuse(`${error.message}.`);
    throw error;
  }
}
