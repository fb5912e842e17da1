/**
 * One connection between a guest port and a host stream, with its credit-based flow control: how many bytes
 * each side may have in flight. All counts are modulo 2^32. (Virtual I/O Device 1.2 §5.10.6.3)
 */

/** buf_alloc: bytes that the guest may send beyond those that the stream has accepted. */
export const BUF_ALLOC_BYTES = 64 * 1024;

export class VsockConnection {
  readonly key: string;
  readonly guestPort: number;
  readonly hostPort: number;
  readonly stream: number;
  /** A request was or will be sent to the guest, which has not responded yet. */
  connecting: boolean;

  /** Packets to send to the guest, besides data. */
  requestDue = false;
  responseDue = false;
  creditUpdateDue = false;
  creditRequestDue = false;
  /** VSOCK_SHUTDOWN bits to send to the guest, and those sent. */
  shutdownDue = 0;
  shutdownSent = 0;

  /** The stream may have bytes to read. */
  readable = true;
  /** The stream's peer has closed both directions. */
  hungUp = false;
  /** The stream was read to its end. */
  ended = false;
  /** VSOCK_SHUTDOWN bits received from the guest. */
  guestShutdown = 0;
  cancelTimer: (() => void) | undefined;

  /** Bytes from the guest that the stream has not accepted yet. */
  readonly backlog: Uint8Array[] = [];
  #backlogBytes = 0;

  #sentToGuest = 0;
  /** The guest's buf_alloc and fwd_cnt. */
  #guestBufferBytes = 0;
  #guestForwarded = 0;
  #creditRequested = false;
  /** fwd_cnt: bytes that the stream has accepted, and its value in the last packet to the guest. */
  #forwarded = 0;
  #reportedForwarded = 0;

  constructor(guestPort: number, hostPort: number, stream: number, connecting: boolean) {
    this.key = connectionKey(guestPort, hostPort);
    this.guestPort = guestPort;
    this.hostPort = hostPort;
    this.stream = stream;
    this.connecting = connecting;
    this.requestDue = connecting;
    this.responseDue = !connecting;
  }

  /** Bytes that the guest has buffer space for. */
  get guestCredit(): number {
    const inFlight = (this.#sentToGuest - this.#guestForwarded) >>> 0;
    return Math.max(0, this.#guestBufferBytes - inFlight);
  }

  get backlogBytes(): number {
    return this.#backlogBytes;
  }

  get forwardedCount(): number {
    return this.#forwarded;
  }

  /** Whether there is a packet to send to the guest now. */
  get hasPacket(): boolean {
    if (this.requestDue || this.responseDue) return true;
    if (this.connecting) return false;
    return this.shutdownDue !== 0 || this.creditUpdateDue || this.creditRequestDue || this.mayRead;
  }

  get mayRead(): boolean {
    return this.readable && !this.ended && !this.guestStopped && this.guestCredit > 0;
  }

  /** The guest receives no more data. */
  get guestStopped(): boolean {
    return (this.guestShutdown & 1) !== 0;
  }

  /** Takes buf_alloc and fwd_cnt from a packet of the guest. */
  updateCredit(bufferBytes: number, forwarded: number): void {
    this.#guestBufferBytes = bufferBytes;
    this.#guestForwarded = forwarded;
    if (this.guestCredit > 0) this.#creditRequested = false;
    this.#requestCredit();
  }

  /** Counts data bytes sent to the guest. */
  countSent(bytes: number): void {
    this.#sentToGuest = (this.#sentToGuest + bytes) >>> 0;
    this.#requestCredit();
  }

  /** A packet to the guest carries the current fwd_cnt, so no credit update is needed. */
  markCreditReported(): void {
    this.#reportedForwarded = this.#forwarded;
    this.creditUpdateDue = false;
  }

  /** Whether `bytes` more are within the credit that the guest was given. */
  hasCreditFor(bytes: number): boolean {
    return this.#backlogBytes + bytes <= BUF_ALLOC_BYTES;
  }

  /** Counts bytes that the stream has accepted. */
  countForwarded(bytes: number): void {
    this.#forwarded = (this.#forwarded + bytes) >>> 0;
    if ((this.#forwarded - this.#reportedForwarded) >>> 0 >= BUF_ALLOC_BYTES / 2) this.creditUpdateDue = true;
  }

  /** Queues bytes that the stream did not accept. */
  enqueue(bytes: Uint8Array): void {
    this.backlog.push(bytes);
    this.#backlogBytes += bytes.length;
  }

  /** Removes the first `bytes` bytes of the backlog, which count as accepted. */
  dequeue(bytes: number): void {
    this.#backlogBytes -= bytes;
    this.countForwarded(bytes);
    while (bytes > 0) {
      const first = this.backlog[0]!;
      if (bytes < first.length) {
        this.backlog[0] = first.subarray(bytes);
        return;
      }
      bytes -= first.length;
      this.backlog.shift();
    }
  }

  #requestCredit(): void {
    if (this.guestCredit > 0 || this.#creditRequested) return;
    this.#creditRequested = true;
    this.creditRequestDue = true;
  }
}

export function connectionKey(guestPort: number, hostPort: number): string {
  return `${guestPort}:${hostPort}`;
}
