/** Texts in what other machines say. */
import { z } from 'zod';
import { printableLine } from './printable.js';

/** A text that is shown on terminals: one line, without what controls them. */
export const said = z.string().transform((text) => printableLine(text));
