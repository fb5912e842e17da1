/** What a device worker needs to plug memory. */
import type { HotplugRegion } from '../../memory/hotplug-slots.ts';

/** Hotpluggable memory as a worker gets it from the main thread. */
export interface HotplugStart {
  readonly vmFd: number;
  readonly region: HotplugRegion;
  readonly buffer: SharedArrayBuffer;
  readonly kind: 'private' | 'shared' | 'hugepages';
}
