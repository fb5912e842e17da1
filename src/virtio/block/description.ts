/** What a block device tells its driver. */
import { putU64, viewOf } from '../../binary/bytes.ts';
import { BLOCK_CONFIG, BLOCK_FEATURE, SECTOR_BYTES } from './regs.ts';
import type { DeviceDescription } from '../transport/device.ts';
import { DEVICE_TYPE } from '../transport/mmio.regs.ts';

export interface BlockShape {
  /** At most BLOCK_ID_BYTES of it are told. */
  readonly id: string;
  readonly sectors: number;
  readonly readOnly: boolean;
  readonly queues: number;
  /** Smallest unit the disk likes, in bytes: 512 or 4096. */
  readonly blockBytes: number;
  /** Whether the driver has to flush what must not be lost; otherwise it takes every write for safe. */
  readonly flush: boolean;
}

const QUEUE_SIZE = 256;
/** With header and status a request fits the queue without indirect tables. */
const MAX_DATA_SEGMENTS = QUEUE_SIZE - 2;
export const MAX_SEGMENTS_AT_ONCE = 64;
/** 1 GiB in one range. */
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
  view.setUint32(BLOCK_CONFIG.maxDiscardSegments, MAX_SEGMENTS_AT_ONCE, true);
  view.setUint32(BLOCK_CONFIG.discardSectorAlignment, blockBytes / SECTOR_BYTES, true);
  view.setUint32(BLOCK_CONFIG.maxWriteZeroesSectors, MAX_RANGE_SECTORS, true);
  view.setUint32(BLOCK_CONFIG.maxWriteZeroesSegments, MAX_SEGMENTS_AT_ONCE, true);
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
