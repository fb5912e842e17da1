/** KVM's PIT. (Linux Documentation/virt/kvm/api.rst §4.71 and §4.72) */
import { viewOf } from '../binary/bytes.ts';
import { ERRNO, SyscallError } from '../ffi/errno.ts';
import { checked, lastErrno, libc } from '../ffi/libc.ts';
import type { PitChange } from '../machine/pit-change.ts';
import { IOCTL, PIT_CHANNEL, PIT_CONFIG, PIT_SPEAKER_DATA_ON, PIT_SPEAKER_DUMMY, PIT_STATE } from './abi.ts';

/**
 * Makes the VM's PIT, unless it has one, and changes it as the write did that came before there was one. From then on
 * KVM answers the ports itself. Throws SyscallError.
 */
export function startPit(vmFd: number, change: PitChange | undefined): void {
  const config = new Uint8Array(PIT_CONFIG.size);
  // Port 0x61 is answered too, because kernels calibrate the TSC with PIT channel 2 through it.
  viewOf(config).setUint32(PIT_CONFIG.flags, PIT_SPEAKER_DUMMY, true);
  if (libc.ioctl(vmFd, IOCTL.createPit2, config) < 0) {
    const errno = lastErrno();
    // Two vCPUs came for it at the same time.
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
