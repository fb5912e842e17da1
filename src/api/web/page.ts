/** The page of `volt web`: one HTML file with its script and style, which the build has put into the executable. */
import { readFileSync } from 'node:fs';
import builtPage from '../../../build/web/page.htm' with { type: 'file' };

export interface Page {
  readonly html: Uint8Array;
  /** SHA-256 of its script in base64, for the Content-Security-Policy. */
  readonly scriptHash: string;
}

const SCRIPT = /<script type="module">([^]*)<\/script>/;

export function readPage(): Page {
  const html = readFileSync(builtPage);
  const script = SCRIPT.exec(html.toString('utf8'))?.[1] ?? '';
  return { html, scriptHash: new Bun.CryptoHasher('sha256').update(script).digest('base64') };
}
