import { expect, test } from 'bun:test';
import * as v from 'valibot';
import { VSOCK } from '../../../../src/virtio/vsock/spec.ts';

test('--vsock takes a path and a context id', () => {
  expect(VSOCK.flag.parse('cid=42,path=v.sock', 0)).toEqual({ uds_path: 'v.sock', guest_cid: 42 });
});

test('without a context id a guest has 3, and a restored guest keeps its own', () => {
  const section = VSOCK.flag.parse('path=v.sock', 0);

  expect(section).toEqual({ uds_path: 'v.sock' });
  expect(v.parse(VSOCK.schema(), section)).toMatchObject([{ guestCid: 3 }]);
});
