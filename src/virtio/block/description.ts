/** Features, queues and configuration space of a block device. (Virtual I/O Device 1.2 §5.2.2 to §5.2.4) */
import { putU64, viewOf } from '../../binary/bytes.ts';
import { BLOCK_CONFIG, BLOCK_FEATURE, SECTOR_BYTES } from './regs.ts';
import type { DeviceDescription } from '../transport/device.ts';
import { DEVICE_TYPE } from '../transport/mmio.regs.ts';

export interface BlockShape {
  /** Serial number for VIRTIO_BLK_T_GET_ID, cut to BLOCK_ID_BYTES. */
  readonly id: string;
  readonly sectors: number;
  readonly readOnly: boolean;
  readonly queues: number;
  /** Logical block size in bytes: 512 or 4096. */
  readonly blockBytes: number;
  /** Offers VIRTIO_BLK_F_FLUSH; without it the driver assumes a write-through cache. (§5.2.5.2) */
  readonly flush: boolean;
}

const QUEUE_SIZE = 256;
/** With its header and status a request then fits the queue without indirect descriptors. */
const MAX_DATA_SEGMENTS = QUEUE_SIZE - 2;
export const MAX_RANGE_SEGMENTS = 64;
/** 1 GiB in one discard or write-zeroes segment. */
const MAX_RANGE_SECTORS = 2 ** 30 / SECTOR_BYTES;

export function describeBlock(shape: BlockShape): DeviceDescription {
  const { readOnly, queues, blockBytes } = shape;
  const config = new Uint8Array(BLOCK_CONFIG.size);
  const view = viewOf(config);
  putU64(view, BLOCK_CONFIG.capacity, shape.sectors);
  view.setUint32(BLOCK_CONFIG.segMax, MAX_DATA_SEGMENTS, true);
  view.setUint32(BLOCK_CONFIG.blockSize, blockBytes, true);
  view.setUint16(BLOCK_CONFIG.minIoSize, 1, true);
  view.setUint16(BLOCK_CONFIG.numQueues, queues, true);
  view.setUint32(BLOCK_CONFIG.maxDiscardSectors, MAX_RANGE_SECTORS, true);
  view.setUint32(BLOCK_CONFIG.maxDiscardSegments, MAX_RANGE_SEGMENTS, true);
  view.setUint32(BLOCK_CONFIG.discardSectorAlignment, blockBytes / SECTOR_BYTES, true);
  view.setUint32(BLOCK_CONFIG.maxWriteZeroesSectors, MAX_RANGE_SECTORS, true);
  view.setUint32(BLOCK_CONFIG.maxWriteZeroesSegments, MAX_RANGE_SEGMENTS, true);
  view.setUint8(BLOCK_CONFIG.writeZeroesMayUnmap, 1);
  const F = BLOCK_FEATURE;
  return {
    type: DEVICE_TYPE.block,
    features: [
      F.segMax,
      F.blockSize,
      F.topology,
      ...(shape.flush ? [F.flush] : []),
      ...(queues > 1 ? [F.multiQueue] : []),
      ...(readOnly ? [F.readOnly] : [F.discard, F.writeZeroes]),
    ],
    queueSizes: Array.from({ length: queues }, () => QUEUE_SIZE),
    config,
  };
}
