/**
 * Tap interfaces with virtio-net packet headers. (Linux Documentation/networking/tuntap.rst, linux/if_tun.h)
 */
import { ERRNO, SyscallError } from './errno.ts';
import { OPEN, openFile, OwnedFd } from './file.ts';
import { ioLibc } from './io-libc.ts';
import { asPointer, checked, lastErrno, libc, type HostPointer } from './libc.ts';
import { netLibc } from './net-libc.ts';
import { AF_INET, SOCK } from './socket-abi.ts';

const TUNSETIFF = 0x4004_54ca;
const TUNSETOFFLOAD = 0x4004_54d0;
const TUNSETVNETHDRSZ = 0x4004_54d8;
const TUNSETQUEUE = 0x4004_54d9;
const TUNGETIFF = 0x8004_54d2;
const SIOCGIFMTU = 0x8921;

const IFF = {
  tap: 0x0002,
  attachQueue: 0x0200,
  detachQueue: 0x0400,
  multiQueue: 0x0100,
  noPacketInfo: 0x1000,
  vnetHeader: 0x4000,
} as const;

export const TAP_OFFLOAD = { csum: 0x01, tso4: 0x02, tso6: 0x04, ecn: 0x08, ufo: 0x10 } as const;

/** `struct ifreq`: a name of up to 15 characters, then a union. (linux/if.h) */
const IFREQ = { name: 0x00, flags: 0x10, mtu: 0x10, size: 0x28 } as const;
const MAX_INTERFACE_NAME = 15;

const DATAGRAM_CLOEXEC = SOCK.datagram | SOCK.closeOnExec;

function requestFor(name: string): DataView {
  const request = new Uint8Array(IFREQ.size);
  request.set(Buffer.from(name, 'latin1').subarray(0, MAX_INTERFACE_NAME), IFREQ.name);
  return new DataView(request.buffer);
}

function bytesOf(view: DataView): Uint8Array {
  return new Uint8Array(view.buffer);
}

/** The MTU of a network interface in bytes; undefined when it does not exist. Throws SyscallError. */
export function interfaceMtu(name: string): number | undefined {
  using socket = new OwnedFd(checked(libc.socket(AF_INET, DATAGRAM_CLOEXEC, 0), 'socket'));
  const request = requestFor(name);
  // SAFETY: the kernel accesses one struct ifreq, which is local, during the call; the same holds below.
  if (libc.ioctl(socket.fd, SIOCGIFMTU, bytesOf(request)) === 0) return request.getInt32(IFREQ.mtu, true);
  const errno = lastErrno();
  if (errno === ERRNO.ENODEV) return undefined;
  throw new SyscallError('SIOCGIFMTU', errno);
}

/**
 * Opens `queues` non-blocking queues of an existing tap, with a virtio-net header of `headerBytes` before
 * each packet. Throws SyscallError: EPERM when another user owns the tap, EBUSY when it is in use, EINVAL
 * when it is not a tap or has other flags.
 */
export function openTap(name: string, queues: number, headerBytes: number): OwnedFd[] {
  const opened: OwnedFd[] = [];
  try {
    for (let i = 0; i < queues; i++) opened.push(openTapQueue(name, queues > 1, headerBytes));
    return opened;
  } catch (error) {
    for (const fd of opened) fd.close();
    throw error;
  }
}

/** Whether an open tap may have several queues. Throws SyscallError. */
export function isMultiQueueTap(fd: number): boolean {
  const request = requestFor('');
  // SAFETY: the kernel writes one struct ifreq, which is local, during the call.
  checked(libc.ioctl(fd, TUNGETIFF, bytesOf(request)), 'TUNGETIFF');
  return (request.getUint16(IFREQ.flags, true) & IFF.multiQueue) !== 0;
}

function openTapQueue(name: string, multiQueue: boolean, headerBytes: number): OwnedFd {
  const file = openFile('/dev/net/tun', OPEN.readWrite | OPEN.nonBlocking);
  try {
    attach(file.fd, name, multiQueue);
    const size = Int32Array.of(headerBytes);
    checked(libc.ioctl(file.fd, TUNSETVNETHDRSZ, size), 'TUNSETVNETHDRSZ');
    return file;
  } catch (error) {
    file.close();
    throw error;
  }
}

function attach(fd: number, name: string, multiQueue: boolean): void {
  const request = requestFor(name);
  const flags = IFF.tap | IFF.noPacketInfo | IFF.vnetHeader;
  const trySet = (each: number) => {
    request.setUint16(IFREQ.flags, each, true);
    return libc.ioctl(fd, TUNSETIFF, bytesOf(request));
  };
  // A tap that was created with IFF_MULTI_QUEUE must be attached with it.
  if (!multiQueue && trySet(flags) === 0) return;
  if (!multiQueue && lastErrno() !== ERRNO.EINVAL) throw new SyscallError('TUNSETIFF', lastErrno());
  checked(trySet(flags | IFF.multiQueue), 'TUNSETIFF');
}

/**
 * TUNSETOFFLOAD: offloads that the reader of the tap accepts, bits of TAP_OFFLOAD, for all queues. Throws
 * SyscallError.
 */
export function setTapOffloads(fd: number, offloads: number): void {
  // SAFETY: the argument is a number; the kernel does not dereference it.
  checked(libc.ioctl(fd, TUNSETOFFLOAD, asPointer(offloads as HostPointer)), 'TUNSETOFFLOAD');
}

/**
 * TUNSETQUEUE: attaches or detaches a queue of a multi-queue tap. Throws SyscallError EINVAL if that is its
 * state already.
 */
export function setTapQueue(fd: number, attached: boolean): void {
  const request = requestFor('');
  request.setUint16(IFREQ.flags, attached ? IFF.attachQueue : IFF.detachQueue, true);
  checked(libc.ioctl(fd, TUNSETQUEUE, bytesOf(request)), 'TUNSETQUEUE');
}

/**
 * readv(2) of `count` iovecs from iovec `first` on, four words each. Returns the number of bytes read, or
 * -errno.
 * SAFETY: the caller has checked that every iovec lies in mapped memory, which stays mapped during the call.
 */
export function readVector(fd: number, words: Uint32Array, first: number, count: number): number {
  const done = Number(netLibc().readv(fd, first === 0 ? words : words.subarray(4 * first), count));
  return done >= 0 ? done : -lastErrno();
}

/** Writes one packet to a tap; a full or deleted one drops it. */
export function writeBytes(fd: number, packet: Uint8Array): void {
  // SAFETY: the kernel reads `packet`, which is local, during the call.
  ioLibc().write(fd, packet, packet.length);
}

/** writev(2), like `readVector`. SAFETY: as above. */
export function writeVector(fd: number, words: Uint32Array, first: number, count: number): number {
  const done = Number(netLibc().writev(fd, first === 0 ? words : words.subarray(4 * first), count));
  return done >= 0 ? done : -lastErrno();
}
