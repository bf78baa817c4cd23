/** Runs before every test file, also where files share what they import. */
import { afterAll } from 'vitest';
import { removeFolders } from './folders.js';

afterAll(removeFolders);
