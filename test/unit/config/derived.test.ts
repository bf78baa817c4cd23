import { describe, expect, test } from 'vitest';
import { validationEvery, wantedExchange } from '../../../src/config/derived.js';
import { loadConfig } from '../../../src/config/load.js';
import { MINIMAL, yaml } from '../../support/config.js';

describe('the exchange that is wanted', () => {
  test.each([
    ['cpu', 'auto', 'shared'],
    ['cpu', 'shared', 'shared'],
    ['cpu', 'grpc', 'grpc'],
    ['cuda', 'auto', 'nccl'],
    ['cuda', 'nccl', 'nccl'],
    ['cuda', 'grpc', 'grpc'],
  ] as const)(
    'device %s and exchange %s: %s; a lone worker has nobody to exchange with',
    (device, exchange, wanted) => {
      expect(wantedExchange({ device, exchange }, 2)).toBe(wanted);
      expect(wantedExchange({ device, exchange }, 1)).toBe('none');
    },
  );
});

test.each([
  [0, 10, 0],
  [8, 10, 10],
  [8, 0, 0],
])('%i held-out rows and validation.every %i: a validation every %i steps', (rows, every, expected) => {
  const flags = [`data.validation_rows=${rows}`, `validation.every=${every}`];
  expect(validationEvery(loadConfig(yaml(MINIMAL), flags))).toBe(expected);
});
