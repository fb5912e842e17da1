/** The socket device in a configuration, in the shape of Firecracker's section `vsock`. */
import * as v from 'valibot';
import { MAX_GUEST_CID, MIN_GUEST_CID } from './regs.ts';
import { section, text, wholeNumber } from '../../schema/values.ts';

export interface VsockConfig {
  readonly kind: 'vsock';
  readonly id: string;
  readonly guestCid: number;
  /** The Unix socket that programs on the host connect to; those that serve the guest listen at `PATH_PORT`. */
  readonly path: string;
}

export const VSOCK = { guest_cid: wholeNumber(MIN_GUEST_CID, MAX_GUEST_CID), uds_path: text } as const;

export const VsockSchema = v.pipe(
  section(VSOCK),
  v.transform(({ guest_cid, uds_path }): VsockConfig => ({
    kind: 'vsock',
    id: 'vsock',
    guestCid: guest_cid,
    path: uds_path,
  })),
);
