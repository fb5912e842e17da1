/** The balloon of a guest that gives, takes back, reports and counts whatever it likes. */
import { BALLOON_WORD, createBalloonState } from '../../../src/virtio/balloon/state.ts';
import {
  BALLOON_CONFIG,
  BALLOON_FEATURE as F,
  BALLOON_PAGE_BYTES,
  BALLOON_QUEUE as Q,
  BALLOON_STAT,
  BALLOON_STAT_NAMES,
} from '../../../src/virtio/balloon/regs.ts';
import { BalloonDevice, describeBalloon } from '../../../src/virtio/balloon/device.ts';
import { createTestClock } from '../../../test/unit/virtio/device-bench.ts';
import { seededRandom } from '../../../test/unit/support/random.ts';
import { guestAddressOf, movesOf, RandomDriver, type Choose } from '../random-driver.ts';
import { choicesOf, randomChoices, type FuzzTarget } from '../target.ts';

/** Pages that no ring and no buffer of the driver lies in. */
const FIRST_FREE_PAGE = 0xc0;
const FREE_PAGES = 0x30;

export const balloonTarget: FuzzTarget = {
  name: 'balloon',
  what: 'a balloon of a guest that gives, takes back, reports and counts as it likes',
  seeds: () => randomChoices(seededRandom(11), 64, 160),
  run: (input) => {
    const choose = choicesOf(input);
    const clock = createTestClock();
    const state = createBalloonState(choose(100));
    const statsSeconds = choose(3);
    const options = { pages: 0, deflateOnOom: choose(2) === 0, statsSeconds };
    const description = describeBalloon(options);
    /** What an honest guest has given and not had released yet. */
    let given = new Set<number>();
    let released = 0;
    const release = (host: number, bytes: number) => {
      const at = guestAddressOf(host, bytes);
      if (at % BALLOON_PAGE_BYTES !== 0 || bytes % BALLOON_PAGE_BYTES !== 0)
        throw new Error(`releases ${bytes} bytes at ${at}`);
      for (let page = at / BALLOON_PAGE_BYTES; page < (at + bytes) / BALLOON_PAGE_BYTES; page++) {
        if (driver.honest && !given.has(page)) throw new Error(`releases page ${page}, which nobody gave`);
        driver.bytes.fill(0, page * BALLOON_PAGE_BYTES, (page + 1) * BALLOON_PAGE_BYTES);
      }
      released += bytes;
    };
    const create = () => new BalloonDevice(state, { release, after: clock.after }, statsSeconds);
    let device = create();
    const isMove = movesOf(input);
    const driver: RandomDriver = new RandomDriver(description, device, choose);
    const stats = driver.features.has(F.statsVq) ? 2 : -1;
    const reporting = driver.features.has(F.pageReporting) ? (stats > 0 ? 3 : 2) : -1;
    driver.onRestart = () => (given = new Set());
    let actual = 0;
    for (let step = 0; step < 60; step++) {
      if (isMove()) driver.move('balloon', (device = create()));
      switch (choose(9)) {
        case 0:
        case 1:
          for (let left = driver.times(); left > 0; left--)
            offerPages(driver, Q.inflate, pageNumbers(choose), given);
          break;
        case 2:
          for (let left = driver.times(); left > 0; left--)
            offerPages(driver, Q.deflate, pageNumbers(choose), undefined);
          break;
        case 3: {
          // Always honest: no other chain has these pages.
          const address =
            (FIRST_FREE_PAGE + choose(FREE_PAGES)) * BALLOON_PAGE_BYTES + choose(2) * choose(0x1000);
          const length = 1 + choose(4 * BALLOON_PAGE_BYTES);
          for (let page = FIRST_FREE_PAGE; page <= FIRST_FREE_PAGE + FREE_PAGES + 5; page++) given.add(page);
          if (reporting >= 0) driver.offer(reporting, [{ address, length, writable: true }]);
          break;
        }
        case 4:
          if (stats >= 0 && driver.pending(stats) < 2) offerStats(driver, stats, choose);
          break;
        case 5:
          Atomics.store(state.words, BALLOON_WORD.wantedPages, choose(1000));
          device.updateTarget();
          break;
        case 6:
          actual = choose(1000);
          driver.writeConfig(BALLOON_CONFIG.actual, actual);
          if (driver.honest && Atomics.load(state.words, BALLOON_WORD.actualPages) !== actual)
            throw new Error('the size of the balloon is not what its driver says');
          break;
        case 7:
          clock.advance(choose(3000));
          break;
        case 8:
          if (choose(8) === 0) driver.misbehave();
          else if (choose(10) === 0) driver.restart();
          else driver.notify(choose(description.queueSizes.length));
      }
      description.queueSizes.forEach((_, queue) => driver.collect(queue));
      driver.check();
    }
    if (
      driver.honest &&
      driver.readConfig(BALLOON_CONFIG.pageCount, 4) !== Atomics.load(state.words, BALLOON_WORD.wantedPages)
    )
      throw new Error('the driver was told of another size');
    driver.stop();
    if (clock.pending() > 0) throw new Error(`${clock.pending()} timers are left`);
    const told = BALLOON_STAT_NAMES.filter((_, tag) => !Number.isNaN(state.stats[tag]!)).length;
    return `${driver.gaveUp} ${released > 0} ${told} ${Math.min(4, driver.served)} ${driver.words}`;
  },
};

/** Runs of pages, up and down, and single ones, as Linux has them. */
function pageNumbers(choose: Choose): number[] {
  const pages: number[] = [];
  for (let runs = 1 + choose(4); runs > 0; runs--) {
    const first = FIRST_FREE_PAGE + choose(FREE_PAGES);
    const step = [1, -1, 0, 3][choose(4)]!;
    for (let i = 0; i < 1 + choose(40); i++) {
      const page = first + step * i;
      if (page >= FIRST_FREE_PAGE && page < FIRST_FREE_PAGE + FREE_PAGES) pages.push(page);
    }
  }
  return pages;
}

function offerPages(
  driver: RandomDriver,
  queue: number,
  pages: readonly number[],
  given: Set<number> | undefined,
): void {
  const bytes = new Uint8Array(new Uint32Array(pages).buffer);
  if (bytes.length === 0) return;
  const buffers = driver.buffers(bytes.length + driver.choose(3), false);
  driver.put(buffers, bytes);
  for (const page of pages) given?.add(page);
  driver.offer(queue, buffers);
}

function offerStats(driver: RandomDriver, queue: number, choose: Choose): void {
  const bytes = new Uint8Array(BALLOON_STAT.size * choose(14) + 1 + choose(9));
  const view = new DataView(bytes.buffer);
  for (let at = 0; at + BALLOON_STAT.size <= bytes.length; at += BALLOON_STAT.size) {
    view.setUint16(at + BALLOON_STAT.tag, choose(8) === 0 ? choose(0x1_0000) : choose(12), true);
    view.setUint32(at + BALLOON_STAT.value, choose(0xffff_ffff), true);
  }
  const buffers = driver.buffers(bytes.length, false);
  driver.put(buffers, bytes);
  driver.offer(queue, buffers);
}
