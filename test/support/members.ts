/** Certificates of a run, as its processes have them. */
import { Authority } from '../../src/security/authority.js';
import type { Certified, Identity } from '../../src/security/identity.js';
import { newKey } from '../../src/security/keys.js';

export interface TestRun {
  authority: Authority;
  coordinator: Certified;
  worker(id: string): Promise<Certified>;
}

export async function testRun(): Promise<TestRun> {
  const authority = await Authority.create();
  const { run } = authority;
  const { certificate } = authority.stored;
  return {
    authority,
    coordinator: await authority.coordinator(),
    worker: async (id) => {
      const { privateKey, publicKey } = newKey();
      const identity: Identity = { run, role: 'worker', id };
      const own = await authority.issue(identity, publicKey);
      return { identity, key: privateKey, certificate: own, authority: certificate };
    },
  };
}
