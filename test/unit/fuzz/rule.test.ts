/** Whatever a worker says, and when, the rule of the run neither throws nor takes nonsense for an answer. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  attentionSummary,
  lossByTime,
  stepLoss,
  stepRows,
  validationSummary,
} from '../../../src/coordinator/combine.js';
import type { Action, Event } from '../../../src/coordinator/events.js';
import { FUZZ_MS, fuzz } from '../../support/fuzz.js';
import { prepared, ready, Script, SETTINGS } from '../../support/rule-script.js';

const number = fc.oneof(
  { weight: 6, arbitrary: fc.nat(7) },
  fc.constantFrom(-1, 1.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 53, 2 ** 64),
);
const text = fc.constantFrom('', 'a', 'master', 'ema', 'ERR_X', '__proto__', 'isa avx2', 'config', 'state');
const list = <T>(item: fc.Arbitrary<T>) => fc.array(item, { maxLength: 4 });
const failure = fc.record({ code: text, message: text, hint: text });
const numbers = fc.dictionary(text, number, { maxKeys: 3 });

const slot = fc.record({
  slot: number,
  losses: list(number),
  samples: list(number),
  skipped: list(number),
  times: list(number),
});
const attention = list(
  fc.record({
    name: text,
    maxAbsLogit: number,
    meanEntropy: number,
    stream: text,
    rows: number,
    logitBound: number,
  }),
);

/** The bodies of the messages, with every field, as they are after decoding. */
const BODIES = {
  standby: fc.record({
    withoutRunFolder: fc.boolean(),
    arithmetic: text,
    held: fc.option(fc.record({ step: number })),
    shares: fc.boolean(),
  }),
  formed: fc.record({
    device: fc.option(fc.record({ gpu: text, library: text, uniqueId: text, problem: text })),
    held: fc.option(fc.record({ step: number })),
    sharing: fc.option(fc.record({ problem: text })),
  }),
  ready: fc.oneof(
    fc.constant(ready()),
    fc.record({
      step: number,
      configHash: text,
      datasetHash: text,
      stateHash: text,
      parameters: number,
      flopsPerSlot: number,
      precision: text,
      validation: list(text),
      device: text,
      matmulPeak: number,
    }),
  ),
  prepared: fc.oneof(
    // The slots that it has in the running generation, but anything about them.
    {
      weight: 3,
      arbitrary: fc
        .tuple(fc.nat(4), fc.array(slot, { minLength: 2, maxLength: 2 }), attention)
        .map(([step, slots, attention]) => ({
          ...prepared(step, [1, 2], { attention }),
          slots: slots.map((report, i) => ({ ...report, slot: i + 1 })),
        })),
    },
    fc.record({
      step: number,
      slots: list(slot),
      gradientNorm: number,
      nonFinite: list(fc.record({ slot: number, tensor: text })),
      attention,
      numbers,
      gradientNorms: numbers,
    }),
  ),
  applied: fc.record({ step: number, stateHash: text }),
  validated: fc.record({
    step: number,
    losses: list(fc.record({ weights: text, slot: number, losses: list(number) })),
    seconds: number,
    abandoned: fc.boolean(),
    emaDistance: number,
  }),
  saved: fc.record({ step: number, folder: text, seconds: number, stallSeconds: number, bytes: number }),
  notSaved: fc.record({ step: number, failure: fc.option(failure) }),
  saving: fc.constant({}),
  offered: fc.record({
    step: number,
    metadata: fc.uint8Array({ maxLength: 8 }),
    moments: list(text),
    ema: fc.boolean(),
    stallSeconds: number,
    number,
  }),
  finished: fc.constant({}),
  heartbeat: fc.record({ validated: number, stage: fc.constantFrom('IDLE', 'COMPUTE', 9), ticks: number }),
  leave: fc.record({ exitCode: number }),
  failure,
  suspect: fc.record({ rank: number, why: text }),
};

/** What the liar says, or what happens otherwise. */
const happening: fc.Arbitrary<(run: Script) => Action[]> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.oneof(
      ...Object.entries(BODIES).map(([type, body]) =>
        (body as fc.Arbitrary<object>).map(
          (message) => (run: Script) => run.event({ type, id: 'b', [type]: message } as unknown as Event),
        ),
      ),
    ),
  },
  {
    weight: 1,
    arbitrary: fc.tuple(list(text), text).map((isas) => (run: Script) => run.join('b', ...isas)),
  },
  {
    weight: 2,
    arbitrary: fc
      .nat(7)
      .map(
        (step) => (run: Script) => run.event({ type: 'prepared', id: 'a', prepared: prepared(step, [0]) }),
      ),
  },
  { weight: 1, arbitrary: fc.nat(7).map((step) => (run: Script) => run.applied('a', step)) },
  {
    weight: 1,
    arbitrary: fc.nat(7).map((step) => (run: Script) => {
      const losses = [{ weights: 'master', slot: 0, losses: [1] }];
      const validated = { step, losses, seconds: 1, abandoned: false, emaDistance: 0 };
      return run.event({ type: 'validated', id: 'a', validated });
    }),
  },
  {
    weight: 1,
    arbitrary: fc.nat(10_000).map((ms) => (run: Script) => {
      run.now += ms;
      return run.event({ type: 'tick' });
    }),
  },
);

/** What is done with answers that were taken. */
function carryOut(action: Action): void {
  if (action.type === 'record' || action.type === 'commit') {
    const { prepared: all } = action;
    const rows = stepRows(all);
    expect(rows.every((row) => Number.isSafeInteger(row) && row >= 0)).toBe(true);
    stepLoss(all);
    lossByTime(all);
    attentionSummary(all);
  }
  if (action.type === 'validation') validationSummary(action.parts, ['0.25', '0.75']);
}

const SUMMARY = { maxAbsLogit: 1, meanEntropy: 1, stream: 'text', rows: 1, logitBound: 0 };

test(
  'a worker that lies about a step',
  () =>
    fuzz(
      'step',
      fc.tuple(BODIES.prepared, BODIES.validated, fc.boolean()),
      ([answer, part, withAttention]) => {
        const run = new Script(SETTINGS).running();
        const ofA = withAttention ? [{ name: 'block 0', ...SUMMARY }] : [];
        const acts = (actions: Action[]) => actions.forEach(carryOut);
        for (const step of [1, 2, 3]) {
          const lie = { ...answer, step, gradientNorm: 1.5 };
          acts(run.event({ type: 'prepared', id: 'b', prepared: lie }));
          acts(run.event({ type: 'prepared', id: 'a', prepared: prepared(step, [0], { attention: ofA }) }));
        }
        run.validated('a', 3);
        acts(run.event({ type: 'validated', id: 'b', validated: { ...part, step: 3 } }));
      },
    ),
  FUZZ_MS,
);

test(
  'a worker that lies',
  () =>
    fuzz(
      'rule',
      fc.tuple(fc.constantFrom('forming', 'running'), fc.array(happening, { maxLength: 25 })),
      ([from, happenings]) => {
        const run = new Script({ ...SETTINGS, totalSlots: 3 });
        if (from === 'running') run.running();
        else run.forming();
        for (const happens of happenings) for (const action of happens(run)) carryOut(action);
      },
    ),
  FUZZ_MS,
);
