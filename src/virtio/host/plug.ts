/**
 * Devices that are plugged into a running guest. Its process is in a sandbox and opens nothing, so a client opens their
 * files, by the code that opens those of a device at the start, and passes the descriptors.
 */
import { resolve } from 'node:path';
import type { OwnedFd } from '../../ffi/file.ts';
import { VoltError } from '../../volt-error.ts';
import { adoptBlock, openDisk } from '../block/open.ts';
import { adoptTap, openQueues } from '../net/open-tap.ts';
import type { JsonObject } from './device-spec.ts';
import type { OpenDevice } from './open-device.ts';
import type { ConfigOf, DeviceConfig } from './specs.ts';

export type PluggableConfig = ConfigOf<'block'> | ConfigOf<'net'>;

export interface FilesToPass extends Disposable {
  readonly fds: readonly number[];
  /** MTU of a tap. */
  readonly mtu?: number;
}

/** Throws VoltError 'usage' for a device whose files one process cannot open for another. */
export function checkPluggable(config: DeviceConfig): PluggableConfig {
  const fail = (found: string, fix: string) =>
    new VoltError('usage', `Cannot plug ${config.id}: ${found}; ${fix}`);
  if (config.kind === 'net') {
    if (config.tap === undefined) throw fail('user-mode networking needs a helper process', 'use tap=NAME');
    if (config.creates) throw fail('a tap that Volt creates ends with Volt', 'create the tap first');
    return config;
  }
  if (config.kind !== 'block')
    throw fail(`it is a ${config.kind} device`, 'plug a disk or a network interface');
  if (config.backEnd) throw fail('its back-end is a helper process', 'use a file or a block device');
  if (config.overlay !== undefined)
    throw fail('an overlay cannot be plugged', 'use the disk itself, or readonly');
  if (config.direct) throw fail('direct I/O cannot be set up in the sandbox', 'omit direct');
  if (config.root) throw fail('the guest has its root disk', 'omit root');
  return config;
}

/** Opens the files of a device, for the process of the guest. Throws VoltError. */
export function openForPlug(config: PluggableConfig): FilesToPass {
  if (config.kind === 'block') {
    const file = openDisk(config);
    return { fds: [file.fd], [Symbol.dispose]: () => file[Symbol.dispose]() };
  }
  const { files, mtu } = openQueues(config.tap!, config.queues, false);
  const close = () => files.forEach((file) => file.close());
  return { fds: files.map(({ fd }) => fd), mtu, [Symbol.dispose]: close };
}

/** The item of a configuration file with paths that do not depend on the process's directory. */
export function withAbsolutePath(item: JsonObject): JsonObject {
  const path = item['path_on_host'];
  return typeof path === 'string' ? { ...item, path_on_host: resolve(path) } : item;
}

/** How many descriptors a device has. */
export function filesOf(config: PluggableConfig): number {
  return config.kind === 'block' ? 1 : config.queues;
}

/** In the process of the guest: the device of the files that came. Takes them over, also when it throws. */
export function adoptDevice(config: PluggableConfig, files: readonly OwnedFd[], mtu: number): OpenDevice {
  return config.kind === 'block' ? adoptBlock(config, files[0]!) : adoptTap(config, { files, mtu });
}
