import type { Board } from '../board.js';
import { attention } from './attention.js';
import { cluster } from './cluster.js';
import { storage } from './storage.js';
import { training } from './training.js';

export const BOARDS: readonly Board[] = [training, attention, cluster, storage];
