/**
 * One connection between a port of the guest and a stream of the host, with the credit that both sides give each
 * other: how many bytes may be on the way. All counts are modulo 2^32. (Virtual I/O Device 1.2 §5.10.6.3)
 */

/** Bytes that the guest may send ahead of what the stream took. */
export const RECEIVE_WINDOW_BYTES = 64 * 1024;

export class VsockConnection {
  readonly key: string;
  readonly guestPort: number;
  readonly hostPort: number;
  readonly stream: number;
  /** The guest was asked and has not answered. */
  connecting: boolean;

  /** What the guest is to be sent besides data. */
  requestDue = false;
  responseDue = false;
  creditUpdateDue = false;
  creditRequestDue = false;
  /** VSOCK_SHUTDOWN bits that the guest does not know of yet, and those it knows. */
  shutdownDue = 0;
  shutdownSent = 0;

  /** The stream may have bytes. */
  readable = true;
  /** The stream's other end has gone, both ways. */
  hungUp = false;
  /** The stream has ended. */
  ended = false;
  /** VSOCK_SHUTDOWN bits of the guest. */
  guestShutdown = 0;
  cancelTimer: (() => void) | undefined;

  /** Bytes from the guest that the stream would not take yet. */
  readonly waiting: Uint8Array[] = [];
  #waitingBytes = 0;

  #sentToGuest = 0;
  #guestWindow = 0;
  #guestForwarded = 0;
  #creditRequested = false;
  #forwarded = 0;
  #forwardedTold = 0;

  constructor(guestPort: number, hostPort: number, stream: number, connecting: boolean) {
    this.key = connectionKey(guestPort, hostPort);
    this.guestPort = guestPort;
    this.hostPort = hostPort;
    this.stream = stream;
    this.connecting = connecting;
    this.requestDue = connecting;
    this.responseDue = !connecting;
  }

  /** Bytes that the guest has room for. */
  get guestCredit(): number {
    const onTheWay = (this.#sentToGuest - this.#guestForwarded) >>> 0;
    return Math.max(0, this.#guestWindow - onTheWay);
  }

  get waitingBytes(): number {
    return this.#waitingBytes;
  }

  get forwardedCount(): number {
    return this.#forwarded;
  }

  /** Whether there is something to be sent to the guest now. */
  get due(): boolean {
    if (this.requestDue || this.responseDue) return true;
    if (this.connecting) return false;
    return this.shutdownDue !== 0 || this.creditUpdateDue || this.creditRequestDue || this.mayRead;
  }

  get mayRead(): boolean {
    return this.readable && !this.ended && !this.guestStopped && this.guestCredit > 0;
  }

  /** The guest will not receive any more. */
  get guestStopped(): boolean {
    return (this.guestShutdown & 1) !== 0;
  }

  /** Every packet of the guest says how much room it has. */
  learnCredit(window: number, forwarded: number): void {
    this.#guestWindow = window;
    this.#guestForwarded = forwarded;
    if (this.guestCredit > 0) this.#creditRequested = false;
    this.#askForCredit();
  }

  sent(bytes: number): void {
    this.#sentToGuest = (this.#sentToGuest + bytes) >>> 0;
    this.#askForCredit();
  }

  /** Every packet to the guest says how much the stream took. */
  toldGuest(): void {
    this.#forwardedTold = this.#forwarded;
    this.creditUpdateDue = false;
  }

  /** Whether so many more bytes of the guest are within what it was allowed. */
  allows(bytes: number): boolean {
    return this.#waitingBytes + bytes <= RECEIVE_WINDOW_BYTES;
  }

  /** The stream took bytes. */
  forwarded(bytes: number): void {
    this.#forwarded = (this.#forwarded + bytes) >>> 0;
    if ((this.#forwarded - this.#forwardedTold) >>> 0 >= RECEIVE_WINDOW_BYTES / 2)
      this.creditUpdateDue = true;
  }

  /** Keeps what the stream did not take. */
  keep(bytes: Uint8Array): void {
    this.waiting.push(bytes);
    this.#waitingBytes += bytes.length;
  }

  /** The stream took `bytes` bytes of those that were kept. */
  took(bytes: number): void {
    this.#waitingBytes -= bytes;
    this.forwarded(bytes);
    while (bytes > 0) {
      const first = this.waiting[0]!;
      if (bytes < first.length) {
        this.waiting[0] = first.subarray(bytes);
        return;
      }
      bytes -= first.length;
      this.waiting.shift();
    }
  }

  #askForCredit(): void {
    if (this.guestCredit > 0 || this.#creditRequested) return;
    this.#creditRequested = true;
    this.creditRequestDue = true;
  }
}

export function connectionKey(guestPort: number, hostPort: number): string {
  return `${guestPort}:${hostPort}`;
}
