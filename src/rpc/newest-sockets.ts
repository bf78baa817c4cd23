/** A limit on connections that strangers may open, under which others are still served. */
import type { Socket } from 'node:net';

/** Holds at most `limit` sockets: one more ends the oldest, so idle connections cannot keep others out. */
export class NewestSockets {
  limit: number;
  readonly #sockets = new Set<Socket>();

  constructor(limit: number) {
    this.limit = limit;
  }

  /** Adds a socket until it closes or is deleted. Returns whether the oldest had to end for it. */
  add(socket: Socket): boolean {
    this.#sockets.add(socket);
    socket.once('close', () => this.#sockets.delete(socket));
    if (this.#sockets.size <= this.limit) return false;
    const [oldest] = this.#sockets;
    this.#sockets.delete(oldest!);
    oldest!.destroy();
    return true;
  }

  delete(socket: Socket): void {
    this.#sockets.delete(socket);
  }

  /** Ends all of them. */
  destroy(): void {
    for (const socket of this.#sockets) socket.destroy();
  }
}
