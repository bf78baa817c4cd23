/** What the SD3 paper published on its study of formulations, by our names of them. */

/** Average ranks of Table 1: over all settings, over those of 5 steps, and over those of 50. */
export interface PublishedRanks {
  all: number;
  fewest: number;
  most: number;
}

const row = (all: number, fewest: number, most: number): PublishedRanks => ({ all, fewest, most });

/** In the paper's order. */
export const PUBLISHED_RANKS: Readonly<Record<string, PublishedRanks>> = {
  'rf/lognorm(0,1)': row(1.54, 1.25, 1.5),
  'rf/lognorm(1,0.6)': row(2.08, 3.5, 2),
  'rf/lognorm(0.5,0.6)': row(2.71, 8.5, 1),
  'rf/mode(1.292)': row(2.75, 3.25, 3),
  'rf/lognorm(0.5,1)': row(2.83, 1.5, 2.5),
  'eps/linear': row(2.88, 4.25, 2.75),
  'rf/mode(1.75)': row(3.33, 2.75, 2.75),
  'rf/cosmap': row(4.13, 3.75, 4),
  'edm(0,0.6)': row(5.63, 13.25, 3.25),
  rf: row(5.67, 6.5, 5.75),
  'v/linear': row(6.83, 5.75, 7.75),
  'edm(0.6,1.2)': row(9, 13, 9),
  'v/cos': row(9.17, 12.25, 8.75),
  'edm/cos': row(11.04, 14.25, 11.25),
  'edm/rf': row(13.04, 15.25, 13.25),
  'edm(-1.2,1.2)': row(15.58, 20.25, 15),
};

/** CLIP score and FID, at 25 steps, on ImageNet and on CC12M. */
export interface PublishedScores {
  imagenet: { clip: number; fid: number };
  cc12m: { clip: number; fid: number };
}

const scores = (clip: number, fid: number, otherClip: number, otherFid: number): PublishedScores => ({
  imagenet: { clip, fid },
  cc12m: { clip: otherClip, fid: otherFid },
});

/** Table 2. */
export const PUBLISHED_SCORES: Readonly<Record<string, PublishedScores>> = {
  rf: scores(0.247, 49.7, 0.217, 94.9),
  'edm(-1.2,1.2)': scores(0.236, 63.12, 0.2, 116.6),
  'eps/linear': scores(0.245, 48.42, 0.222, 90.34),
  'v/cos': scores(0.244, 50.74, 0.209, 97.87),
  'v/linear': scores(0.246, 51.68, 0.217, 100.76),
  'rf/lognorm(0.5,0.6)': scores(0.256, 80.41, 0.233, 120.84),
  'rf/mode(1.75)': scores(0.253, 44.39, 0.218, 94.06),
  'rf/lognorm(1,0.6)': scores(0.254, 114.26, 0.234, 147.69),
  'rf/lognorm(-0.5,1)': scores(0.248, 45.64, 0.219, 89.7),
  'rf/lognorm(0,1)': scores(0.25, 45.78, 0.224, 89.91),
};

/** The ranks and the scores that a claim is about, by formulation. */
export interface Claimed {
  /** Average rank over all settings. */
  rank(formulation: string): number;
  /** Frechet distance with the fewest steps, over that with the most, averaged over data sets and weights. */
  degradation(formulation: string): number;
}

interface Claim {
  text: string;
  /** The formulations without which it cannot be judged. */
  needs: readonly string[];
  holds(found: Claimed): boolean;
}

const before = (text: string, first: readonly string[], others: readonly string[]): Claim => ({
  text,
  needs: [...first, ...others],
  holds: ({ rank }) => Math.max(...first.map(rank)) < Math.min(...others.map(rank)),
});

const ALL_RANKED = Object.keys(PUBLISHED_RANKS);
const others = (name: string) => ALL_RANKED.filter((other) => other !== name);
const NOT_RECTIFIED = ['v/linear', 'v/cos', 'edm/cos', 'edm/rf', 'edm(-1.2,1.2)'];

/** What the paper concludes from its study (section 5.1), each judged by the numbers of another. */
export const CLAIMS: readonly Claim[] = [
  before('rf/lognorm(0,1) has the best rank of Table 1', ['rf/lognorm(0,1)'], others('rf/lognorm(0,1)')),
  before(
    'rf/lognorm(0,1) ranks before rf: the middle of the path is worth more',
    ['rf/lognorm(0,1)'],
    ['rf'],
  ),
  before('rf/mode(1.292) ranks before rf', ['rf/mode(1.292)'], ['rf']),
  before('rf/cosmap ranks before rf', ['rf/cosmap'], ['rf']),
  before('eps/linear ranks before rf', ['eps/linear'], ['rf']),
  before('rf ranks before v/linear, v/cos, edm/cos, edm/rf and edm(-1.2,1.2)', ['rf'], NOT_RECTIFIED),
  before('edm(-1.2,1.2) has the worst rank of Table 1', others('edm(-1.2,1.2)'), ['edm(-1.2,1.2)']),
  {
    text: 'with few steps, rf loses less than eps/linear and v/cos (Figure 3)',
    needs: ['rf', 'eps/linear', 'v/cos'],
    holds: ({ degradation }) => degradation('rf') < Math.min(degradation('eps/linear'), degradation('v/cos')),
  },
];
