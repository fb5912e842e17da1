/** The head of an HTTP/1.1 request to the metrics endpoint. (RFC 9112) */

/** Request line and fields together; monitors send a few hundred bytes. */
export const MAX_HEAD_BYTES = 8192;

export type RequestHead =
  | { readonly kind: 'incomplete' }
  | { readonly kind: 'request'; readonly method: string; readonly path: string }
  /** To be answered with this status: the request is no HTTP, or longer than the endpoint reads. */
  | { readonly kind: 'refused'; readonly status: 400 | 431 | 505 };

/** Reads what has come of a request so far. Never throws, whatever the bytes are. */
export function readRequestHead(bytes: Uint8Array): RequestHead {
  const text = Buffer.from(bytes.subarray(0, MAX_HEAD_BYTES)).toString('latin1');
  const end = /\r?\n\r?\n/.exec(text);
  if (!end) {
    if (bytes.length >= MAX_HEAD_BYTES) return { kind: 'refused', status: 431 };
    // A first line that cannot become a request need not be waited for.
    const line = /^[^\r\n]*\r?\n/.exec(text)?.[0];
    return line !== undefined && !REQUEST_LINE.test(line.trim())
      ? { kind: 'refused', status: 400 }
      : { kind: 'incomplete' };
  }
  const [line = '', ...fields] = text.slice(0, end.index).split(/\r?\n/);
  const match = REQUEST_LINE.exec(line);
  if (!match || !fields.every((field) => FIELD.test(field))) return { kind: 'refused', status: 400 };
  const [, method = '', target = '', version = ''] = match;
  if (!version.startsWith('1.')) return { kind: 'refused', status: 505 };
  // Nothing is done with the host, but for what is no host at all. (RFC 9110 §7.2)
  const hosts = fields.filter((field) => /^host:/i.test(field));
  if (hosts.length > 1 || hosts.some((field) => !HOST.test(field.slice(5).trim())))
    return { kind: 'refused', status: 400 };
  return { kind: 'request', method, path: target.split('?')[0]! };
}

const REQUEST_LINE = /^([!#$%&'*+.^_`|~\w-]+) (\S+) HTTP\/(\d\.\d)$/;
const FIELD = /^[!#$%&'*+.^_`|~\w-]+:[^\x00-\x08\x0a-\x1f\x7f]*$/;
const HOST = /^(?:\[[\da-fA-F:.]+\]|[\w.~!$&'()*+,;=%-]*)(?::\d{0,5})?$/;
