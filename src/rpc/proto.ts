/**
 * The services of proto/cluster.proto, loaded at run time. `npm run generate:proto` generates their types.
 */
import { fileURLToPath } from 'node:url';
import { loadPackageDefinition } from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import type { ProtoGrpcType } from './generated/cluster.js';
import type { Form__Output as Form } from './generated/orchestrator/v1/Form.js';

const path = fileURLToPath(new URL('../../proto/cluster.proto', import.meta.url));
const loaded = loadPackageDefinition(
  loadSync(path, { longs: Number, enums: String, defaults: true, oneofs: true }),
) as unknown as ProtoGrpcType;

export const { Coordinator, Peer } = loaded.orchestrator.v1;

export type { CoordinatorClient } from './generated/orchestrator/v1/Coordinator.js';
export type { Credential } from './generated/orchestrator/v1/Credential.js';
export type { DeviceRendezvous__Output as DeviceRendezvous } from './generated/orchestrator/v1/DeviceRendezvous.js';
/** A Form, and the rank of who has got it. */
export type Formation = Form & { rank: number };

export type { Formed__Output as Formed } from './generated/orchestrator/v1/Formed.js';
export type {
  FromCoordinator,
  FromCoordinator__Output as CoordinatorMessage,
} from './generated/orchestrator/v1/FromCoordinator.js';
export type {
  FromWorker,
  FromWorker__Output as WorkerMessage,
} from './generated/orchestrator/v1/FromWorker.js';
export type { Heartbeat__Output as Heartbeat } from './generated/orchestrator/v1/Heartbeat.js';
export type { Held__Output as Held } from './generated/orchestrator/v1/Held.js';
export type { Invitation__Output as Invitation } from './generated/orchestrator/v1/Invitation.js';
export type { Join__Output as Join } from './generated/orchestrator/v1/Join.js';
export type { NotSaved__Output as NotSaved } from './generated/orchestrator/v1/NotSaved.js';
export type { Offered__Output as Offered } from './generated/orchestrator/v1/Offered.js';
export type { Orders__Output as Orders } from './generated/orchestrator/v1/Orders.js';
export type { Prepared__Output as Prepared } from './generated/orchestrator/v1/Prepared.js';
export type { PullRequest__Output as PullRequest } from './generated/orchestrator/v1/PullRequest.js';
export type { Ready__Output as Ready } from './generated/orchestrator/v1/Ready.js';
export type { Saved__Output as Saved } from './generated/orchestrator/v1/Saved.js';
export type { Standby__Output as Standby } from './generated/orchestrator/v1/Standby.js';
export type { StateRequest__Output as StateRequest } from './generated/orchestrator/v1/StateRequest.js';
export type { Suspect__Output as Suspect } from './generated/orchestrator/v1/Suspect.js';
export type { Sync } from './generated/orchestrator/v1/Sync.js';
export type { Validated__Output as Validated } from './generated/orchestrator/v1/Validated.js';
export type { Welcome__Output as Welcome } from './generated/orchestrator/v1/Welcome.js';
