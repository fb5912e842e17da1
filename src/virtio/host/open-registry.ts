/** From a device's configuration to its open files, on the main thread. */
import type { DeviceConfig } from './spec-registry.ts';
import type { PmemConfig } from '../pmem/spec.ts';
import type { PmemPlace } from '../pmem/placement.ts';
import { openBalloonDevice } from '../balloon/open.ts';
import { openBlockDevice } from '../block/open.ts';
import { openConsoleDevice } from '../console/open.ts';
import { openEntropyDevice } from '../entropy/open.ts';
import { openTapDevice } from '../net/open.ts';
import { openPmemDevice } from '../pmem/open.ts';
import { openShareDevice } from '../share/open.ts';
import { openUserNetDevice } from '../net/passt.ts';
import { openVsockDevice } from '../vsock/open.ts';
import type { OpenDevice } from './device-set.ts';

/** Devices of machines that live, but for disks and persistent memory, which keep their files themselves. */
const inUse = new Map<DeviceConfig, OpenDevice>();
let kept: ReadonlyMap<DeviceConfig, OpenDevice> | undefined;

/**
 * Before the sandbox is entered, in which no tap, no socket, no passt and no virtiofsd can be had any more: a machine that is made
 * anew after its guest's reset gets what the first one had. Closed when the process ends.
 */
export function keepDevicesOpen(): void {
  kept ??= new Map(inUse);
}

/** What the last machine of a process leaves open: sockets would stay behind. */
function closeAtExit(): void {
  for (const device of new Set([...inUse.values(), ...(kept?.values() ?? [])])) device.close();
}

/**
 * `pmem`: where each persistent memory lies. Throws VoltError 'image' or 'host' that says what is wrong with the device's
 * files.
 */
export function openDevice(config: DeviceConfig, pmem: readonly PmemPlace[]): OpenDevice {
  if (config.kind === 'pmem')
    return openPmemDevice(
      config,
      pmem.find(({ id }) => id === config.id)!,
    );
  const known = kept?.get(config);
  if (known) return { ...known, close: () => {} };
  const device = openAnew(config);
  if (config.kind === 'block') return device;
  process.off('exit', closeAtExit);
  process.on('exit', closeAtExit);
  inUse.set(config, device);
  return {
    ...device,
    close: () => {
      inUse.delete(config);
      if (!kept?.has(config)) device.close();
    },
  };
}

function openAnew(config: Exclude<DeviceConfig, PmemConfig>): OpenDevice {
  switch (config.kind) {
    case 'block':
      return openBlockDevice(config);
    case 'entropy':
      return openEntropyDevice(config);
    case 'net':
      return config.tap === undefined ? openUserNetDevice(config) : openTapDevice(config, config.tap);
    case 'vsock':
      return openVsockDevice(config);
    case 'console':
      return openConsoleDevice(config);
    case 'balloon':
      return openBalloonDevice(config);
    case 'share':
      return openShareDevice(config);
  }
}
