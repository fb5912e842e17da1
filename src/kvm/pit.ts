/** KVM's in-kernel PIT. (api.rst, KVM_CREATE_PIT2, KVM_GET_PIT2, KVM_SET_PIT2) */
import { viewOf } from '../binary/bytes.ts';
import { ERRNO, SyscallError } from '../ffi/errno.ts';
import { checked, lastErrno, libc } from '../ffi/libc.ts';
import type { PitChange } from '../machine/pit-change.ts';
import { IOCTL, PIT_CHANNEL, PIT_CONFIG, PIT_SPEAKER_DATA_ON, PIT_SPEAKER_DUMMY, PIT_STATE } from './abi.ts';

/**
 * Creates the VM's PIT unless it exists, then applies the guest's first write, which `change` describes. From
 * then on KVM handles the PIT's ports itself. Throws SyscallError.
 */
export function startPit(vmFd: number, change: PitChange | undefined): void {
  // SAFETY: KVM reads and writes each structure, which is local, only during its call.
  const config = new Uint8Array(PIT_CONFIG.size);
  // KVM then handles port 0x61 too: kernels calibrate the TSC with PIT channel 2 through it.
  viewOf(config).setUint32(PIT_CONFIG.flags, PIT_SPEAKER_DUMMY, true);
  if (libc.ioctl(vmFd, IOCTL.createPit2, config) < 0) {
    const errno = lastErrno();
    // Two vCPUs wrote to the PIT at the same time and the other one created it.
    if (errno !== ERRNO.EEXIST) throw new SyscallError('KVM_CREATE_PIT2', errno);
  }
  if (change === undefined) return;
  const state = new Uint8Array(PIT_STATE.size);
  checked(libc.ioctl(vmFd, IOCTL.getPitState, state), 'KVM_GET_PIT2');
  putChange(viewOf(state), change);
  checked(libc.ioctl(vmFd, IOCTL.setPitState, state), 'KVM_SET_PIT2');
}

function putChange(state: DataView, change: PitChange): void {
  const channel = PIT_STATE.channels + change.channel * PIT_CHANNEL.size;
  switch (change.kind) {
    case 'control':
      for (const field of [PIT_CHANNEL.rwMode, PIT_CHANNEL.readState, PIT_CHANNEL.writeState])
        state.setUint8(channel + field, change.access);
      state.setUint8(channel + PIT_CHANNEL.mode, change.mode);
      state.setUint8(channel + PIT_CHANNEL.bcd, change.bcd);
      return;
    case 'count':
      state.setUint32(channel + PIT_CHANNEL.count, change.count, true);
      return;
    case 'gate':
      state.setUint8(channel + PIT_CHANNEL.gate, change.gate);
      state.setUint32(PIT_STATE.flags, change.speaker ? PIT_SPEAKER_DATA_ON : 0, true);
  }
}
