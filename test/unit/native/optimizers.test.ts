import { expect, test } from 'vitest';
import { native } from '../../../src/native/load.js';
import { OPTIMIZERS, type OptimizerName } from '../../../src/native/specs.js';
import { engineSpec } from '../../support/engines.js';

test('the configuration and the addon know the same optimizers', () => {
  const spec = engineSpec({ optimizer: 'none' as OptimizerName });
  const names = Object.keys(OPTIMIZERS).join(', ');
  expect(() => native().planFigures(spec)).toThrow(
    expect.objectContaining({ message: `There is no optimizer none; there are: ${names}` }),
  );
});
