/** The head of an HTTP/1.1 request to the metrics endpoint. (RFC 9112) */

/** Request line and fields together; monitors send a few hundred bytes. */
export const MAX_HEAD_BYTES = 8192;

export type RequestHead =
  | { readonly kind: 'incomplete' }
  | { readonly kind: 'request'; readonly method: string; readonly path: string }
  /** Refused with this status: the request is malformed or too long. */
  | { readonly kind: 'refused'; readonly status: 400 | 431 | 505 };

/** Parses the bytes of a request received so far. Never throws. */
export function readRequestHead(bytes: Uint8Array): RequestHead {
  const text = Buffer.from(bytes.subarray(0, MAX_HEAD_BYTES)).toString('latin1');
  const end = /\r?\n\r?\n/.exec(text);
  if (!end) {
    if (bytes.length >= MAX_HEAD_BYTES) return { kind: 'refused', status: 431 };
    // An invalid request line is refused at once.
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
  // The Host field is not used, but an invalid one is refused. (RFC 9110 §7.2)
  const hosts = fields.filter((field) => /^host:/i.test(field));
  if (hosts.length > 1 || hosts.some((field) => !HOST.test(field.slice(5).trim())))
    return { kind: 'refused', status: 400 };
  return { kind: 'request', method, path: target.split('?')[0]! };
}

const REQUEST_LINE = /^([!#$%&'*+.^_`|~\w-]+) (\S+) HTTP\/(\d\.\d)$/;
const FIELD = /^[!#$%&'*+.^_`|~\w-]+:[^\x00-\x08\x0a-\x1f\x7f]*$/;
const HOST = /^(?:\[[\da-fA-F:.]+\]|[\w.~!$&'()*+,;=%-]*)(?::\d{0,5})?$/;
