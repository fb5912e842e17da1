import { describe, expect, test } from 'bun:test';
import { RequestParser, type HttpEvent } from '../../../../src/api/firecracker/http/request-parser.ts';
import { formatResponse } from '../../../../src/api/firecracker/http/response.ts';

const MAX_BODY_BYTES = 100;

function parse(...pieces: readonly string[]): string[] {
  const parser = new RequestParser(MAX_BODY_BYTES);
  return pieces.flatMap((piece) => parser.push(Buffer.from(piece)).map(describeEvent));
}

function describeEvent(event: HttpEvent): string {
  switch (event.kind) {
    case 'continue':
      return `continue ${event.version}`;
    case 'fault':
      return event.message;
    case 'request': {
      const { method, path, body } = event.request;
      return `${method} ${path} ${body ? Buffer.from(body).toString() : '-'}`;
    }
  }
}

describe('requests', () => {
  test('several in one piece are all found', () => {
    expect(
      parse('GET / HTTP/1.1\r\n\r\nPUT /a HTTP/1.0\r\nContent-Length: 2\r\n\r\n{}GET /b HTTP/1.1\r\n\r\n'),
    ).toEqual(['GET / -', 'PUT /a {}', 'GET /b -']);
  });

  test('one that arrives byte by byte is found at its last byte', () => {
    const text = 'PUT /mmds HTTP/1.1\r\nHost: x\r\ncontent-length: 3\r\n\r\n"a"';

    expect(parse(...text.split(''))).toEqual(['PUT /mmds "a"']);
  });

  test('a target may have a scheme and a host, and no path', () => {
    expect(
      parse('GET http://localhost/version HTTP/1.1\r\n\r\n', 'GET http://localhost HTTP/1.1\r\n\r\n'),
    ).toEqual(['GET /version -', 'GET  -']);
  });

  test('a client that waits for leave gets it before its body', () => {
    const head = 'PUT / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n';

    expect(parse(head, '{}')).toEqual(['continue HTTP/1.1', 'PUT / {}']);
  });
});

describe('faults', () => {
  test.each([
    ['POST / HTTP/1.1\r\n', 'Invalid HTTP Method: Unsupported HTTP method.'],
    ['GET / HTTP/2.0\r\n', 'Invalid HTTP Version: Unsupported HTTP version.'],
    ['GET  HTTP/1.1\r\n', 'Invalid URI: Empty URI not allowed.'],
    ['nonsense\r\n', 'Invalid request.'],
    [
      'GET / HTTP/1.1\r\nno colon\r\n',
      'Invalid header. Reason: Header is incorrectly formatted. Key: no colon',
    ],
    [
      'GET / HTTP/1.1\r\nContent-Length: -1\r\n',
      'Invalid header. Reason: Invalid value. Key:Content-Length; Value: -1',
    ],
    [
      'PUT / HTTP/1.1\r\nContent-Length: 101\r\n\r\n',
      'Request payload with size 101 is larger than the limit of 100 allowed by server.',
    ],
    [
      'GET / HTTP/1.1\r\nAccept-Encoding: identity;q=0\r\n',
      'Invalid header. Reason: Invalid value. Key:Accept-Encoding; Value:identity;q=0',
    ],
  ])('%p', (text, message) => {
    expect(parse(text)).toEqual([message]);
  });

  test('a line of more than 1024 bytes is refused, however it arrives', () => {
    const line = `GET /${'a'.repeat(1100)}`;

    expect(parse(line)).toEqual(['Invalid request.']);
    expect(parse(...line.split(''))).toEqual(['Invalid request.']);
  });

  test('requests that came with the fault are dropped', () => {
    expect(parse('GET / HTTP/1.1\r\n\r\nBOGUS / HTTP/1.1\r\n\r\n')).toEqual([
      'Invalid HTTP Method: Unsupported HTTP method.',
    ]);
  });
});

test('an answer has no reason phrase, and its fields in a fixed order', () => {
  expect(formatResponse({ status: 400, body: '{}', deprecated: true })).toBe(
    'HTTP/1.1 400 \r\nServer: Firecracker API\r\nConnection: keep-alive\r\nDeprecation: true\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}',
  );
});
