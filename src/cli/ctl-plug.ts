/** `volt ctl PID plug disk=…` and `unplug ID`. */
import { ALL_SPECS, connectControl, VoltError, type ControlResult } from '../api/index.ts';
import { plugDevice } from '../api/control/plug-device.ts';
import { printable } from './ctl-format.ts';

const SECTIONS = { disk: 'drives', net: 'network-interfaces' } as const;
const MOST_DEVICES = 1000;
/** Longer than Volt waits for the guest. */
const UNPLUG_TIMEOUT_MS = 60_000;

/** `device` is `disk=` or `net=` with what `--disk` or `--net` takes. Throws VoltError. */
export async function plug(socket: string, device: string): Promise<ControlResult<'plug'>> {
  const match = /^(disk|net)=(.+)$/s.exec(device);
  if (!match)
    throw new VoltError('usage', `Cannot plug ${device} (expected disk=… or net=…, as for --disk and --net)`);
  const [, name, value] = match as unknown as [string, keyof typeof SECTIONS, string];
  const section = SECTIONS[name];
  const { flag, hostSide } = ALL_SPECS.find((spec) => spec.section === section)!;
  using client = await connectControl(socket);
  const taken = new Set((await client.call('devices', {})).map(({ id }) => id));
  // Of the default ids, the first one that is free.
  const isFree = (index: number) => !taken.has(String(flag.parse(value, index)[hostSide!.idKey!]));
  const indexes = Array.from({ length: MOST_DEVICES }, (_, index) => index);
  const item = flag.parse(value, indexes.find(isFree) ?? 0);
  return await plugDevice(client, section, item);
}

export function formatPlugged({ id, address, answered }: ControlResult<'plug'>): string {
  const where = `${printable(id)} is at ${printable(address)}`;
  return answered
    ? `${where}\n`
    : `${where}; the guest has not answered: it finds the device when it looks for it, or after its reset\n`;
}

export function formatUnplugged({ id }: ControlResult<'unplug'>): string {
  return `${printable(id)} is removed\n`;
}

/** Throws VoltError: with code 'guest' when the guest keeps the device. */
export async function unplug(socket: string, id: string): Promise<ControlResult<'unplug'>> {
  using client = await connectControl(socket);
  return await client.call('unplug', { id }, UNPLUG_TIMEOUT_MS);
}
