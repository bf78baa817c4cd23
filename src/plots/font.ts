/** The font of everything that is drawn: the same on every machine, also on those that have none. */
import { fileURLToPath } from 'node:url';

const asset = (name: string) => fileURLToPath(new URL(`../../assets/font/${name}`, import.meta.url));

export const FONT_FAMILY = 'DejaVu Sans';
export const FONT_FILE = asset('labels.ttf');

// Before the first text is set: machines without fonts may lack fontconfig's settings, too.
process.env.FONTCONFIG_FILE = asset('fonts.conf');
