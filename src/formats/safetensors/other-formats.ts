/** What a file is that is not in the safetensors format, by its first bytes. */

const FROM_PYTORCH =
  'Save its tensors as safetensors: safetensors.torch.save_file(torch.load(FILE, weights_only=True), OUT)';

const FORMATS: readonly { begins: string; name: string; hint: string | null }[] = [
  {
    begins: 'PK\x03\x04',
    name: 'a zip archive, as torch.save writes (.pt, .bin, .ckpt)',
    hint: FROM_PYTORCH,
  },
  {
    begins: '\x80\x02',
    name: "a pickle of Python's, as old versions of torch.save wrote",
    hint: FROM_PYTORCH,
  },
  {
    begins: 'GGUF',
    name: 'a GGUF file, whose weights are quantised',
    hint: 'Take the safetensors files that it was made from',
  },
  {
    begins: 'version https://git-lfs',
    name: 'a pointer of Git LFS, not the file itself',
    hint: 'Download the file: git lfs pull',
  },
  { begins: '\x89HDF', name: 'an HDF5 file', hint: null },
  { begins: '\x93NUMPY', name: 'an array of NumPy', hint: null },
  { begins: 'ARROW1', name: 'an Arrow file', hint: null },
  { begins: 'PAR1', name: 'a Parquet file', hint: null },
  { begins: '<!', name: 'a web page', hint: 'Was the download an error page or a login page?' },
  { begins: '<html', name: 'a web page', hint: 'Was the download an error page or a login page?' },
  {
    begins: '{',
    name: 'a JSON file',
    hint: 'An index of several files must be named *.safetensors.index.json',
  },
];

/** Bytes that `otherFormat` needs. */
export const MAGIC_BYTES = Math.max(...FORMATS.map(({ begins }) => begins.length));

/**
 * The format that a file's first bytes are those of, with what to do; null if none is known. Safetensors files
 * begin with the length of their header, below 100 MB, whose upper bytes are zeros; no text here has those.
 */
export function otherFormat(first: Uint8Array): { name: string; hint: string | null } | null {
  const text = Buffer.from(first).toString('latin1');
  return FORMATS.find(({ begins }) => text.startsWith(begins)) ?? null;
}
