/** What requests ask for, and when each may be asked. */
import type { JsonValue } from '../../../json/value.ts';
import type * as B from './bodies.ts';
import type { CpuTemplateBody } from './cpu-template.ts';

/** Kinds of devices that requests plug and remove while the guest runs. */
export type PluggableKind = 'block' | 'pmem' | 'net';

/** An action with its operand, under Firecracker's name. */
interface Operands {
  readonly ConfigureBootSource: B.BootSourceBody;
  readonly ConfigureLogger: B.LoggerBody;
  readonly ConfigureMetrics: B.MetricsBody;
  readonly ConfigureSerial: B.SerialBody;
  readonly CreateSnapshot: B.SnapshotCreateBody;
  readonly FlushMetrics: undefined;
  readonly GetBalloonConfig: undefined;
  readonly GetBalloonStats: undefined;
  readonly GetFreePageHintingStatus: undefined;
  readonly GetFullVmConfig: undefined;
  readonly GetMemoryHotplugStatus: undefined;
  readonly GetMmds: undefined;
  readonly GetVmInstanceInfo: undefined;
  readonly GetVmMachineConfig: undefined;
  readonly GetVmmVersion: undefined;
  readonly HotUnplugDevice: { readonly kind: PluggableKind; readonly id: string };
  readonly InsertBlockDevice: B.DriveBody;
  readonly InsertNetworkDevice: B.NetworkInterfaceBody;
  readonly InsertPmemDevice: B.PmemBody;
  readonly LoadSnapshot: B.SnapshotLoadBody;
  readonly PatchMmds: JsonValue;
  readonly Pause: undefined;
  readonly PutCpuConfiguration: CpuTemplateBody;
  readonly PutMmds: JsonValue;
  readonly Resume: undefined;
  readonly SendCtrlAltDel: undefined;
  readonly SetBalloonDevice: B.BalloonBody;
  readonly SetEntropyDevice: B.EntropyBody;
  readonly SetMemoryHotplugDevice: B.MemoryHotplugBody;
  readonly SetMmdsConfiguration: B.MmdsConfigBody;
  readonly SetVsockDevice: B.VsockBody;
  readonly StartFreePageHinting: { readonly acknowledge_on_stop: boolean };
  readonly StartMicroVm: undefined;
  readonly StopFreePageHinting: undefined;
  readonly UpdateBalloon: { readonly amount_mib: number };
  readonly UpdateBalloonStatistics: { readonly stats_polling_interval_s: number };
  readonly UpdateBlockDevice: B.DriveUpdateBody;
  readonly UpdateMachineConfiguration: B.MachineConfigUpdateBody;
  readonly UpdateMemoryHotplugSize: { readonly requested_size_mib: number };
  readonly UpdateNetworkInterface: B.NetworkInterfaceUpdateBody;
  readonly UpdatePmemDevice: B.PmemUpdateBody;
}

export type ActionName = keyof Operands;
export type OperandOf<Name extends ActionName> = Operands[Name];
export type Action = {
  readonly [Name in ActionName]: { readonly name: Name; readonly operand: Operands[Name] };
}[ActionName];

/** Before the guest's start, after it, or both; `plug`: after it only with PCI. */
export type When = 'before' | 'after' | 'both' | 'plug';

const WHEN: Readonly<Record<ActionName, When>> = {
  ConfigureBootSource: 'before',
  ConfigureLogger: 'before',
  ConfigureMetrics: 'before',
  ConfigureSerial: 'before',
  CreateSnapshot: 'after',
  FlushMetrics: 'after',
  GetBalloonConfig: 'both',
  GetBalloonStats: 'after',
  GetFreePageHintingStatus: 'after',
  GetFullVmConfig: 'both',
  GetMemoryHotplugStatus: 'after',
  GetMmds: 'both',
  GetVmInstanceInfo: 'both',
  GetVmMachineConfig: 'both',
  GetVmmVersion: 'both',
  HotUnplugDevice: 'after',
  InsertBlockDevice: 'plug',
  InsertNetworkDevice: 'plug',
  InsertPmemDevice: 'plug',
  LoadSnapshot: 'before',
  PatchMmds: 'both',
  Pause: 'after',
  PutCpuConfiguration: 'before',
  PutMmds: 'both',
  Resume: 'after',
  SendCtrlAltDel: 'after',
  SetBalloonDevice: 'before',
  SetEntropyDevice: 'before',
  SetMemoryHotplugDevice: 'before',
  SetMmdsConfiguration: 'before',
  SetVsockDevice: 'before',
  StartFreePageHinting: 'after',
  StartMicroVm: 'before',
  StopFreePageHinting: 'after',
  UpdateBalloon: 'after',
  UpdateBalloonStatistics: 'after',
  UpdateBlockDevice: 'after',
  UpdateMachineConfiguration: 'before',
  UpdateMemoryHotplugSize: 'after',
  UpdateNetworkInterface: 'after',
  UpdatePmemDevice: 'after',
};

/** Actions after which no snapshot can be loaded: the snapshot brings what they configure. */
export const BOOT_SPECIFIC: ReadonlySet<ActionName> = new Set<ActionName>([
  'ConfigureBootSource',
  'InsertBlockDevice',
  'InsertNetworkDevice',
  'InsertPmemDevice',
  'SetBalloonDevice',
  'SetEntropyDevice',
  'SetMemoryHotplugDevice',
  'SetMmdsConfiguration',
  'SetVsockDevice',
  'UpdateMachineConfiguration',
]);

const NOT_BEFORE_START = 'The requested operation is not supported before starting the microVM.';
const NOT_AFTER_START = 'The requested operation is not supported after starting the microVM.';

/** Why the action may not be asked for now; undefined if it may. */
export function refusalByOrder(name: ActionName, started: boolean): string | undefined {
  const when = WHEN[name];
  if (started) return when === 'before' ? NOT_AFTER_START : undefined;
  return when === 'after' ? NOT_BEFORE_START : undefined;
}
