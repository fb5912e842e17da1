/**
 * Which parts of Volt's own source have run, as the engine's profiler of basic blocks tells. It answers for everything since it
 * was asked last, in a few milliseconds; so it is asked after many inputs, and input by input only where they came to
 * something new.
 */
import { Session } from 'node:inspector';

/** Chrome DevTools Protocol, Profiler.ScriptCoverage. Ranges of a function lie in each other, outer ones first. */
interface ScriptCoverage {
  readonly url: string;
  readonly functions: readonly { readonly ranges: readonly CoverageRange[] }[];
}

interface CoverageRange {
  readonly startOffset: number;
  readonly endOffset: number;
  readonly count: number;
}

/** Volt's own source. */
export const OWN_SOURCE = /\/src\/[^?]*\.ts$/;

export class Coverage {
  readonly #session: Session;
  #counts = OWN_SOURCE;
  /** By script: a byte for each character of it as the engine has it, 1 once that was run. */
  readonly #seen = new Map<string, Uint8Array>();
  #covered = 0;

  private constructor(session: Session) {
    this.#session = session;
  }

  /** Before the modules are loaded that count. */
  static async start(): Promise<Coverage> {
    const coverage = new Coverage(new Session());
    coverage.#session.connect();
    await coverage.#post('Profiler.enable', {});
    await coverage.#post('Profiler.startPreciseCoverage', { callCount: true, detailed: true });
    return coverage;
  }

  /** Counts nothing but modules whose paths match. */
  counting(paths: RegExp = OWN_SOURCE): this {
    this.#counts = paths;
    return this;
  }

  /** What has run so far, when the modules were loaded, does not count. */
  async begin(): Promise<void> {
    await this.take(true);
    this.#covered = 0;
  }

  /** Lets the engine run at its own pace again. */
  async stop(): Promise<undefined> {
    await this.#post('Profiler.stopPreciseCoverage', {});
    this.#session.disconnect();
  }

  /** Characters of the source that have run since `begin`. */
  get covered(): number {
    return this.#covered;
  }

  /** How many characters have run since the last call that had never run before; they count as seen if `remember`. */
  async take(remember: boolean): Promise<number> {
    const { result } = (await this.#post('Profiler.takePreciseCoverage', {})) as {
      result: readonly ScriptCoverage[];
    };
    let fresh = 0;
    for (const script of result) if (this.#counts.test(script.url)) fresh += this.#mark(script, remember);
    if (remember) this.#covered += fresh;
    return fresh;
  }

  #mark({ url, functions }: ScriptCoverage, remember: boolean): number {
    const ran = paint(functions);
    let seen = this.#seen.get(url);
    if (!seen || seen.length < ran.length) {
      const longer = new Uint8Array(ran.length);
      longer.set(seen ?? []);
      this.#seen.set(url, (seen = longer));
    }
    let fresh = 0;
    for (let i = 0; i < ran.length; i++) {
      if (ran[i] === 0 || seen[i] === 1) continue;
      fresh++;
      if (remember) seen[i] = 1;
    }
    return fresh;
  }

  #post(method: string, params: object): Promise<unknown> {
    return new Promise((resolve, reject) => {
      // Its types know each method by name; the answers here are looked at by their shape.
      (
        this.#session.post as (
          m: string,
          p: object,
          done: (error: Error | null, result: unknown) => void,
        ) => void
      )(method, params, (error, result) => (error ? reject(error) : resolve(result)));
    });
  }
}

function paint(functions: ScriptCoverage['functions']): Uint8Array {
  let length = 0;
  for (const { ranges } of functions)
    for (const { endOffset } of ranges) length = Math.max(length, endOffset);
  const ran = new Uint8Array(length);
  for (const { ranges } of functions.toSorted(outerFirst)) {
    for (const { startOffset, endOffset, count } of ranges)
      ran.fill(count > 0 ? 1 : 0, startOffset, endOffset);
  }
  return ran;
}

function outerFirst(a: ScriptCoverage['functions'][number], b: typeof a): number {
  const [first, second] = [a.ranges[0], b.ranges[0]];
  if (!first || !second) return 0;
  return first.startOffset - second.startOffset || second.endOffset - first.endOffset;
}
