/** Runs before every test file, also where files share what they import. */
import { afterAll, afterEach } from 'vitest';
import { removeFolders } from './folders.js';
import { endLaunched } from './launched.js';

afterEach(endLaunched);
afterAll(removeFolders);
