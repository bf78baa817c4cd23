import { resolve } from 'node:path';
import { defineConfig } from 'vitest/config';

/**
 * native: the C++ tests. unit: pure and fast. interop: files that other programs wrote. integration:
 * processes of the compiled program, on loopback.
 */
export default defineConfig({
  test: {
    pool: 'forks',
    // What tests cache is not the user's.
    env: { XDG_CACHE_HOME: resolve('build/test-cache') },
    reporters: ['default', './scripts/summary.mjs'],
    // A condition may take long where other work keeps the processors busy.
    expect: { poll: { timeout: 15_000 } },
    projects: [
      {
        extends: true,
        test: { name: 'unit', include: ['test/unit/**/*.test.ts'], testTimeout: 20_000 },
      },
      {
        extends: true,
        test: {
          name: 'interop',
          include: ['test/interop/**/*.test.ts'],
          globalSetup: ['test/support/build-program.ts'],
          testTimeout: 60_000,
        },
      },
      {
        extends: true,
        test: {
          name: 'native',
          include: ['test/native/**/*.test.ts'],
          globalSetup: ['test/support/build-native.ts'],
          // They use all processors, and are emulated where .ci/run says so.
          sequence: { groupOrder: 1 },
          testTimeout: 900_000,
        },
      },
      {
        extends: true,
        test: {
          name: 'integration',
          include: ['test/integration/**/*.test.ts'],
          globalSetup: ['test/support/build-program.ts', 'test/support/build-native.ts'],
          // Each test starts processes of its own, which use all processors.
          fileParallelism: false,
          sequence: { groupOrder: 2 },
          testTimeout: 180_000,
          hookTimeout: 180_000,
        },
      },
    ],
  },
});
