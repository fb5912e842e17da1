/**
 * Virtio devices in a configuration: the sections named in the devices' specs, in the order of their slots.
 */
import * as v from 'valibot';
import { ISA_IRQ_COUNT, VIRTIO_GSIS } from '../machine/irqs.ts';
import { DEVICES_PER_BUS } from '../pci/address.ts';
import { MAX_PCI_SLOTS, type PciBusPlan } from '../virtio/host/placement.ts';
import { ALL_SPECS, SPECS, type DeviceConfig } from '../virtio/host/specs.ts';
import { isSection } from '../schema/values.ts';
import { VoltError } from '../volt-error.ts';

type Sections = Readonly<Record<string, unknown>>;
type NameOf = (path: string) => string;

/** Most queues of a disk, and pairs of a network interface. */
const MOST_AUTOMATIC_QUEUES = 16;

/** `queues: "auto"` of a disk or a network interface means one queue, or pair, for each vCPU. User-mode networking has one pair. */
export function resolveQueues(input: Sections, cpus: number): Sections {
  const resolved: Record<string, unknown> = { ...input };
  const queues = Math.min(cpus, MOST_AUTOMATIC_QUEUES);
  for (const section of ['drives', 'network-interfaces']) {
    const items = input[section];
    if (!Array.isArray(items)) continue;
    resolved[section] = items.map((item: unknown) =>
      isSection(item) && item['queues'] === 'auto' ? { ...item, queues: item['user'] ? 1 : queues } : item,
    );
  }
  return resolved;
}

/** Validates the devices' sections of a configuration. Throws VoltError 'config' with the first problem. */
export function parseDevices(input: Sections, nameOf: NameOf): DeviceConfig[] {
  return ALL_SPECS.flatMap(({ section, schema }) => {
    const content = input[section];
    if (content === undefined || content === null) return [];
    const result = v.safeParse(schema(), content);
    if (result.success) return result.output;
    const issue = result.issues[0];
    const path = [section, v.getDotPath(issue)].filter((part) => part !== null).join('.');
    throw new VoltError('config', `Cannot use ${nameOf(path)}: ${issue.message}`);
  });
}

/** The kernel parameter `root=…` of each device that is a root device. */
function rootWordsOf(devices: readonly DeviceConfig[]): string[] {
  return devices.flatMap((device) => {
    const index = devices.filter(({ kind }) => kind === device.kind).indexOf(device);
    return SPECS[device.kind].rootWords?.(device, index) ?? [];
  });
}

/** `root=…` for the kernel's command line; empty without a root device. */
export function rootWord(devices: readonly DeviceConfig[]): string {
  return rootWordsOf(devices)[0] ?? '';
}

const THESE = 'these devices';

/** Throws VoltError 'config' for devices that conflict, or that the guest could not find. */
export function checkDevices(
  devices: readonly DeviceConfig[],
  { acpi, pci }: { readonly acpi: boolean; readonly pci: PciBusPlan | undefined },
): void {
  const fail = (problem: string) => new VoltError('config', `Cannot use ${THESE}: ${problem}`);
  const repeated = devices.find(
    ({ kind, id }, i) => devices.findIndex((each) => each.kind === kind && each.id === id) !== i,
  );
  if (repeated)
    throw fail(`two ${repeated.kind} devices have the id ${repeated.id} (expected different ids)`);
  if (rootWordsOf(devices).length > 1) throw fail('two of them are root devices (expected at most one)');
  if (pci) {
    const most = acpi ? MAX_PCI_SLOTS - 1 : DEVICES_PER_BUS - 1;
    if (devices.length > most || pci.slots.length !== devices.length)
      throw fail(
        `${devices.length} devices on PCI (expected ${pci.slots.length === devices.length ? `at most ${most}` : `${pci.slots.length}, one for each of volt.pci_slots`})`,
      );
    return;
  }
  if (devices.length > VIRTIO_GSIS.length) {
    throw fail(
      `${devices.length} virtio devices (expected at most ${VIRTIO_GSIS.length}, one per interrupt, or ${MAX_PCI_SLOTS - 1} with --pci)`,
    );
  }
  const isa = VIRTIO_GSIS.filter((gsi) => gsi < ISA_IRQ_COUNT).length;
  if (!acpi && devices.length > isa) {
    throw fail(
      `${devices.length} virtio devices without ACPI (expected at most ${isa}, because MP tables have ISA interrupts only)`,
    );
  }
}

/**
 * Unknown keys of a device's section, as `section.key` or `section[i].key`; undefined: not a device's
 * section.
 */
export function unknownDeviceKeys(section: string, content: unknown): string[] | undefined {
  const spec = ALL_SPECS.find((each) => each.section === section);
  if (!spec) return undefined;
  const known = spec.entries();
  const unknownIn = (object: unknown, path: string) =>
    Object.keys((object ?? {}) as object)
      .filter((key) => !Object.hasOwn(known, key))
      .map((key) => `${path}.${key}`);
  if (!spec.isList) return unknownIn(content, section);
  return ((content ?? []) as readonly unknown[]).flatMap((item, i) => unknownIn(item, `${section}[${i}]`));
}
