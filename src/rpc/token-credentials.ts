/** Credentials of a gRPC channel whose connections present the token of the run (gate.ts). */
import { CallCredentials, ChannelCredentials } from '@grpc/grpc-js';
import { presentToken, TokenRefused } from './gate.js';

type SecureConnector = ReturnType<ChannelCredentials['_createSecureConnector']>;

export class TokenCredentials extends ChannelCredentials {
  readonly #token: string;
  readonly #onRefused: () => void;

  /** @param onRefused Called when the server has refused the token; other failures are tried again. */
  constructor(token: string, onRefused: () => void) {
    super();
    this.#token = token;
    this.#onRefused = onRefused;
  }

  override _isSecure(): boolean {
    return false;
  }

  override _equals(other: ChannelCredentials): boolean {
    return other === this;
  }

  override _createSecureConnector(
    ...[, , callCredentials]: Parameters<ChannelCredentials['_createSecureConnector']>
  ): SecureConnector {
    return {
      connect: async (socket) => {
        try {
          await presentToken(socket, this.#token);
        } catch (error) {
          if (error instanceof TokenRefused) this.#onRefused();
          throw error;
        }
        return { socket, secure: false };
      },
      waitForReady: () => Promise.resolve(),
      getCallCredentials: () => callCredentials ?? CallCredentials.createEmpty(),
      destroy: () => {},
    };
  }
}
