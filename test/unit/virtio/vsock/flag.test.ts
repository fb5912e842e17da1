import { expect, test } from 'bun:test';
import { VSOCK } from '../../../../src/virtio/vsock/spec.ts';

test('--vsock takes a path and a context id', () => {
  expect(VSOCK.flag.parse('path=v.sock', 0)).toEqual({ uds_path: 'v.sock', guest_cid: 3 });
  expect(VSOCK.flag.parse('cid=42,path=v.sock', 0)).toEqual({ uds_path: 'v.sock', guest_cid: 42 });
});
