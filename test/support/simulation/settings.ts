/** What a simulated run is asked for. */
import type { Settings } from '../../../src/rule/events.js';
import type { World } from './world.js';

/** Draws the settings of a run, and whether the processors of its workers differ. */
export function drawn(world: Pick<World, 'below' | 'chance' | 'witness'>) {
  const { below, witness } = world;
  const chance = (probability: number) => world.chance(probability);
  const workers = 1 + below(5);
  const min = 1 + (chance(0.3) ? below(workers) : 0);
  const resumed = chance(0.15) ? 1 + below(3) : 0;
  const areMixed = chance(0.3);
  // All have that of the checkpoint.
  const isa = areMixed && resumed > 0 ? 'generic' : '';
  const settings: Settings = {
    workers,
    minWorkers: min,
    maxWorkers: workers + 3,
    patienceMs: 15_000,
    welcome: { configJson: '{}', workers, runDir: 'runs/x', planJson: '[]', patienceSeconds: 60, isa },
    onGpus: false,
    mustShare: false,
    totalSlots: workers + below(4),
    steps: resumed + 1 + below(12),
    checkpointEvery: below(4),
    validateEvery: below(3),
    configHash: 'c',
    lastGeneration: below(3),
    resumePath: resumed === 0 ? '' : witness.resumes(resumed, isa),
    resumeStep: resumed,
  };
  return { settings, areMixed };
}
