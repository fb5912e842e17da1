import { expect, test } from 'bun:test';
import { createEventFd } from '../../../../src/ffi/epoll.ts';
import { createMailbox, receiveChange, sendChange } from '../../../../src/virtio/host/mailbox.ts';
import type { DeviceChange } from '../../../../src/virtio/transport/device-change.ts';

const CHANGE: DeviceChange = {
  kind: 'limits',
  limits: { ops: { size: 5, burst: 0, refillMs: 100 }, bandwidth: null },
};

test('a change arrives once, as it was sent', async () => {
  using control = createEventFd();
  const mailbox = createMailbox();
  const received: DeviceChange[] = [];

  const sent = sendChange(mailbox, control.fd, CHANGE);
  receiveChange(mailbox, (change) => received.push(change));
  receiveChange(mailbox, (change) => received.push(change));
  await sent;

  expect(received).toEqual([CHANGE]);
});

test('why a change failed is told to the sender', async () => {
  using control = createEventFd();
  const mailbox = createMailbox();

  const sent = sendChange(mailbox, control.fd, CHANGE);
  receiveChange(mailbox, () => {
    throw new Error('it has an overlay');
  });
  const error = await sent.catch((reason: unknown) => reason);

  expect(error).toMatchObject({
    code: 'host',
    message: 'Cannot change the device: it has an overlay; try again',
  });
});
