/** Features and configuration space of a disk that a back-end serves: those of the back-end. */
import { viewOf } from '../../../binary/bytes.ts';
import type { DeviceDescription } from '../../transport/device.ts';
import { DEVICE_TYPE } from '../../transport/mmio.regs.ts';
import { vhostFeatures, vhostRingFeatures } from '../../vhost-user/device.ts';
import type { VhostAgreement } from '../../vhost-user/session.ts';
import { BLOCK_CONFIG, BLOCK_FEATURE } from '../regs.ts';

export const BACK_END_QUEUE_SIZE = 256;

export function describeBackEnd(
  agreement: VhostAgreement,
  backEndConfig: Uint8Array,
  { queues, flush }: { readonly queues: number; readonly flush: boolean },
): DeviceDescription {
  const left: number[] = [
    ...(flush ? [] : [BLOCK_FEATURE.flush]),
    ...(queues > 1 ? [] : [BLOCK_FEATURE.multiQueue]),
  ];
  const config = Uint8Array.from(backEndConfig);
  viewOf(config).setUint16(BLOCK_CONFIG.numQueues, queues, true);
  return {
    type: DEVICE_TYPE.block,
    features: vhostFeatures(agreement, Object.values(BLOCK_FEATURE)).filter((bit) => !left.includes(bit)),
    ringFeatures: vhostRingFeatures(agreement),
    queueSizes: Array.from({ length: queues }, () => BACK_END_QUEUE_SIZE),
    config,
    servedByBackend: true,
    backendIsStateless: true,
  };
}
