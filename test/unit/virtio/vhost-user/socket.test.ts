/** A vhost-user connection with whoever is at its other end: here a test that may do what it likes. */
import { afterEach, describe, expect, test } from 'bun:test';
import { createSocketPair } from '../../../../src/ffi/socket-pair.ts';
import { receiveBytes, sendBytes } from '../../../../src/ffi/unix-stream.ts';
import { VhostSocket } from '../../../../src/virtio/vhost-user/socket.ts';

const stack: Disposable[] = [];
afterEach(() => stack.splice(0).forEach((each) => each[Symbol.dispose]()));

/** Long enough for anything that happens at once, short enough to wait for. */
const MS = 200;

function createBench() {
  const [ours, theirs] = createSocketPair(true);
  stack.push(ours, theirs);
  const socket = new VhostSocket(ours.fd);
  socket.setTimeLimit(MS);
  return { socket, ours, theirs };
}

describe('a vhost-user socket', () => {
  test('receives exactly what it was asked for, from as many pieces as it takes', () => {
    const { socket, theirs } = createBench();
    sendBytes(theirs.fd, Buffer.from('hello'));
    sendBytes(theirs.fd, Buffer.from(' world'));
    const target = new Uint8Array(8);

    socket.receive(target);

    expect(Buffer.from(target).toString()).toBe('hello wo');
  });

  test('sends what is said', () => {
    const { socket, theirs } = createBench();

    socket.send(Buffer.from('hello'), []);

    const got = new Uint8Array(10);
    expect(receiveBytes(theirs.fd, got, 10)).toBe(5);
  });

  test('gives up on who says nothing', () => {
    const { socket } = createBench();

    expect(() => socket.receive(new Uint8Array(1))).toThrow('did not answer within 0.2 s');
  });

  test('gives up on who says too little', () => {
    const { socket, theirs } = createBench();
    sendBytes(theirs.fd, Buffer.from('hel'));

    expect(() => socket.receive(new Uint8Array(5))).toThrow('did not answer within 0.2 s');
  });

  test('gives up on who does not listen', () => {
    const { socket } = createBench();

    expect(() => {
      for (;;) socket.send(new Uint8Array(65_536), []);
    }).toThrow('did not answer within 0.2 s');
  });

  test('has one bound for all of an exchange', () => {
    const { socket, theirs } = createBench();
    const before = performance.now();

    expect(() => {
      // A byte each time, as long as it is wanted.
      for (;;) {
        socket.receive(new Uint8Array(1));
        sendBytes(theirs.fd, Buffer.from('x'));
      }
    }).toThrow('did not answer');

    expect(performance.now() - before).toBeGreaterThanOrEqual(MS - 1);
  });

  test.each(['receive', 'send'] as const)('finds out at a %s that the other side hung up', (way) => {
    const { socket, theirs } = createBench();
    theirs.close();

    expect(() =>
      way === 'receive' ? socket.receive(new Uint8Array(1)) : socket.send(Buffer.from('hello'), []),
    ).toThrow('hung up');
  });

  test('is of no use once severed, whoever else has it open', () => {
    const { socket, ours } = createBench();

    socket.shutDown();

    const again = new VhostSocket(ours.fd);
    again.setTimeLimit(MS);
    expect(() => again.send(Buffer.from('hello'), [])).toThrow('hung up');
  });
});
