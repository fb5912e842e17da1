/** Asks the pool at the path argv[2] for a process, past all checks of the client, and prints its answer. */
import { encodeRequest, MAX_ANSWER_BYTES } from '../../src/api/pool/protocol.ts';
import { sendWithFds, waitForSocket } from '../../src/ffi/socket-fds.ts';
import { connectStream, receiveBytes } from '../../src/ffi/unix-stream.ts';

const fd = connectStream(process.argv[2]!);
sendWithFds(fd, encodeRequest({ words: ['--version'], env: {} }), [0, 1, 2]);
waitForSocket(fd, false, 30_000);
const answer = new Uint8Array(MAX_ANSWER_BYTES);
const bytes = receiveBytes(fd, answer, answer.length);
process.stdout.write(answer.subarray(0, Math.max(0, bytes)));
