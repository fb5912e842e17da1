/**
 * The configuration of a restored guest: that of its snapshot, with what the host gives it replaced. What a
 * guest sees of its machine stays, or its drivers would find another one. Pure.
 */
import { isSection } from '../schema/values.ts';
import type { DeviceSpec } from '../virtio/host/device-spec.ts';
import { ALL_SPECS, type DeviceConfig } from '../virtio/host/specs.ts';
import { VoltError } from '../volt-error.ts';
import type { ConfigInput } from './config.ts';

/** Keys of the section `volt` that a guest does not see. */
const HOST_KEYS = ['console', 'cpu_affinity', 'symbols', 'hang_report_s', 'reboot', 'exit_code'];

type Item = Readonly<Record<string, unknown>>;
type Spec = DeviceSpec<DeviceConfig>;

/**
 * `saved` with the sections of `over` merged in: of devices, which are found by their ids, the host's side.
 * Throws VoltError 'config' for a device that the guest does not have, and for anything that it sees.
 */
export function overrideConfig(saved: ConfigInput, over: ConfigInput): ConfigInput {
  const merged: Record<string, unknown> = { ...saved };
  for (const [name, content] of Object.entries(over)) {
    const spec = ALL_SPECS.find(({ section }) => section === name);
    if (spec) merged[name] = overrideDevices(spec, saved[name], content);
    else if (name === 'volt' && isSection(content)) merged[name] = overrideVolt(saved[name], content);
    else throw cannotChange(name, `the guest has its ${name} from its snapshot`);
  }
  return merged;
}

function overrideVolt(saved: unknown, over: Item): Item {
  const seen = Object.keys(over).find((key) => !HOST_KEYS.includes(key));
  if (seen !== undefined) throw cannotChange(`volt.${seen}`, 'the guest has it from its snapshot');
  return { ...(isSection(saved) ? saved : {}), ...over };
}

function overrideDevices(spec: Spec, saved: unknown, over: unknown): unknown {
  const { hostSide, flag, section, isList } = spec;
  if (!hostSide) throw cannotChange(`--${flag.name}`, 'nothing of this device can be changed');
  if (!isList) {
    if (!isSection(saved)) throw cannotChange(`--${flag.name}`, `the guest has no ${section}`);
    return overrideItem(spec, saved, isSection(over) ? over : {});
  }
  const items = (Array.isArray(saved) ? saved : []).filter(isSection);
  const given = (Array.isArray(over) ? over : []).filter(isSection);
  const idOf = (item: Item) => item[hostSide.idKey!];
  for (const item of given) {
    if (items.some((each) => idOf(each) === idOf(item))) continue;
    const ids = items.map((each) => String(idOf(each))).join(', ');
    throw cannotChange(
      `--${flag.name}`,
      `the guest has no ${String(idOf(item))} (expected id=${ids || '…, but it has none'})`,
    );
  }
  // Of two flags for one device the later one counts, as of two equal keys in JSON.
  return items.map((item) => {
    const found = given.findLast((each) => idOf(each) === idOf(item));
    return found ? overrideItem(spec, item, found) : item;
  });
}

function overrideItem({ hostSide, flag }: Spec, saved: Item, over: Item): Item {
  const { idKey, keys, keptKeys = [] } = hostSide!;
  const seen = Object.keys(over).find(
    (key) => key !== idKey && !keys.includes(key) && !keptKeys.includes(key) && over[key] !== saved[key],
  );
  if (seen !== undefined) {
    throw cannotChange(
      `--${flag.name}`,
      `${seen} is ${JSON.stringify(over[seen])}, which the guest would see`,
    );
  }
  const kept = Object.entries(saved).filter(([key]) => !keys.includes(key));
  return { ...Object.fromEntries(kept), ...over };
}

function cannotChange(what: string, found: string): VoltError {
  return new VoltError('config', `Cannot restore with another ${what}: ${found}; leave it out`);
}
