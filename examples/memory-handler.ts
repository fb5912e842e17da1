/**
 * Supplies the memory of a restored guest page by page, from a snapshot's memory file, when the guest first touches
 * each. It serves one guest, and ends when that closes the connection, which Volt keeps as long as the guest exists.
 * (Firecracker speaks the same protocol, but closes the connection at once.)
 *
 * Usage: npx bun examples/memory-handler.ts SOCKET MEMORY-FILE
 */
import { dlopen, FFIType, ptr, read, type Pointer } from 'bun:ffi';
import { closeSync, openSync, rmSync, statSync } from 'node:fs';

const { symbols: libc } = dlopen('libc.so.6', {
  __errno_location: { args: [], returns: 'ptr' },
  socket: { args: ['i32', 'i32', 'i32'], returns: 'i32' },
  bind: { args: ['i32', 'ptr', 'u32'], returns: 'i32' },
  listen: { args: ['i32', 'i32'], returns: 'i32' },
  accept: { args: ['i32', 'ptr', 'ptr'], returns: 'i32' },
  recvmsg: { args: ['i32', 'ptr', 'i32'], returns: FFIType.i64_fast },
  mmap: { args: ['ptr', 'u64', 'i32', 'i32', 'i32', 'i64'], returns: 'ptr' },
  poll: { args: ['ptr', 'u64', 'i32'], returns: 'i32' },
  read: { args: ['i32', 'ptr', 'u64'], returns: FFIType.i64_fast },
  ioctl: { args: ['i32', 'u64', 'ptr'], returns: 'i32' },
});

/** What the guest's VMM sends for each region of RAM. */
interface Mapping {
  readonly base_host_virt_addr: number;
  readonly size: number;
  readonly offset: number;
  readonly page_size: number;
}

// linux/userfaultfd.h
const UFFDIO_COPY = 0xc028_aa03;
const EVENT = { pageFault: 0x12, remove: 0x15 } as const;
const MESSAGE_BYTES = 32;
const [EAGAIN, EEXIST] = [11, 17];
const POLLIN = 1;

const errno = () => read.i32(libc.__errno_location() as Pointer, 0);
const check = (result: number, call: string) => {
  if (result < 0) throw new Error(`${call} failed with errno ${errno()}`);
  return result;
};

const [path, file] = process.argv.slice(2);
if (!path || !file) throw new Error('Usage: npx bun examples/memory-handler.ts SOCKET MEMORY-FILE');

const memoryFd = openSync(file, 'r');
const bytes = statSync(file).size;
// PROT_READ, MAP_PRIVATE
const source = Number(libc.mmap(null, bytes, 1, 2, memoryFd, 0));
closeSync(memoryFd);

rmSync(path, { force: true });
const listener = check(libc.socket(1, 1, 0), 'socket');
const address = Buffer.alloc(110);
address.writeUInt16LE(1, 0);
address.write(path, 2);
check(libc.bind(listener, address, address.length), 'bind');
check(libc.listen(listener, 1), 'listen');
console.log('listening');
const connection = check(libc.accept(listener, null, null), 'accept');
rmSync(path);

const { mappings, userfault } = receive(connection);
const pageBytes = mappings[0]!.page_size;
const zeroes = new Uint8Array(pageBytes);
/** Pages that the balloon has given back: they are zero from then on. */
const removed = new Set<number>();
let supplied = 0;

const message = new Uint8Array(64 * MESSAGE_BYTES);
const view = new DataView(message.buffer);
/** Faults that could not be served while a removal was pending. */
let faults: number[] = [];
// Two struct pollfd.
const waiting = new DataView(new ArrayBuffer(16));
[userfault, connection].forEach((fd, i) => {
  waiting.setInt32(8 * i, fd, true);
  waiting.setInt16(8 * i + 4, POLLIN, true);
});
for (;;) {
  libc.poll(new Uint8Array(waiting.buffer), 2, faults.length > 0 ? 0 : -1);
  // Volt sends nothing more on the connection, so this is its end.
  if (waiting.getInt16(8 + 6, true) !== 0) break;
  const got = Number(libc.read(userfault, message, message.length));
  for (let at = 0; at < got; at += MESSAGE_BYTES) {
    const event = view.getUint8(at);
    const [first, second] = [view.getBigUint64(at + 8, true), view.getBigUint64(at + 16, true)].map(Number);
    if (event === EVENT.pageFault) faults.push(second! - (second! % pageBytes));
    if (event === EVENT.remove) for (let page = first!; page < second!; page += pageBytes) removed.add(page);
  }
  const tried = faults;
  faults = [];
  for (const page of tried) {
    const result = supply(page);
    if (result === EAGAIN) faults.push(page);
  }
}
console.log(`supplied ${supplied} pages`);

/** UFFDIO_COPY of one page. Returns 0 or errno. */
function supply(page: number): number {
  const mapping = mappings.find(
    (m) => page >= m.base_host_virt_addr && page < m.base_host_virt_addr + m.size,
  );
  if (!mapping) throw new Error(`page fault at ${page.toString(16)}, which is no guest memory`);
  const from = source + mapping.offset + (page - mapping.base_host_virt_addr);
  const request = new BigUint64Array([
    BigInt(page),
    BigInt(removed.has(page) ? Number(ptr(zeroes)) : from),
    BigInt(pageBytes),
    0n,
    0n,
  ]);
  if (libc.ioctl(userfault, UFFDIO_COPY, request) === 0) {
    supplied++;
    return 0;
  }
  // Two vCPUs may have asked for the same page.
  return errno() === EEXIST ? 0 : errno();
}

/** The regions as JSON, with the userfaultfd by SCM_RIGHTS. */
function receive(fd: number): { mappings: readonly Mapping[]; userfault: number } {
  const text = new Uint8Array(4096);
  const control = new Uint8Array(24);
  const iovec = new BigUint64Array([BigInt(Number(ptr(text))), BigInt(text.length)]);
  const header = new BigUint64Array([
    ...[0n, 0n, BigInt(Number(ptr(iovec))), 1n],
    ...[BigInt(Number(ptr(control))), BigInt(control.length), 0n],
  ]);
  const got = check(Number(libc.recvmsg(fd, header, 0)), 'recvmsg');
  return {
    mappings: JSON.parse(Buffer.from(text.subarray(0, got)).toString()) as Mapping[],
    userfault: new DataView(control.buffer).getInt32(16, true),
  };
}
