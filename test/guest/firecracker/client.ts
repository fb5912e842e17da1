/** A client of the API that shows answers byte by byte. */
import { connect } from 'node:net';

export interface RawAnswer {
  /** The whole answer, byte by byte. */
  readonly text: string;
  readonly status: number;
  readonly body: string;
}

/** Sends `text` on a connection of its own and returns the last answer to it, of `answers`. */
export async function askAt(path: string, text: string, answers = 1): Promise<RawAnswer> {
  const socket = connect(path);
  let received: Uint8Array = new Uint8Array();
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  socket.on('data', (chunk) => {
    received = Buffer.concat([received, Buffer.from(chunk)]);
    if (splitAnswers(received).length >= answers) resolve(splitAnswers(received).at(-1)!);
  });
  socket.on('error', reject);
  socket.on('close', () => reject(new Error(`closed after ${Buffer.from(received).toString()}`)));
  socket.write(text);
  const answer = await promise.finally(() => socket.destroy());
  const [head = '', body = ''] = answer.split('\r\n\r\n');
  return { text: answer, status: Number(head.split(' ')[1]), body };
}

/** One request with a JSON body, or none. */
export function requestAt(socket: string, method: string, path: string, body?: unknown): Promise<RawAnswer> {
  const text = body === undefined ? '' : typeof body === 'string' ? body : JSON.stringify(body);
  const length = body === undefined ? '' : `Content-Length: ${Buffer.byteLength(text)}\r\n`;
  return askAt(socket, `${method} ${path} HTTP/1.1\r\nHost: localhost\r\n${length}\r\n${text}`);
}

/** Complete HTTP answers at the start of `bytes`. */
function splitAnswers(bytes: Uint8Array): string[] {
  const text = Buffer.from(bytes).toString('latin1');
  const answers: string[] = [];
  for (let at = 0; ;) {
    const end = text.indexOf('\r\n\r\n', at);
    if (end < 0) return answers;
    const length = Number(/content-length: (\d+)/i.exec(text.slice(at, end))?.[1] ?? 0);
    if (text.length < end + 4 + length) return answers;
    answers.push(Buffer.from(text.slice(at, end + 4 + length), 'latin1').toString('utf8'));
    at = end + 4 + length;
  }
}
