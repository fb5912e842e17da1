/** The memory device: plugs and unplugs blocks of guest memory as the driver asks. (Virtual I/O Device 1.2 §5.15) */
import { TWO_POW_32, putU64, viewOf } from '../../binary/bytes.ts';
import { MIB } from '../../machine/address.ts';
import type { DeviceContext, DeviceDescription, VirtioDevice } from '../transport/device.ts';
import { DEVICE_TYPE } from '../transport/mmio.regs.ts';
import { Chain, NEXT } from '../transport/queue.ts';
import {
  MEM_CONFIG,
  MEM_FEATURE,
  MEM_REQUEST,
  MEM_REQUEST_TYPE as TYPE,
  MEM_RESPONSE,
  MEM_RESPONSE_TYPE as RESPONSE,
  MEM_STATE,
} from './regs.ts';
import { blocksOf, type MemPlacement } from './shape.ts';
import { MEM_WORD, type MemState } from './state.ts';

const QUEUE_SIZE = 16;
const WORD_BITS = 32;
/** A driver that floods its queue must not starve the other devices of this worker. */
const REQUESTS_AT_ONCE = 64;

export interface MemEffects {
  /** Makes blocks readable and writable, full of zeroes. Throws an Error where the host has no memory slot left. */
  plug(first: number, count: number): void;
  /** Gives the memory of blocks back to the host, and takes slots away that have no block left. */
  unplug(first: number, count: number): void;
  after(delayMs: number, handler: () => void): () => void;
}

export function describeMem(placement: MemPlacement, requestedMib: number): DeviceDescription {
  const config = new Uint8Array(MEM_CONFIG.size);
  const view = viewOf(config);
  const bytes = placement.totalMib * MIB;
  putU64(view, MEM_CONFIG.blockSize, placement.blockMib * MIB);
  view.setUint16(MEM_CONFIG.nodeId, placement.node, true);
  putU64(view, MEM_CONFIG.address, placement.address);
  putU64(view, MEM_CONFIG.regionSize, bytes);
  putU64(view, MEM_CONFIG.usableRegionSize, bytes);
  putU64(view, MEM_CONFIG.requestedSize, requestedMib * MIB);
  return {
    type: DEVICE_TYPE.mem,
    features: [MEM_FEATURE.unpluggedInaccessible, MEM_FEATURE.acpiPxm],
    queueSizes: [QUEUE_SIZE],
    config,
    stateWords: Array.from({ length: Math.ceil(blocksOf(placement) / WORD_BITS) }, (_, i) => ({
      name: `plugged${i}`,
      min: 0,
      max: 0xffff_ffff,
    })),
  };
}

export class MemDevice implements VirtioDevice {
  readonly #placement: MemPlacement;
  readonly #state: MemState;
  readonly #effects: MemEffects;
  readonly #chain = new Chain();
  readonly #request = new Uint8Array(MEM_REQUEST.size);
  #context: DeviceContext | undefined;
  #cancelTimer: (() => void) | undefined;

  constructor(placement: MemPlacement, state: MemState, effects: MemEffects) {
    this.#placement = placement;
    this.#state = state;
    this.#effects = effects;
  }

  activate(context: DeviceContext): void {
    this.#context = context;
    this.#tellPlugged(context);
    this.requestChanged();
  }

  /** Blocks stay plugged: drivers unplug what is left of another one. (§5.15.6.2) */
  reset(): void {
    this.#context = undefined;
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
  }

  save(words: Int32Array): void {
    words.fill(0);
    this.#state.blocks.forEach((plugged, block) => {
      if (plugged) words[Math.floor(block / WORD_BITS)]! |= 1 << (block % WORD_BITS);
    });
  }

  /** The main thread wants another size. */
  requestChanged(): void {
    const context = this.#context;
    if (!context) return;
    const bytes = u64(Atomics.load(this.#state.words, MEM_WORD.requestedMib) * MIB);
    if (bytes.every((byte, i) => byte === context.config(MEM_CONFIG.requestedSize + i))) return;
    context.setConfig(MEM_CONFIG.requestedSize, bytes);
  }

  processQueue(queue: number): void {
    const context = this.#context;
    const requests = context?.queues[queue];
    if (!context || !requests || this.#cancelTimer) return;
    const chain = this.#chain;
    let left = REQUESTS_AT_ONCE;
    do {
      requests.disableNotifications();
      for (;;) {
        if (left-- === 0) {
          context.interrupt(queue);
          this.#cancelTimer = this.#effects.after(1, () => {
            this.#cancelTimer = undefined;
            this.processQueue(queue);
          });
          return;
        }
        const next = requests.next(chain);
        if (next === NEXT.none) break;
        if (next === NEXT.broken) return context.fail('its queue has an invalid ring or descriptor chain');
        if (chain.writableBytes < MEM_RESPONSE.size)
          return context.fail(`a request has no room for its response of ${MEM_RESPONSE.size} bytes`);
        this.#request.fill(0);
        const length = chain.copyOut(context.ram, 0, this.#request);
        const response = new Uint8Array(MEM_RESPONSE.size);
        this.#answer(context, length, viewOf(response));
        requests.pushUsed(chain.id, chain.copyIn(context.ram, 0, response));
        context.count(queue, length, response.length);
      }
      context.interrupt(queue);
    } while (requests.enableNotifications());
  }

  #answer(context: DeviceContext, length: number, response: DataView): void {
    const view = viewOf(this.#request);
    const type = view.getUint16(MEM_REQUEST.type, true);
    const found =
      length < MEM_REQUEST.size && type !== TYPE.unplugAll ? undefined : this.#run(type, view, response);
    response.setUint16(MEM_RESPONSE.type, found ?? RESPONSE.error, true);
    if (found === RESPONSE.ack && type !== TYPE.state) this.#tellPlugged(context);
  }

  /** Returns the type of the response; undefined for a request that breaks the rules. */
  #run(type: number, view: DataView, response: DataView): number | undefined {
    const { blocks, words } = this.#state;
    if (type === TYPE.unplugAll) {
      // The whole region, as far as it is plugged.
      this.#change(0, blocks.length, false);
      return RESPONSE.ack;
    }
    const first = this.#firstBlock(view);
    const count = view.getUint16(MEM_REQUEST.blocks, true);
    if (first === undefined || count === 0 || first + count > blocks.length) return undefined;
    const range = blocks.subarray(first, first + count);
    switch (type) {
      case TYPE.plug: {
        if (range.includes(1)) return undefined;
        const wanted = Atomics.load(words, MEM_WORD.pluggedMib) + count * this.#placement.blockMib;
        if (wanted > Atomics.load(words, MEM_WORD.requestedMib)) return RESPONSE.nack;
        return this.#change(first, count, true) ? RESPONSE.ack : RESPONSE.busy;
      }
      case TYPE.unplug:
        if (range.includes(0)) return undefined;
        this.#change(first, count, false);
        return RESPONSE.ack;
      case TYPE.state: {
        const state = !range.includes(0)
          ? MEM_STATE.plugged
          : range.includes(1)
            ? MEM_STATE.mixed
            : MEM_STATE.unplugged;
        response.setUint16(MEM_RESPONSE.state, state, true);
        return RESPONSE.ack;
      }
      default:
        return undefined;
    }
  }

  #firstBlock(view: DataView): number | undefined {
    const low = view.getUint32(MEM_REQUEST.address, true);
    const address = low + view.getUint32(MEM_REQUEST.address + 4, true) * TWO_POW_32;
    const offset = address - this.#placement.address;
    const blockBytes = this.#placement.blockMib * MIB;
    return offset >= 0 && offset % blockBytes === 0 ? offset / blockBytes : undefined;
  }

  /** False: the host has no room. */
  #change(first: number, count: number, plugged: boolean): boolean {
    const { blocks, words } = this.#state;
    if (plugged) {
      try {
        this.#effects.plug(first, count);
      } catch (error) {
        if (!(error instanceof Error)) throw error;
        return false;
      }
    }
    const before = blocks.subarray(first, first + count).reduce((sum, each) => sum + each, 0);
    blocks.fill(plugged ? 1 : 0, first, first + count);
    if (!plugged && before > 0) this.#effects.unplug(first, count);
    const change = (plugged ? count : -before) * this.#placement.blockMib;
    Atomics.add(words, MEM_WORD.pluggedMib, change);
    return true;
  }

  /** Quietly: the driver knows by the response. */
  #tellPlugged(context: DeviceContext): void {
    const plugged = Atomics.load(this.#state.words, MEM_WORD.pluggedMib) * MIB;
    context.setConfig(MEM_CONFIG.pluggedSize, u64(plugged), true);
  }
}

function u64(value: number): Uint8Array {
  const bytes = new Uint8Array(8);
  putU64(viewOf(bytes), 0, value);
  return bytes;
}
