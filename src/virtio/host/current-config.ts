/** The configuration of a running machine: that of its start, with what was plugged, unplugged and replaced since. */
import { withChangedSettings, type ChangedSettings, type Sections } from './current-settings.ts';
import type { JsonObject } from './device-spec.ts';
import { planPciBuses, type SlotPlacement } from './placement.ts';
import { ALL_SPECS, SPECS, type DeviceConfig } from './specs.ts';

export type { Sections };

interface CurrentDevice {
  readonly config: DeviceConfig;
  readonly placement: SlotPlacement;
  /** What was changed while it ran. */
  readonly settings: ChangedSettings;
  /** Of a device that was plugged. */
  readonly item?: JsonObject | undefined;
}

/** In the order in which a configuration with these devices gives them. */
export function orderDevices<Device extends CurrentDevice>(devices: readonly Device[]): Device[] {
  const rank = ({ config }: Device) => ALL_SPECS.indexOf(SPECS[config.kind]);
  return [...devices].sort((a, b) => rank(a) - rank(b));
}

/** Devices of a configuration and their slots, all on PCI. */
export function changedDevices(devices: readonly CurrentDevice[]) {
  const ordered = orderDevices(devices);
  const slots = ordered.map(({ placement }) => placement.pciSlot!);
  return { devices: ordered.map(({ config }) => config), pci: planPciBuses(slots.length, slots) };
}

/** `hasChanged`: devices were plugged or unplugged, so their slots are part of the configuration. */
export function currentSections(
  input: Sections,
  devices: readonly CurrentDevice[],
  hasChanged: boolean,
): Sections {
  const sections = hasChanged ? pluggedSections(input, devices) : input;
  const changed = devices.filter(({ settings }) => Object.keys(settings).length > 0);
  if (changed.length === 0) return sections;
  return withChangedSettings(
    sections,
    changed.map(({ config: { kind, id }, settings }) => ({ kind, id, settings })),
  );
}

function pluggedSections(input: Sections, devices: readonly CurrentDevice[]): Sections {
  const volt = (input['volt'] ?? {}) as JsonObject;
  const slots = orderDevices(devices).map(({ placement }) => placement.pciSlot!);
  return { ...input, ...currentLists(input, devices), volt: { ...volt, pci_slots: slots } };
}

/** Sections that are lists, without the items of devices that are gone, and with those that came. */
function currentLists(input: Sections, devices: readonly CurrentDevice[]): Sections {
  const lists: Record<string, unknown> = {};
  for (const { kind, section, hostSide } of ALL_SPECS) {
    const idKey = hostSide?.idKey;
    if (idKey === undefined) continue;
    const here = devices.filter(({ config }) => config.kind === kind);
    const ids = new Set<unknown>(here.filter(({ item }) => !item).map(({ config }) => config.id));
    const items = (Array.isArray(input[section]) ? input[section] : []) as JsonObject[];
    const kept = items.filter((item) => ids.has(item[idKey]));
    lists[section] = [...kept, ...here.flatMap(({ item }) => item ?? [])];
  }
  return lists;
}
