/** The kernel's own virtio-net back-end, /dev/vhost-net. (linux/vhost.h, linux/vhost_types.h) */
import { putU64, viewOf } from '../binary/bytes.ts';
import { OPEN, openFile, type OwnedFd } from './file.ts';
import { checked, libc } from './libc.ts';

const VHOST = {
  getFeatures: 0x8008_af00,
  setFeatures: 0x4008_af00,
  setOwner: 0xaf01,
  setMemTable: 0x4008_af03,
  setLogBase: 0x4008_af04,
  setVringNum: 0x4008_af10,
  setVringAddr: 0x4028_af11,
  setVringBase: 0x4008_af12,
  getVringBase: 0xc008_af12,
  setVringKick: 0x4008_af20,
  setVringCall: 0x4008_af21,
  setVringErr: 0x4008_af22,
  netSetBackend: 0x4008_af30,
} as const;

/** `struct vhost_memory` and its `struct vhost_memory_region`. */
const MEMORY = { count: 0x00, regions: 0x08 } as const;
const REGION = { guest: 0x00, bytes: 0x08, user: 0x10, size: 0x20 } as const;
/** `struct vhost_vring_addr`. */
const RING_ADDRESS = { index: 0x00, descriptors: 0x08, used: 0x10, available: 0x18, size: 0x28 } as const;
const NO_BACKEND = -1;

/** Feature bits as two words. */
export type VhostFeatures = readonly [low: number, high: number];

/** A virtqueue by addresses in this process, which lie in guest RAM. */
export interface KernelRing {
  readonly size: number;
  readonly base: number;
  readonly descriptors: number;
  readonly available: number;
  readonly used: number;
  readonly kickFd: number;
  readonly callFd: number;
  readonly errorFd: number;
}

export interface KernelRegion {
  readonly address: number;
  readonly bytes: number;
  readonly host: number;
}

/** Opens a back-end for one pair of queues, which works in this process's memory from now on. Throws SyscallError. */
export function openVhostNet(): OwnedFd {
  const file = openFile('/dev/vhost-net', OPEN.readWrite);
  try {
    checked(libc.ioctl(file.fd, VHOST.setOwner, null), 'VHOST_SET_OWNER');
    return file;
  } catch (error) {
    file.close();
    throw error;
  }
}

/** Features that the kernel can serve. Throws SyscallError, as all functions below. */
export function vhostFeaturesOf(fd: number): VhostFeatures {
  const words = new Uint32Array(2);
  request(fd, VHOST.getFeatures, words, 'VHOST_GET_FEATURES');
  return [words[0]!, words[1]!];
}

/** Also while the rings run: the bit VHOST_F_LOG_ALL turns the log on and off. */
export function setVhostFeatures(fd: number, [low, high]: VhostFeatures): void {
  request(fd, VHOST.setFeatures, Uint32Array.of(low, high), 'VHOST_SET_FEATURES');
}

/**
 * SAFETY: `regions` are mapped, and stay mapped until `stopVhostRing` has returned for every ring: the kernel reads and
 * writes there whatever descriptors say, and nowhere else.
 */
export function setVhostMemory(fd: number, regions: readonly KernelRegion[]): void {
  const bytes = new Uint8Array(MEMORY.regions + regions.length * REGION.size);
  const view = viewOf(bytes);
  view.setUint32(MEMORY.count, regions.length, true);
  regions.forEach(({ address, bytes: length, host }, i) => {
    const at = MEMORY.regions + i * REGION.size;
    putU64(view, at + REGION.guest, address);
    putU64(view, at + REGION.bytes, length);
    putU64(view, at + REGION.user, host);
  });
  request(fd, VHOST.setMemTable, bytes, 'VHOST_SET_MEM_TABLE');
}

/**
 * The kernel notes pages that it writes in the bitmap at `host`: bit n, by bytes, is guest page n.
 * SAFETY: the bitmap covers all guest RAM and is mapped as long as the descriptor is open.
 */
export function setVhostLog(fd: number, host: number): void {
  const bytes = new Uint8Array(8);
  putU64(viewOf(bytes), 0, host);
  request(fd, VHOST.setLogBase, bytes, 'VHOST_SET_LOG_BASE');
}

/**
 * Hands ring 0 (receive) or 1 (transmit) and the tap to the kernel.
 * SAFETY: the three areas lie in the regions of `setVhostMemory`; the kernel checks that they are of this process.
 */
export function startVhostRing(fd: number, index: number, ring: KernelRing, tapFd: number): void {
  request(fd, VHOST.setVringNum, Uint32Array.of(index, ring.size), 'VHOST_SET_VRING_NUM');
  request(fd, VHOST.setVringBase, Uint32Array.of(index, ring.base), 'VHOST_SET_VRING_BASE');
  const address = new Uint8Array(RING_ADDRESS.size);
  const view = viewOf(address);
  view.setUint32(RING_ADDRESS.index, index, true);
  putU64(view, RING_ADDRESS.descriptors, ring.descriptors);
  putU64(view, RING_ADDRESS.used, ring.used);
  putU64(view, RING_ADDRESS.available, ring.available);
  request(fd, VHOST.setVringAddr, address, 'VHOST_SET_VRING_ADDR');
  request(fd, VHOST.setVringErr, Int32Array.of(index, ring.errorFd), 'VHOST_SET_VRING_ERR');
  request(fd, VHOST.setVringCall, Int32Array.of(index, ring.callFd), 'VHOST_SET_VRING_CALL');
  request(fd, VHOST.setVringKick, Int32Array.of(index, ring.kickFd), 'VHOST_SET_VRING_KICK');
  request(fd, VHOST.netSetBackend, Int32Array.of(index, tapFd), 'VHOST_NET_SET_BACKEND');
}

/** Takes a ring back: the kernel has completed what it took. Returns where the ring stands. */
export function stopVhostRing(fd: number, index: number): number {
  request(fd, VHOST.netSetBackend, Int32Array.of(index, NO_BACKEND), 'VHOST_NET_SET_BACKEND');
  const state = Uint32Array.of(index, 0);
  request(fd, VHOST.getVringBase, state, 'VHOST_GET_VRING_BASE');
  return state[1]! & 0xffff;
}

function request(
  fd: number,
  number: number,
  argument: Uint8Array | Uint32Array | Int32Array,
  name: string,
): void {
  // SAFETY: the kernel accesses `argument`, which has the size that the request's number names, during the call.
  checked(libc.ioctl(fd, number, argument), name);
}
