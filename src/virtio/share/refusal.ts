/**
 * Refuses requests to a file system whose server is gone. Linux waits for each reply without a time limit, so
 * without one a process that uses the file system could not be killed, and the guest could not shut down.
 */
import { viewOf } from '../../binary/bytes.ts';
import type { DeviceContext } from '../transport/device.ts';
import { ENOTCONN, FUSE_IN_HEADER, FUSE_OUT_HEADER } from './regs.ts';
import type { Chain } from '../transport/queue.ts';
import { answerRequests } from '../vhost-user/answer-requests.ts';

/** Replies ENOTCONN to all requests in a queue. */
export function refuseRequests(context: DeviceContext, index: number): void {
  answerRequests(context, index, (chain) => refuse(context, chain));
}

/** Writes the reply. Returns its bytes: 0 for requests without a reply, such as FUSE_FORGET. */
function refuse({ ram }: DeviceContext, chain: Chain): number {
  if (chain.writableBytes < FUSE_OUT_HEADER.size) return 0;
  const request = new Uint8Array(FUSE_IN_HEADER.size);
  chain.copyOut(ram, 0, request);
  const reply = new Uint8Array(FUSE_OUT_HEADER.size);
  const view = viewOf(reply);
  view.setUint32(FUSE_OUT_HEADER.bytes, FUSE_OUT_HEADER.size, true);
  view.setInt32(FUSE_OUT_HEADER.error, -ENOTCONN, true);
  reply.set(request.subarray(FUSE_IN_HEADER.unique, FUSE_IN_HEADER.unique + 8), FUSE_OUT_HEADER.unique);
  return chain.copyIn(ram, 0, reply);
}
