import { availableParallelism } from 'node:os';
import { resolve } from 'node:path';
import { defineConfig } from 'vitest/config';

/** At most 8, because a test may need a GiB. */
const PROCESSORS = Math.min(8, availableParallelism());

/**
 * native: the C++ tests. unit: pure and fast. interop: files that other programs wrote. integration:
 * processes of the compiled program, on loopback.
 */
export default defineConfig({
  test: {
    pool: 'forks',
    // Vitest would leave one processor to itself, which has little to do.
    maxWorkers: PROCESSORS,
    setupFiles: ['test/support/setup.ts'],
    // What tests cache is not the user's.
    env: { XDG_CACHE_HOME: resolve('build/test-cache') },
    reporters: ['default', './scripts/summary.mjs'],
    // A condition may take long where other work keeps the processors busy.
    expect: { poll: { timeout: 15_000 } },
    projects: [
      {
        extends: true,
        test: {
          name: 'unit',
          include: ['test/unit/**/*.test.ts'],
          // To start a process and import src/ takes longer than most of these files.
          isolate: false,
          testTimeout: 120_000,
        },
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
          // Each is a process, most of them of one thread.
          sequence: { groupOrder: 1 },
          maxConcurrency: PROCESSORS,
          // They are emulated where .ci/run says so.
          testTimeout: 900_000,
        },
      },
      {
        extends: true,
        test: {
          name: 'integration',
          include: ['test/integration/**/*.test.ts'],
          globalSetup: [
            'test/support/build-program.ts',
            'test/support/build-native.ts',
            'test/support/shared-folder.ts',
          ],
          // A run mostly waits for one of its processes, and some tests for a time.
          maxWorkers: PROCESSORS + 2,
          sequence: { groupOrder: 2 },
          testTimeout: 600_000,
          hookTimeout: 600_000,
        },
      },
    ],
  },
});
