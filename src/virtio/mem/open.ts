/** Opens the memory device: an eventfd through which the main thread announces another size to the worker. */
import { createEventFd } from '../../ffi/epoll.ts';
import { VoltError } from '../../volt-error.ts';
import type { OpenContext, OpenDevice } from '../host/open-device.ts';
import { MemControl } from './control.ts';
import { describeMem } from './device.ts';
import type { MemStart } from './serve.ts';
import type { MemConfig } from './spec.ts';
import { createMemState, MEM_WORD } from './state.ts';

export function openMem({ shape, requestedMib }: MemConfig, { hotplug }: OpenContext): OpenDevice<MemStart> {
  if (!hotplug) throw new VoltError('internal', 'Cannot open the memory device: its region has no place');
  const state = createMemState(shape);
  state.words[MEM_WORD.requestedMib] = requestedMib;
  const wake = createEventFd();
  return {
    description: describeMem(hotplug, requestedMib),
    start: { placement: hotplug, buffer: state.buffer, wakeFd: wake.fd },
    blocks: false,
    mem: new MemControl(shape, state, wake.fd),
    close: () => wake.close(),
  };
}
