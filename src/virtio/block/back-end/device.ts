/**
 * A disk whose virtqueues a vhost-user back-end processes, such as qemu-storage-daemon. When the connection is lost,
 * requests wait for another one; the new back-end continues with those that the old one had taken, as the inflight
 * region lists them. After a time limit they are answered with an error. (QEMU docs/interop/vhost-user.rst)
 */
import { featureWords } from '../../transport/device-state.ts';
import type { DeviceContext, VirtioDevice } from '../../transport/device.ts';
import type { QueuePosition, QueueSetup } from '../../transport/queue.ts';
import {
  finishNegotiation,
  readConfig,
  requestFeatures,
  startRings,
  stopRings,
  VhostUserError,
  type SharedRegion,
  type VhostAgreement,
  type VhostLink,
  type VhostRegions,
  type VhostWishes,
} from '../../vhost-user/session.ts';
import { BLOCK_CONFIG } from '../regs.ts';

export interface BackEndOptions {
  /** Name of the back-end in messages, such as `qemu-storage-daemon`. */
  readonly name: string;
  readonly wishes: VhostWishes;
  /** How long requests wait for a back-end that is lost, before they fail. */
  readonly lostMs: number;
  /** What the first connection agreed on. */
  readonly agreement: VhostAgreement;
  /** Capacity in sectors, as the first 8 bytes of the configuration space have it. */
  readonly capacity: Uint8Array;
  /** All guest RAM. */
  readonly regions: readonly SharedRegion[];
  readonly shared: VhostRegions;
  /** Eventfd of each queue's available buffer notifications. */
  readonly kickFds: readonly number[];
  /** Eventfd that raises the interrupt of each queue. */
  readonly callFds: readonly number[];
}

export interface BackEndEffects extends VhostLink {
  /** Limits the total time of all sends and receives until the next call. */
  setTimeLimit(ms: number): void;
  /** Opens another connection, in place of one that was closed. False: there is none yet. */
  connect(): boolean;
  /** Starts the back-end again, if Volt can. */
  restart(): void;
  /** Closes the connection. */
  disconnect(): void;
  /** Blocks until the connection is readable or closed, at most `ms`. */
  waitReadable(ms: number): boolean;
  /** Calls `handler` after `delayMs`. Returns a function that cancels it. */
  after(delayMs: number, handler: () => void): () => void;
  /** Blocks. */
  sleep(ms: number): void;
  now(): number;
  /** Signals an eventfd. */
  signal(fd: number): void;
  /** Whether notifications call `processQueue`, which they must not while a back-end receives them. */
  watchNotifications(on: boolean): void;
  /** Answers all requests in a queue with an error. */
  refuseRequests(context: DeviceContext, queue: number): void;
  /** Heads of the descriptor chains that the back-end took and did not use; undefined if it is not known. */
  takenHeads(queue: number, usedIndex: number): readonly number[] | undefined;
  /** Forgets the requests in flight, for rings that start at these used indexes. */
  clearInflight(usedIndexes: readonly (number | undefined)[]): void;
  /** Marks the pages that the back-end has written, for a snapshot. */
  collectWrites(context: DeviceContext): void;
  /** Reports a change to the user. `text` is a clause that follows the device's id. */
  report(text: string): void;
}

const START_MS = 5000;
/** Longer: the back-end completes the requests that it has taken. */
const STOP_MS = 8000;
const FIRST_RETRY_MS = 20;
const LONGEST_RETRY_MS = 5000;
/** A back-end that was started takes this long at most, before it is started again. */
const SLOW_START_MS = 10_000;
const POLL_MS = 1;
/** A back-end that lasts so long is one that works. */
const STABLE_MS = 5000;

type Phase = 'connected' | 'connecting' | 'lost' | 'failed';

export class BackEndDevice implements VirtioDevice {
  readonly #options: BackEndOptions;
  readonly #link: BackEndEffects;
  #phase: Phase = 'connected';
  #context: DeviceContext | undefined;
  /** Queues that the back-end processes. */
  #running: number[] = [];
  /** Where the queues stand while the back-end does not process them. */
  #positions: (number | undefined)[] = [];
  #reason = '';
  #retryMs = FIRST_RETRY_MS;
  #cancelRetry = () => {};
  #cancelDeadline = () => {};
  #isLimited = false;
  /** Whether the user was told of a loss. */
  #isMissed = false;
  #needsRestart = false;
  #cancelStable = () => {};

  /** `connected`: whether the link is that of the first agreement. */
  constructor(options: BackEndOptions, link: BackEndEffects, connected: boolean) {
    this.#options = options;
    this.#link = link;
    if (!connected) this.#lose('is gone', false);
  }

  activate(context: DeviceContext): void {
    this.#context = context;
    this.#positions = context.queues.map((queue) => queue?.position().next);
    this.#link.clearInflight(this.#positions);
    if (this.#phase === 'connected') this.#start();
    else this.#limitLoss();
  }

  /** Called by notifications only once the back-end is lost for good, and on activation. */
  processQueue(queue: number): void {
    if (this.#phase === 'failed' && this.#context) this.#link.refuseRequests(this.#context, queue);
  }

  reset(): void {
    this.#unlimitLoss();
    if (this.#phase === 'connected') this.#stop();
    this.#context = undefined;
    if (this.#phase !== 'failed') return;
    // The next driver may find a back-end again.
    this.#link.watchNotifications(false);
    this.#phase = 'lost';
    this.#retry();
  }

  drain(): string | undefined {
    const context = this.#context;
    if (!context) return undefined;
    const deadline = this.#link.now() + STOP_MS;
    while (this.#isAway && this.#link.now() < deadline) this.#reconnectNow(deadline);
    if (this.#phase === 'connected') this.#stop();
    // What was taken cannot be in the state.
    if (this.#isAway) this.#fail();
    this.#link.collectWrites(context);
    return undefined;
  }

  position(queue: number): QueuePosition | undefined {
    const next = this.#phase === 'failed' ? undefined : this.#positions[queue];
    return next === undefined ? undefined : { next, wrap: 1 };
  }

  resume(): void {
    if (this.#phase === 'connected') this.#start();
  }

  /** The connection can be read from, or is `closed`. `reason` says why it is of no use, should it be. */
  linkReady(closed: boolean, reason: string): void {
    switch (this.#phase) {
      case 'connected':
        return this.#lose(reason, true);
      case 'connecting':
        return closed ? this.#tryAgain(false) : this.#agree();
      case 'lost':
      case 'failed':
    }
  }

  get #isAway(): boolean {
    return this.#phase === 'lost' || this.#phase === 'connecting';
  }

  /** Hands the rings over, each at its position. */
  #start(): void {
    const context = this.#context;
    if (!context) return;
    const { agreement, regions, shared, kickFds, callFds } = this.#options;
    const rings = kickFds.flatMap((kickFd, index) => {
      const setup = context.queueSetup(index);
      return setup
        ? [{ index, setup, kickFd, callFd: callFds[index]!, base: this.#positions[index] ?? 0 }]
        : [];
    });
    const bits = Array.from({ length: 64 }, (_, bit) => bit);
    const features = featureWords(bits.filter((bit) => context.hasFeature(bit)));
    const done = this.#attempt(START_MS, () => {
      startRings(this.#link, agreement, features, regions, rings, shared);
      this.#running = rings.map(({ index }) => index);
      return true;
    });
    if (!done) return;
    // Notifications and interrupts from before may have been lost with a back-end.
    for (const { kickFd, callFd } of rings) {
      this.#link.signal(kickFd);
      this.#link.signal(callFd);
    }
  }

  /** Takes the rings back, with no request in flight. */
  #stop(): void {
    const running = this.#running.splice(0);
    if (running.length === 0) return;
    // libvhost-user breaks down when it completes a request of a ring that was stopped: its eventfd is closed.
    const idleBy = this.#link.now() + STOP_MS;
    while (running.some((queue) => !this.#isIdle(queue)) && this.#link.now() < idleBy)
      this.#link.sleep(POLL_MS);
    const bases = this.#attempt(STOP_MS, () => stopRings(this.#link, running));
    if (!bases) return;
    const deadline = this.#link.now() + STOP_MS;
    running.forEach((queue, i) => {
      const setup = this.#context?.queueSetup(queue);
      // Some back-ends answer before they have completed what they took.
      while (setup && this.#usedIndex(setup) !== bases[i] && this.#link.now() < deadline)
        this.#link.sleep(POLL_MS);
      if (setup && this.#usedIndex(setup) !== bases[i] && this.#phase === 'connected')
        this.#lose(`did not complete its requests within ${STOP_MS / 1000} s`, false);
      this.#positions[queue] = bases[i];
    });
  }

  /** Whether every available request was used. */
  #isIdle(queue: number): boolean {
    const setup = this.#context?.queueSetup(queue);
    return !setup || this.#usedIndex(setup) === this.#availableIndex(setup);
  }

  #availableIndex(setup: QueueSetup): number {
    return this.#context!.ram.loadU32(setup.driver)! >>> 16;
  }

  #usedIndex(setup: QueueSetup): number {
    // The ring was in RAM when the device was activated, and RAM does not go away.
    return this.#context!.ram.loadU32(setup.device)! >>> 16;
  }

  #attempt<T>(ms: number, exchange: () => T): T | undefined {
    try {
      this.#link.setTimeLimit(ms);
      return exchange();
    } catch (error) {
      if (!(error instanceof VhostUserError)) throw error;
      this.#lose(error.message, true);
      return undefined;
    }
  }

  #lose(reason: string, reports: boolean): void {
    this.#phase = 'lost';
    this.#running = [];
    this.#reason = `${this.#options.name} ${reason}`;
    if (reports && !this.#isLimited) {
      this.#isMissed = true;
      this.#link.report(`${this.#reason}; its requests wait for ${this.#options.lostMs / 1000} s at most`);
    }
    this.#link.disconnect();
    this.#cancelStable();
    if (this.#context) this.#limitLoss();
    this.#retryLater(true);
  }

  /** From the first of several losses on: a back-end that is lost again at once has been of no use. */
  #limitLoss(): void {
    if (this.#isLimited) return;
    this.#isLimited = true;
    this.#cancelDeadline = this.#link.after(this.#options.lostMs, () => {
      this.#isLimited = false;
      if (this.#isAway) this.#fail();
    });
  }

  #unlimitLoss(): void {
    this.#cancelDeadline();
    this.#isLimited = false;
  }

  /** Opens a connection if there is one, and asks for features; otherwise tries again later. */
  #retry(): void {
    this.#cancelRetry();
    if (this.#needsRestart) this.#link.restart();
    this.#needsRestart = false;
    if (this.#phase === 'lost' && this.#link.connect()) {
      this.#phase = 'connecting';
      try {
        this.#link.setTimeLimit(START_MS);
        requestFeatures(this.#link);
      } catch (error) {
        if (!(error instanceof VhostUserError)) throw error;
        return this.#tryAgain(false);
      }
      this.#cancelRetry = this.#link.after(SLOW_START_MS, () => this.#tryAgain(true));
      return;
    }
    if (this.#phase === 'lost') this.#retryLater(false);
  }

  #retryLater(restart: boolean): void {
    this.#cancelRetry();
    this.#needsRestart ||= restart;
    this.#cancelRetry = this.#link.after(this.#retryMs, () => this.#retry());
    this.#retryMs = Math.min(2 * this.#retryMs, LONGEST_RETRY_MS);
  }

  #tryAgain(restart: boolean): void {
    this.#cancelRetry();
    this.#phase = 'lost';
    this.#link.disconnect();
    this.#retryLater(restart);
  }

  /** While the worker may not run its event loop. */
  #reconnectNow(deadline: number): void {
    if (this.#phase === 'lost') this.#retry();
    if (this.#phase === 'lost') return this.#link.sleep(FIRST_RETRY_MS);
    if (this.#link.waitReadable(deadline - this.#link.now())) this.#agree();
  }

  /** The back-end answers on a new connection. */
  #agree(): void {
    this.#cancelRetry();
    const { wishes, agreement, capacity, name } = this.#options;
    let problem: string | undefined;
    try {
      this.#link.setTimeLimit(START_MS);
      const found = finishNegotiation(this.#link, wishes);
      problem = differenceOf(agreement, found);
      if (problem === undefined && agreement.hasConfig) {
        const config = readConfig(this.#link, BLOCK_CONFIG.size).subarray(0, capacity.length);
        if (config.some((byte, i) => byte !== capacity[i])) problem = 'its disk has another size';
      }
    } catch (error) {
      if (!(error instanceof VhostUserError)) throw error;
      return this.#tryAgain(false);
    }
    if (problem !== undefined) {
      this.#link.report(`${name} is there again, but ${problem}; Volt tries again`);
      return this.#tryAgain(true);
    }
    this.#phase = 'connected';
    this.#cancelStable = this.#link.after(STABLE_MS, () => {
      this.#unlimitLoss();
      this.#retryMs = FIRST_RETRY_MS;
    });
    const context = this.#context;
    if (!context) return;
    this.#positions = context.queues.map((_, queue) => this.#positionOfLost(context, queue));
    if (this.#positions.some((position) => position === -1)) {
      this.#reason += ' with requests in flight that it did not note';
      this.#link.disconnect();
      return this.#fail();
    }
    this.#start();
    if (this.#phase !== 'connected' || !this.#isMissed) return;
    this.#isMissed = false;
    this.#link.report(`${name} is there again`);
  }

  /** Where a new back-end starts; -1: it is not known which requests the old one had taken. */
  #positionOfLost(context: DeviceContext, queue: number): number | undefined {
    const setup = context.queueSetup(queue);
    if (!setup) return undefined;
    const used = this.#usedIndex(setup);
    if (this.#options.agreement.tracksInflight) return used;
    return this.#availableIndex(setup) === used ? used : -1;
  }

  /** Answers all requests with errors, now and until the driver resets the device. */
  #fail(): void {
    const context = this.#context;
    this.#cancelRetry();
    this.#unlimitLoss();
    if (!context) return;
    if (this.#phase === 'connecting') this.#link.disconnect();
    this.#phase = 'failed';
    this.#link.watchNotifications(true);
    const taken = (queue: number) => {
      const setup = context.queueSetup(queue);
      return setup && this.#link.takenHeads(queue, this.#usedIndex(setup));
    };
    if (!context.reclaimQueues(this.#reason, taken)) return;
    this.#options.kickFds.forEach((_, queue) => this.processQueue(queue));
  }
}

/** Why a back-end cannot take the place of one with which `before` was agreed; undefined if it can. */
function differenceOf(before: VhostAgreement, found: VhostAgreement): string | undefined {
  const lacks = (half: 0 | 1) => (before.features[half] & ~found.features[half]) !== 0;
  if (lacks(0) || lacks(1)) return 'it offers fewer features';
  if (before.queues !== undefined && (found.queues ?? 0) < before.queues) return 'it has fewer queues';
  const { tracksInflight, logs, hasConfig, protocolFeatures, acknowledges } = found;
  const same =
    tracksInflight === before.tracksInflight &&
    logs === before.logs &&
    hasConfig === before.hasConfig &&
    protocolFeatures === before.protocolFeatures &&
    acknowledges === before.acknowledges;
  return same ? undefined : 'it offers other protocol features';
}
