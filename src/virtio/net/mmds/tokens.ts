/** Session tokens: an expiry with a keyed hash of it, so that none has to be kept. */
const EXPIRY_BYTES = 8;
const HASH_BYTES = 28;
/** Longer tokens are not looked at. */
const MAX_TEXT = 70;

export class Tokens {
  readonly #key: Uint8Array;
  readonly #id: string;
  readonly #now: () => number;

  /** `id` of the microVM: a token is valid for it alone. `key` is random. `now` is in milliseconds. */
  constructor(id: string, key: Uint8Array, now: () => number) {
    this.#id = id;
    this.#key = key;
    this.#now = now;
  }

  create(seconds: number): string {
    const token = new Uint8Array(EXPIRY_BYTES + HASH_BYTES);
    new DataView(token.buffer).setFloat64(0, this.#now() + seconds * 1000, true);
    token.set(this.#hash(token.subarray(0, EXPIRY_BYTES)), EXPIRY_BYTES);
    return Buffer.from(token).toString('base64');
  }

  isValid(text: string): boolean {
    if (text.length > MAX_TEXT) return false;
    const token = Uint8Array.from(Buffer.from(text, 'base64'));
    if (token.length !== EXPIRY_BYTES + HASH_BYTES || Buffer.from(token).toString('base64') !== text)
      return false;
    const hash = this.#hash(token.subarray(0, EXPIRY_BYTES));
    if (!isSame(hash, token.subarray(EXPIRY_BYTES))) return false;
    return new DataView(token.buffer).getFloat64(0, true) > this.#now();
  }

  #hash(expiry: Uint8Array): Uint8Array {
    const hasher = new Bun.CryptoHasher('sha256', this.#key);
    hasher.update(`microvmid=${this.#id}`);
    hasher.update(expiry);
    return new Uint8Array(hasher.digest()).subarray(0, HASH_BYTES);
  }
}

/** Takes the same time wherever they differ. */
function isSame(a: Uint8Array, b: Uint8Array): boolean {
  let differing = 0;
  for (let i = 0; i < a.length; i++) differing |= a[i]! ^ b[i]!;
  return differing === 0;
}
