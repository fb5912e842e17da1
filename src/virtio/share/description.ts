/** Queues and configuration space of the file system device. (Virtual I/O Device 1.2 §5.11.2, §5.11.4) */
import { viewOf } from '../../binary/bytes.ts';
import type { DeviceDescription } from '../transport/device.ts';
import { DEVICE_TYPE } from '../transport/mmio.regs.ts';
import { vhostRingFeatures } from '../vhost-user/device.ts';
import type { VhostAgreement } from '../vhost-user/session.ts';
import { FS_CONFIG, FS_QUEUE } from './regs.ts';

/** One high priority and one request queue, which is what virtiofsd serves. */
export const SHARE_QUEUES = FS_QUEUE.firstRequest + 1;
/** Linux bounds its requests by the queue size. */
const QUEUE_SIZE = 1024;

export function describeShare(tag: string, agreement: VhostAgreement): DeviceDescription {
  const config = new Uint8Array(FS_CONFIG.size);
  config.set(Buffer.from(tag), FS_CONFIG.tag);
  viewOf(config).setUint32(FS_CONFIG.requestQueues, SHARE_QUEUES - FS_QUEUE.firstRequest, true);
  return {
    type: DEVICE_TYPE.fs,
    features: [],
    ringFeatures: vhostRingFeatures(agreement),
    queueSizes: Array.from({ length: SHARE_QUEUES }, () => QUEUE_SIZE),
    config,
    servedByBackend: true,
  };
}
