/**
 * State of one virtio device in a snapshot: what its driver wrote to its registers, where its queues stand, and
 * the device's own words. The file is untrusted: bounds are checked here, what depends on the device of this
 * machine in save-device.ts, and what depends on guest memory when the device is activated.
 */
import * as v from 'valibot';
import { MAX_MEM_WORDS } from '../mem/regs.ts';
import { CONFIG_BYTES } from '../transport/device.ts';
import { MAX_BUCKETS } from '../transport/bucket-level.ts';
import { INTERRUPT, STATUS } from '../transport/mmio.regs.ts';
import { SavedPciSchema } from './save-pci.ts';
import { flag, listOf, optional, section, text, wholeNumber } from '../../schema/values.ts';

const MAX_U32 = 0xffff_ffff;
/** A network device has most: 16 pairs and a control queue. Bounds what a forged file makes Volt hold. */
const MAX_QUEUES = 64;
const MAX_SLOT = 1023;
const MAX_OWN_WORDS = MAX_MEM_WORDS;
const MAX_NAME = 64;
const MAX_FAILURE = 1000;

const u32 = wholeNumber(0, MAX_U32);

const bits = (mask: number) =>
  v.pipe(
    u32,
    v.check(
      (value) => (value & ~mask) === 0,
      (issue) => `${issue.input} (expected only bits of 0x${mask.toString(16)})`,
    ),
  );

const short = (max: number) =>
  v.pipe(
    text,
    v.maxLength(max, (issue) => `a string of ${issue.received} characters (expected at most ${max})`),
  );

/** A u64 as two words, low half first. */
const u64 = v.strictTuple([u32, u32], () => 'no pair of words (expected [low, high])');

const QueueSchema = section({
  /** QueueNum as the driver wrote it. */
  size: u32,
  ready: wholeNumber(0, 1),
  descriptors: u64,
  driver: u64,
  device: u64,
  /** Where the device continues, in the available and the used ring alike: a QueuePosition. */
  next: wholeNumber(0, 0xffff),
  wrap: wholeNumber(0, 1),
});

const MAX_BASE64 = 4 * Math.ceil(CONFIG_BYTES / 3);

const ConfigSchema = v.pipe(
  v.string(() => 'no text (expected base64)'),
  v.maxLength(MAX_BASE64, () => `a longer text (expected at most ${CONFIG_BYTES} bytes in base64)`),
  v.base64(() => 'no base64 (expected base64)'),
  v.check(
    (value) => Buffer.from(value, 'base64').length <= CONFIG_BYTES,
    () => `too many bytes (expected at most ${CONFIG_BYTES})`,
  ),
);

const OwnWordsSchema = v.pipe(
  v.record(short(MAX_NAME), u32, () => 'no object (expected words by name)'),
  v.check(
    (words) => Object.keys(words).length <= MAX_OWN_WORDS,
    () => `too many words (expected at most ${MAX_OWN_WORDS})`,
  ),
);

/** Larger and smaller ones are no whole numbers in JavaScript. */
const MAX_TOKENS = Number.MAX_SAFE_INTEGER;

const tokens = (min: number) =>
  v.pipe(
    v.number(() => 'no number (expected tokens)'),
    v.minValue(min, (issue) => `${issue.input} (expected at least ${min})`),
    v.maxValue(MAX_TOKENS, (issue) => `${issue.input} (expected at most ${MAX_TOKENS})`),
  );

/** Level of a token bucket, and the size and rate that it has it for. */
const BucketSchema = section({
  size: wholeNumber(1, MAX_TOKENS),
  refillMs: wholeNumber(1, MAX_TOKENS),
  /** Negative after a request that was larger than the balance. */
  tokens: tokens(-MAX_TOKENS),
  burst: tokens(0),
});

export const SavedDeviceSchema = section({
  kind: short(MAX_NAME),
  id: short(MAX_NAME),
  slot: wholeNumber(0, MAX_SLOT),
  /** DeviceFeatures and DriverFeatures. */
  offered: u64,
  negotiated: u64,
  status: bits(STATUS.driverMask | STATUS.needsResetBit),
  interruptStatus: bits(INTERRUPT.usedBufferBit | INTERRUPT.configChangeBit),
  selectors: section({ deviceFeatures: u32, driverFeatures: u32, queue: u32 }),
  /** ConfigGeneration, and the configuration space in base64. */
  generation: u32,
  config: ConfigSchema,
  /** Whether the device served its driver; otherwise `next`, `wrap` and `words` have no meaning. */
  active: flag,
  failures: u32,
  failure: optional(short(MAX_FAILURE)),
  queues: v.pipe(
    listOf(QueueSchema),
    v.maxLength(MAX_QUEUES, () => `too many queues (expected at most ${MAX_QUEUES})`),
  ),
  /** The device's own state, by the names of its `stateWords`. */
  words: OwnWordsSchema,
  /** undefined: the device is on MMIO. */
  pci: optional(SavedPciSchema),
  /**
   * Levels of its rate limits: bandwidth and operations, of a network interface received ones first. Format 1 has
   * none: buckets are full then.
   */
  buckets: optional(
    v.pipe(
      listOf(v.nullable(BucketSchema)),
      v.maxLength(MAX_BUCKETS, () => `too many buckets (expected at most ${MAX_BUCKETS})`),
    ),
  ),
});

export type SavedDevice = v.InferOutput<typeof SavedDeviceSchema>;
export type SavedQueue = SavedDevice['queues'][number];
