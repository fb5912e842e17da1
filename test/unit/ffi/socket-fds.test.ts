import { dlopen, FFIType, ptr } from 'bun:ffi';
import { afterEach, describe, expect, test } from 'bun:test';
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { ERRNO } from '../../../src/ffi/errno.ts';
import { sendWithFds, shutdownSocket, waitForSocket } from '../../../src/ffi/socket-fds.ts';
import { createSocketPair } from '../../../src/ffi/socket-pair.ts';
import { receiveBytes, sendBytes } from '../../../src/ffi/unix-stream.ts';
import { createConnectedListener } from '../../../src/ffi/connected-listener.ts';

/** Volt itself never takes a descriptor from anybody, so the receiving side is here. */
const { recvmsg, accept } = dlopen('libc.so.6', {
  recvmsg: { args: ['i32', 'ptr', 'i32'], returns: FFIType.i64_fast },
  accept: { args: ['i32', 'ptr', 'ptr'], returns: 'i32' },
}).symbols;

const stack: Disposable[] = [];
afterEach(() => stack.splice(0).forEach((each) => each[Symbol.dispose]()));

function createPair() {
  const pair = createSocketPair(true);
  stack.push(...pair);
  return pair.map(({ fd }) => fd) as [number, number];
}

/** Bytes and descriptors of one message, as recvmsg(2) gives them. */
function receiveWithFds(fd: number): { text: string; fds: number[] } {
  const [data, control] = [new Uint8Array(100), new Uint8Array(100)];
  const piece = BigUint64Array.of(BigInt(ptr(data)), 100n);
  const message = BigUint64Array.of(0n, 0n, BigInt(ptr(piece)), 1n, BigInt(ptr(control)), 100n, 0n);
  const got = Number(recvmsg(fd, message, 0));
  const bytes = Number(new BigUint64Array(control.buffer, 0, 1)[0]);
  const fds = bytes === 0 ? [] : [...new Int32Array(control.buffer, 16, (bytes - 16) / 4)];
  return { text: Buffer.from(data.subarray(0, got)).toString(), fds };
}

describe('a message over a Unix socket', () => {
  test('carries descriptors, which are open files of the receiver then', () => {
    const [ours, theirs] = createPair();
    const files = ['/proc/self/exe', '/dev/null', '/dev/zero'].map((path) => openSync(path, 'r'));

    const sent = sendWithFds(ours, Buffer.from('hello'), files);
    const { text, fds } = receiveWithFds(theirs);

    expect([sent, text]).toEqual([5, 'hello']);
    expect(fds.map((fd) => fstatSync(fd).ino)).toEqual(files.map((fd) => fstatSync(fd).ino));
    const zero = Buffer.alloc(1, 9);
    expect([readSync(fds[2]!, zero), zero[0]]).toEqual([1, 0]);
    for (const fd of [...files, ...fds]) closeSync(fd);
  });

  test('carries none where none are given', () => {
    const [ours, theirs] = createPair();

    sendWithFds(ours, Buffer.from('hello'), []);

    expect(receiveWithFds(theirs)).toEqual({ text: 'hello', fds: [] });
  });

  test('with a descriptor that is not open is an error', () => {
    const [ours] = createPair();

    expect(sendWithFds(ours, Buffer.from('hello'), [999_999])).toBe(-ERRNO.EBADF);
  });

  test('leaves no descriptor with a reader that has no room for any', () => {
    const [ours, theirs] = createPair();
    const file = openSync('/dev/null', 'r');
    sendWithFds(ours, Buffer.from('hello'), [file]);
    closeSync(file);

    receiveBytes(theirs, new Uint8Array(5), 5);

    // The number is free again, as it would not be with the descriptor that came along.
    const next = openSync('/dev/null', 'r');
    closeSync(next);
    expect(next).toBe(file);
  });
});

describe('waiting for a socket', () => {
  test('ends with the time when nothing comes', () => {
    const [ours] = createPair();

    expect(waitForSocket(ours, false, 10)).toBe(false);
    expect(waitForSocket(ours, true, 10)).toBe(true);
  });

  test('ends at once when something is there, or the other side severed it', () => {
    const [ours, theirs] = createPair();
    sendBytes(theirs, Buffer.from('x'));
    const there = waitForSocket(ours, false, 60_000);

    shutdownSocket(theirs);
    receiveBytes(ours, new Uint8Array(1), 1);

    expect([there, waitForSocket(ours, false, 60_000)]).toEqual([true, true]);
    expect(receiveBytes(ours, new Uint8Array(1), 1)).toBe(0);
    expect(sendWithFds(ours, Buffer.from('x'), [])).toBe(-ERRNO.EPIPE);
  });
});

test('a connection waits in a listener without a path, ahead of everybody', () => {
  const { listener, connections } = createConnectedListener(1);
  const connection = connections[0]!;
  stack.push(listener, connection);

  const accepted = accept(listener.fd, null, null);
  sendBytes(connection.fd, Buffer.from('hello'));

  const got = new Uint8Array(5);
  expect(receiveBytes(accepted, got, 5)).toBe(5);
  expect(Buffer.from(got).toString()).toBe('hello');
  closeSync(accepted);
});
