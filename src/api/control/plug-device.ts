/** The client's side of `plug`: opens the files of a device for the guest's process. */
import { parseDevices } from '../../config/devices.ts';
import type { JsonObject } from '../../virtio/host/device-spec.ts';
import { checkPluggable, openForPlug, withAbsolutePath } from '../../virtio/host/plug.ts';
import { VoltError } from '../../volt-error.ts';
import type { ControlClient } from './client.ts';
import type { ParamsOf } from './protocol.ts';
import type { PlugResult } from './target.ts';

/** Longer than Volt waits for the guest. */
const TIMEOUT_MS = 60_000;

/**
 * Plugs a device into the guest behind `client`: `item` is one of the section of a configuration file. Throws
 * VoltError.
 */
export async function plugDevice(
  client: ControlClient,
  section: ParamsOf<'plug'>['section'],
  item: JsonObject,
): Promise<PlugResult> {
  const absolute = withAbsolutePath(item);
  const [parsed] = parseDevices({ [section]: [absolute] }, (path) => path);
  if (!parsed) throw new VoltError('usage', `Cannot plug a device of ${section}: it has no items`);
  using files = openForPlug(checkPluggable(parsed));
  const { fds, mtu } = files;
  return await client.callWithFiles(
    'plug',
    { section, item: { ...absolute }, ...(mtu === undefined ? {} : { mtu }) },
    async () => fds,
    TIMEOUT_MS,
  );
}
