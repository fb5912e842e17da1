/** Rings of a hostile driver. */
import { seededRandom } from '../../../test/unit/support/random.ts';
import { createFuzzer } from '../hostile-rings.ts';
import { choicesOf, randomChoices, type FuzzTarget } from '../target.ts';

const LIVES = 4;

export const virtqueueTarget: FuzzTarget = {
  name: 'virtqueue',
  what: 'split and packed rings of hostile drivers, four lives an input, into queues and the block device',
  seeds: () => randomChoices(seededRandom(5), 64, 100),
  run: (input) => {
    const { round, counts } = createFuzzer(choicesOf(input));
    for (let life = 0; life < LIVES; life++) round();
    const { gaveUp, requests, served } = counts;
    return `${gaveUp} ${Math.min(requests, 40)} ${Math.min(served, 40)}`;
  },
};
