import { expect, test } from 'vitest';
import { bytes, duration, eta, flopRate, quantity, rough, timeSpan } from '../../../src/text/quantities.js';

test('numbers as people read them', () => {
  expect([87e-6, 0.0004, 0.0081, 0.312, 2.815, 42.34, 185, 15_000].map(duration)).toEqual([
    ...['87 us', '0.4 ms', '8.1 ms', '312 ms', '2.8 s', '42.3 s', '3m05s', '4h10m'],
  ]);
  // What is rounded to the next unit is written in it.
  expect([99.7e-6, 0.00997, 0.9996, 99.97].map(duration)).toEqual(['0.1 ms', '10 ms', '1.0 s', '1m40s']);
  expect([12.4, 185, 15_000, 183_600].map(eta)).toEqual(['12s', '3m05s', '4h10m', '2d03h']);
  const day = 86_400;
  for (const text of [eta, timeSpan]) {
    expect([366 * day, 4000 * day, 401_357 * day].map(text)).toEqual([
      '1.0 years',
      '11 years',
      '1,099 years',
    ]);
  }
  expect([0.2, 42.4, 151, 3599.7, 15_000, 86_399, 183_600].map(timeSpan)).toEqual([
    '1 s',
    '42 s',
    '2 min 31 s',
    '1 h',
    '4 h 10 min',
    '1 d',
    '2 d 3 h',
  ]);
  expect([512, 1536, 61.2 * 2 ** 30, 300 * 2 ** 20].map(bytes)).toEqual([
    '512 B',
    '1.5 KiB',
    '61.2 GiB',
    '300 MiB',
  ]);
  expect([9.4e9, 196e9, 1.5e12, 312e12].map(flopRate)).toEqual([
    '9.4 GF/s',
    '196 GF/s',
    '1.5 TF/s',
    '312 TF/s',
  ]);
  expect([0.0214, 9.34, 12.6, 2680.4].map(rough)).toEqual(['0.021', '9.3', '13', '2680']);
  expect([0.42134, 12.345, 123.45, 12_345, 0.00012, Number.NaN].map(quantity)).toEqual([
    '0.4213',
    '12.35',
    '123.5',
    '12345',
    '1.20e-4',
    'NaN',
  ]);
});
