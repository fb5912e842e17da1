/** Answers the requests of a disk whose back-end is gone. */
import type { DeviceContext } from '../../transport/device.ts';
import { answerRequests } from '../../vhost-user/answer-requests.ts';
import { BLOCK_STATUS } from '../regs.ts';

const STATUS = Uint8Array.of(BLOCK_STATUS.ioError);

/** Answers VIRTIO_BLK_S_IOERR to all requests in a queue. */
export function refuseRequests(context: DeviceContext, index: number): void {
  answerRequests(context, index, (chain) => {
    context.countError(index);
    if (chain.writableBytes === 0) return 0;
    // The status is the last device-writable byte. (Virtual I/O Device 1.2 §5.2.6)
    chain.copyIn(context.ram, chain.writableBytes - 1, STATUS);
    return 1;
  });
}
