/** What an io_uring of Volt's may do, which no system call filter sees. */
import { expect, test } from 'bun:test';
import { closeSync, openSync } from 'node:fs';
import { createUring, Uring, URING_OP } from '../../../src/ffi/uring.ts';

const EACCES = 13;
/** IORING_OP_OPENAT, IORING_OP_SOCKET, IORING_OP_READ. */
const OTHERS = [18, 45, 22] as const;

test('a ring reads, writes and flushes files, and refuses everything else', () => {
  const fd = openSync('/dev/null', 'r+');
  const facts = createUring(8);
  using ring = new Uring(facts);
  const one = Uint32Array.of(0, 0, 0, 0);
  const results = new Map<number, number>();
  const ops = [URING_OP.readVectors, URING_OP.writeVectors, ...OTHERS];

  for (const op of ops) {
    ring.push(op, fd, 0, one, 0, 1, 0, op);
    ring.submit(1);
    ring.reap((userData, result) => results.set(userData, result));
  }

  closeSync(fd);
  closeSync(facts.fd);
  expect([...results]).toEqual([
    [URING_OP.readVectors, 0],
    [URING_OP.writeVectors, 0],
    ...OTHERS.map((op) => [op, -EACCES]),
  ] as never);
});
