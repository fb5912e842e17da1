/** Changes of inputs that know nothing of what they mean. */
import { mutate, type Random } from '../../test/unit/support/random.ts';
import { MAX_INPUT_BYTES } from './target.ts';

const encoder = new TextEncoder();

/** A copy of `input` with something wrong in it. `other` is another input of the same target, `words` are its words. */
export function varyBytes(
  random: Random,
  input: Uint8Array,
  other: Uint8Array,
  words: readonly string[],
): Uint8Array {
  if (input.length < 4) return random.bytes(random.int(0, 64));
  switch (random.int(0, words.length > 0 ? 7 : 4)) {
    case 0:
      return splice(
        input.subarray(0, random.int(0, input.length)),
        other.subarray(random.int(0, other.length)),
      );
    case 1:
      return repeat(random, input);
    case 2:
      return cutOut(random, input);
    case 3:
      return changeByte(random, input);
    case 5:
    case 6:
    case 7: {
      const at = random.int(0, input.length);
      const word = encoder.encode(words[random.int(0, words.length - 1)]);
      const over = random.int(0, 1) * word.length;
      return splice(input.subarray(0, at), word, input.subarray(Math.min(input.length, at + over)));
    }
    default:
      return mutate(random, input);
  }
}

/** A part of it once more, or many times. */
function repeat(random: Random, input: Uint8Array): Uint8Array {
  const from = random.int(0, input.length - 1);
  const part = input.subarray(from, from + random.int(1, 64));
  const times = random.int(0, 30) === 0 ? 1000 : 1;
  return splice(input.subarray(0, from), ...Array<Uint8Array>(times).fill(part), input.subarray(from));
}

/** Any byte, the last ones too, which `mutate` leaves alone. */
function changeByte(random: Random, input: Uint8Array): Uint8Array {
  const copy = input.slice();
  const at = random.int(0, copy.length - 1);
  copy[at] = random.int(0, 1) === 0 ? copy[at]! ^ (1 << random.int(0, 7)) : random.int(0, 255);
  return copy;
}

function cutOut(random: Random, input: Uint8Array): Uint8Array {
  const from = random.int(0, input.length - 1);
  return splice(input.subarray(0, from), input.subarray(from + random.int(1, 64)));
}

function splice(...parts: readonly Uint8Array[]): Uint8Array {
  const whole = Buffer.concat(parts);
  return new Uint8Array(whole.buffer, whole.byteOffset, Math.min(whole.length, MAX_INPUT_BYTES));
}
