/** Changes devices of a running guest, and reads their state. */
import { VoltError } from '../../volt-error.ts';
import type { Output } from './json/output.ts';
import type { MicroVm } from './microvm.ts';
import { ActionFault } from './model/fault.ts';
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
    throw new ActionFault('The requested operation is not supported: Volt has no keyboard');
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

  setBalloonPolling(seconds: number): void {
    const { balloon } = this.#resources;
    if (!balloon) throw balloonFault(NOT_FOUND);
    if (balloon.stats_polling_interval_s === seconds) return;
    if (balloon.stats_polling_interval_s === 0 || seconds === 0)
      throw balloonFault('Balloon: Statistics cannot be enabled/disabled after activation.');
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
    try {
      this.#resources.replaceDrive({
        ...drive,
        path_on_host: path ?? drive.path_on_host,
        rate_limiter: updateLimiter(drive.rate_limiter, limiter),
      });
    } catch (error) {
      if (error instanceof VoltError) throw refuse(error.message);
      throw error;
    }
  }

  updateInterface({
    iface_id: id,
    rx_rate_limiter: rx,
    tx_rate_limiter: tx,
  }: NetworkInterfaceUpdateBody): void {
    const each = this.#resources.interfaces.find(({ iface_id: known }) => known === id);
    if (!each) throw new ActionFault(`Network config error: Unable to update the net device: ${NOT_FOUND}`);
    this.#resources.replaceInterface({
      ...each,
      rx_rate_limiter: updateLimiter(each.rx_rate_limiter, rx),
      tx_rate_limiter: updateLimiter(each.tx_rate_limiter, tx),
    });
  }

  updatePmem({ id, rate_limiter: limiter }: PmemUpdateBody): void {
    if (limiter === null) return;
    const each = this.#resources.pmem.find(({ id: known }) => known === id);
    if (!each)
      throw new ActionFault(
        `Pmem config error: Unable to patch the pmem device: ${NOT_FOUND} Please verify the request arguments.`,
      );
    this.#resources.replacePmem({ ...each, rate_limiter: updateLimiter(each.rate_limiter, limiter) });
  }

  /** There is never a device: a guest with one is not started. */
  memoryHotplugStatus(): Output {
    throw internalFault(NOT_FOUND);
  }

  resizeMemoryHotplug(): void {
    throw new ActionFault(`Memory hotplug update error: ${NOT_FOUND}`);
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
