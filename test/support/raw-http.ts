/** HTTP requests byte by byte, as a client sends them that is no friend. */
import { connect } from 'node:net';
import { text } from 'node:stream/consumers';

/** What the server at this address answers to these bytes, up to its end of the connection. */
export async function raw(address: string, bytes: string): Promise<string> {
  const socket = connect(Number(new URL(address).port), '127.0.0.1');
  const answer = text(socket);
  socket.write(bytes);
  return await answer;
}

export const request = (target: string, more = '') =>
  `GET ${target} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n${more}\r\n`;
