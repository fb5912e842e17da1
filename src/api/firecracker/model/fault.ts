/** An action that was understood and failed. The message is what the client gets. */
export class ActionFault extends Error {
  readonly status: 400 | 413;

  constructor(message: string, status: 400 | 413 = 400) {
    super(message);
    this.status = status;
  }
}
