"""Makes a data set of pictures and captions: latents of an autoencoder, features of CLIP-L, CLIP-G and T5.

    python scripts/encode.py --model stabilityai/stable-diffusion-3-medium-diffusers --images PHOTOS --out DATA

Needs torch, diffusers, transformers, pillow and pyarrow. What it reads and writes: docs/guide/data.md.
"""

import argparse
import contextlib
import csv
import hashlib
import json
import os
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from diffusers import AutoencoderKL
from PIL import Image, ImageOps
from transformers import CLIPTextModelWithProjection, CLIPTokenizer, T5EncoderModel, T5TokenizerFast

PICTURES = {".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
PREFIXES = {"original": "", "synthetic": "synthetic_"}  # of columns, by kind of caption
STATE = "encoding.json"  # in the folder of an encoding that is not complete
NAMED = 20  # unusable rows that an error names
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Row:
    """A picture's path in the folder, and its caption of each kind; None where there is none."""

    name: str
    captions: dict[str, str | None]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--model", required=True, help="a model of SD3's layout in diffusers' format: a folder, or a name on the Hub")
    add("--images", type=Path, required=True, help="folder of pictures, with captions beside them or in a metadata file")
    add("--out", type=Path, required=True, help="folder of the data set; must not exist")
    add("--size", type=int, default=512, help="side of the square pictures in pixels, a multiple of 16 (default: %(default)s)")
    add("--mode", choices=("sample", "mean", "moments"), default="sample",
        help="which latent: drawn from the posterior, its mean, or mean and log-variance, of which each step of a training "
        "draws another latent (default: %(default)s)")
    add("--seed", type=int, default=0, help="of --mode sample (default: %(default)s)")
    add("--t5-tokens", type=int, default=77, help="T5 tokens of a caption: 77, or 256 as in SD3.5 (default: %(default)s)")
    add("--caption-extension", default=".txt", help="of the file with a picture's caption (default: %(default)s)")
    add("--synthetic-extension", help="of the file with a second, synthetic caption, such as .synthetic.txt")
    add("--caption-column", default="text", help="of metadata.jsonl or metadata.csv (default: %(default)s)")
    add("--synthetic-column", default="synthetic_text", help="second caption, if the file has it (default: %(default)s)")
    add("--skip-broken", action="store_true", help="leave out rows that cannot be encoded, instead of ending")
    add("--batch", type=int, default=8, help="pictures or captions at once (default: %(default)s)")
    add("--shard-rows", type=int, default=1000, help="rows of a file, which are held in memory (default: %(default)s)")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="(default: %(default)s)")
    add("--dtype", choices=DTYPES, help="of the text encoders (default: float16 on a GPU, else float32)")
    args = parser.parse_args()
    if args.size < 16 or args.size % 16:
        parser.error("--size must be a multiple of 16: 8 pixels of a latent, in patches of 2 x 2")
    if min(args.batch, args.shard_rows, args.t5_tokens) < 1:
        parser.error("--batch, --shard-rows and --t5-tokens must be at least 1")
    args.dtype = args.dtype or ("float32" if args.device == "cpu" else "float16")
    return args


def read_rows(args) -> list[Row]:
    """The rows of metadata.jsonl or metadata.csv; without these files, every picture with the files beside it."""
    for name, read in (("metadata.jsonl", lambda file: map(json.loads, filter(str.strip, file))), ("metadata.csv", csv.DictReader)):
        if (args.images / name).exists():
            with open(args.images / name, encoding="utf-8-sig", newline="") as file:
                entries = list(read(file))
            columns = {"original": args.caption_column, "synthetic": args.synthetic_column}
            if not any(args.synthetic_column in entry for entry in entries):
                del columns["synthetic"]
            return [Row(e["file_name"], {kind: text(e.get(column)) for kind, column in columns.items()}) for e in entries]
    endings = {"original": args.caption_extension, "synthetic": args.synthetic_extension}
    pictures = sorted(path for path in args.images.rglob("*") if path.suffix.lower() in PICTURES)
    return [
        Row(str(path.relative_to(args.images)), {kind: beside(path, end) for kind, end in endings.items() if end})
        for path in pictures
    ]


def beside(picture: Path, extension: str) -> str | None:
    path = picture.with_suffix(extension)
    return text(path.read_text(encoding="utf-8-sig")) if path.is_file() else None


def unusable(row: Row, args) -> str | None:
    """Why a row cannot be encoded, as far as that is known before its picture is read."""
    if not (args.images / row.name).is_file():
        return "there is no such picture"
    return next((f"it has no {kind} caption" for kind, caption in row.captions.items() if caption is None), None)


def text(caption: str | None) -> str | None:
    """The first line that is not empty: other programs take further lines as alternative captions."""
    return next((line.strip() for line in (caption or "").splitlines() if line.strip()), None)


def load_picture(path: Path, size: int, notes: Counter) -> torch.Tensor:
    """
    [3, size, size] in [-1, 1]: upright (EXIF), transparency on white, the shorter side resized to `size` with
    Lanczos' antialiasing filter, the centre of the longer one.
    """
    with Image.open(path) as picture:
        picture = ImageOps.exif_transpose(picture)
        if picture.mode[0] in "IF":
            raise ValueError(f"its pixels ({picture.mode}) have more than 8 bits")
        if picture.has_transparency_data:
            picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture.convert("RGBA"))
        if min(picture.size) < size:
            notes[f"pictures are smaller than {size} pixels, and were enlarged"] += 1
        picture = ImageOps.fit(picture.convert("RGB"), (size, size), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 127.5 - 1


def noise(row: Row, seed: int, shape) -> torch.Tensor:
    """A row has the same noise in whichever batch, and after an interruption."""
    digest = hashlib.sha256(f"{seed} {row.name}".encode()).digest()
    return torch.randn(shape, generator=torch.Generator().manual_seed(int.from_bytes(digest[:7])))


class Encoders:
    """Are kept in the host's memory; each is on the device for its turn only, one after the other."""

    def __init__(self, args):
        self.args, self.notes = args, Counter()
        load = lambda kind, folder, **options: kind.from_pretrained(args.model, subfolder=folder, **options)
        encoder = lambda kind, folder: load(kind, folder, torch_dtype=DTYPES[args.dtype]).eval()
        self.vae = load(AutoencoderKL, "vae", torch_dtype=torch.float32).eval()
        self.text = {
            "clip_l": (load(CLIPTokenizer, "tokenizer"), encoder(CLIPTextModelWithProjection, "text_encoder")),
            "clip_g": (load(CLIPTokenizer, "tokenizer_2"), encoder(CLIPTextModelWithProjection, "text_encoder_2")),
            "t5": (load(T5TokenizerFast, "tokenizer_3"), encoder(T5EncoderModel, "text_encoder_3")),
        }

    @contextlib.contextmanager
    def on_device(self, encoder):
        yield encoder.to(self.args.device)
        encoder.to("cpu")

    def latents(self, rows: list[Row]) -> tuple[dict[int, torch.Tensor], dict[str, str]]:
        """The latents by index of the row, as the model sees them; and the pictures that cannot be read, and why."""
        latents, broken = {}, {}
        with self.on_device(self.vae) as vae, ThreadPoolExecutor() as pool:
            for first in range(0, len(rows), self.args.batch):
                indices = range(first, min(first + self.args.batch, len(rows)))
                tries = list(pool.map(lambda i: self.picture(rows[i]), indices))
                broken |= {rows[i].name: found for i, found in zip(indices, tries) if isinstance(found, str)}
                good = [(i, found) for i, found in zip(indices, tries) if not isinstance(found, str)]
                if good:
                    moments = vae.encode(torch.stack([found for _, found in good]).to(self.args.device)).latent_dist
                    for (i, _), mean, logvar in zip(good, moments.mean.cpu(), moments.logvar.cpu()):
                        latents[i] = self.latent(rows[i], mean, logvar)
        return latents, broken

    def picture(self, row: Row) -> torch.Tensor | str:
        try:
            return load_picture(self.args.images / row.name, self.args.size, self.notes)
        except Exception as error:  # Pillow's decoders raise errors of many kinds.
            return f"{type(error).__name__}: {error}"

    def latent(self, row: Row, mean: torch.Tensor, logvar: torch.Tensor) -> torch.Tensor:
        shift, scale = self.vae.config.shift_factor or 0.0, self.vae.config.scaling_factor
        if self.args.mode == "sample":
            mean = mean + torch.exp(logvar / 2) * noise(row, self.args.seed, mean.shape)
        scaled = (mean - shift) * scale
        return torch.cat([scaled, logvar + 2 * np.log(scale)]) if self.args.mode == "moments" else scaled

    def features(self, captions: list[str]) -> dict[str, np.ndarray]:
        """CLIP's penultimate layer and pooled projection, T5's last layer, as StableDiffusion3Pipeline.encode_prompt has them."""
        columns = {}
        for name, (tokenizer, encoder) in self.text.items():
            tokens = self.args.t5_tokens if name == "t5" else tokenizer.model_max_length
            cut = sum(len(ids) > tokens for ids in tokenizer(captions, verbose=False).input_ids)
            self.notes[f"captions were cut to the {tokens} tokens of {name}"] += cut
            parts = []
            with self.on_device(encoder):
                for first in range(0, len(captions), self.args.batch):
                    batch = captions[first : first + self.args.batch]
                    ids = tokenizer(batch, padding="max_length", max_length=tokens, truncation=True, return_tensors="pt").input_ids
                    output = encoder(ids.to(self.args.device), output_hidden_states=name != "t5")
                    found = [output.last_hidden_state] if name == "t5" else [output.hidden_states[-2], output.text_embeds]
                    parts.append([values.to("cpu", torch.float16) for values in found])
            for suffix, values in zip(("", "_pooled"), zip(*parts)):
                columns[name + suffix] = torch.cat(values).numpy()
        return columns

    @torch.inference_mode()
    def shard(self, rows: list[Row]) -> tuple[pa.Table | None, dict[str, str]]:
        """The table of these rows without those that cannot be encoded, and why not, by name."""
        latents, broken = self.latents(rows)
        rows = [rows[i] for i in latents]
        if not rows:
            return None, broken
        columns = {"moments" if self.args.mode == "moments" else "latent": torch.stack(list(latents.values())).numpy()}
        kinds = list(rows[0].captions)
        for name, values in self.features([row.captions[kind] for kind in kinds for row in rows]).items():
            columns |= {PREFIXES[kind] + name: part for kind, part in zip(kinds, np.split(values, len(kinds)))}
        finite = np.ones(len(rows), dtype=bool)
        for name, values in columns.items():
            is_finite = np.isfinite(values).reshape(len(rows), -1).all(axis=1)
            broken |= {rows[i].name: f"{name} is not finite; try another --dtype" for i in np.flatnonzero(~is_finite)}
            finite &= is_finite
        if not finite.all():
            rows = [row for row, is_finite in zip(rows, finite) if is_finite]
            columns = {name: values[finite] for name, values in columns.items()}
        texts = {PREFIXES[kind] + "caption": [row.captions[kind] for row in rows] for kind in kinds}
        numbers = {name: nested(values) for name, values in columns.items()}
        return pa.table({"id": [row.name for row in rows], **texts, **numbers}), broken


def nested(values: np.ndarray) -> pa.Array:
    """A row is a list of fixed size for each dimension."""
    array = pa.array(values.reshape(-1))
    for length in reversed(values.shape[1:]):
        array = pa.FixedSizeListArray.from_arrays(array, length)
    return array


def write(path: Path, fill) -> None:
    """The file appears when it is complete."""
    part = path.with_name(path.name + ".part")
    with open(part, "wb") as file:
        fill(file)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def write_json(path: Path, value) -> None:
    write(path, lambda file: file.write(json.dumps(value, indent=2, ensure_ascii=False).encode()))


def write_table(path: Path, table: pa.Table) -> None:
    def fill(file):
        with pa.ipc.new_stream(file, table.schema) as stream:
            stream.write_table(table)

    write(path, fill)


def tell(broken: dict[str, str], args) -> None:
    """Names rows that cannot be encoded, and ends if they are not to be skipped."""
    for name, why in list(broken.items()) if args.skip_broken else list(broken.items())[:NAMED]:
        print(f"{'skipped' if args.skip_broken else 'error'}: {args.images / name}: {why}", file=sys.stderr)
    if broken and not args.skip_broken:
        sys.exit(f"{len(broken)} rows cannot be encoded. Mend them, or add --skip-broken; the same command then goes on")


def settings_of(args, rows: list[Row]) -> dict:
    """What an interrupted encoding must have in common with the command that goes on with it."""
    keys = ("model", "size", "mode", "seed", "t5_tokens", "dtype", "shard_rows")
    content = json.dumps([[row.name, row.captions] for row in rows])
    return {**{key: getattr(args, key) for key in keys}, "rows": hashlib.sha256(content.encode()).hexdigest()}


def begin(work: Path, settings: dict) -> dict:
    """The state of the encoding in the folder `work`: rows of each shard that is complete, by its file's name."""
    path = work / STATE
    if not path.exists():
        work.mkdir(parents=True, exist_ok=True)
        write_json(path, {"settings": settings, "shards": {}})
    state = json.loads(path.read_text(encoding="utf-8"))
    other = [key for key, value in settings.items() if state["settings"].get(key) != value]
    if other:
        sys.exit(f"{work} was begun with other {', '.join(other)}. Use what it was begun with, or delete it")
    return state


def encode(args, rows: list[Row], leave_out: set[str], work: Path, state: dict) -> Counter:
    """Encodes what is not encoded yet, shard by shard; returns what was notable, and how often."""
    count = -(-len(rows) // args.shard_rows)
    files = [f"data-{i:05d}-of-{count:05d}.arrow" for i in range(count)]
    missing = [i for i in range(count) if files[i] not in state["shards"]]
    if not missing:
        return Counter()
    encoders = Encoders(args)
    begun = time.monotonic()
    for done, i in enumerate(missing, 1):
        part = rows[i * args.shard_rows : (i + 1) * args.shard_rows]
        table, broken = encoders.shard([row for row in part if row.name not in leave_out])
        tell(broken, args)
        if table is not None and table.num_rows:
            write_table(work / files[i], table)
        state["shards"][files[i]] = table.num_rows if table is not None else 0
        write_json(work / STATE, state)
        left = (time.monotonic() - begun) / done * (len(missing) - done)
        print(f"{files[i]}: {state['shards'][files[i]]} rows; about {left / 60:.0f} min left", flush=True)
    return encoders.notes


def finish(args, work: Path, state: dict) -> None:
    """Writes what makes the shards a data set that `datasets.load_from_disk` reads, and gives the folder its name."""
    files = sorted(name for name, rows in state["shards"].items() if rows)
    if not files:
        sys.exit("No row could be encoded")
    name = Path(args.model).resolve().name if Path(args.model).is_dir() else args.model
    folders = {"clip_l": "text_encoder", "clip_g": "text_encoder_2", "t5": "text_encoder_3"}
    info = {
        "description": f"Encoded by scripts/encode.py with {json.dumps(state['settings'])}",
        "encoders": {encoder: f"{name}/{folder}" for encoder, folder in folders.items()},
        **{"citation": "", "homepage": "", "license": "", "features": None},
    }
    hf = {"_format_columns": None, "_format_kwargs": {}, "_format_type": None, "_output_all_columns": False, "_split": None}
    fingerprint = hashlib.sha256(json.dumps(state).encode()).hexdigest()[:16]
    write_json(work / "dataset_info.json", info)
    write_json(work / "state.json", {"_data_files": [{"filename": f} for f in files], "_fingerprint": fingerprint, **hf})
    work.rename(args.out)
    (args.out / STATE).unlink()


def main() -> None:
    args = arguments()
    torch.backends.cudnn.allow_tf32 = False  # The autoencoder in fp32 is meant to be that.
    if args.out.exists():
        sys.exit(f"{args.out} exists already")
    rows = read_rows(args)
    broken = {row.name: why for row in rows if (why := unusable(row, args))}
    tell(broken, args)
    work = args.out.with_name(args.out.name + ".partial")
    state = begin(work, settings_of(args, rows))
    notes = encode(args, rows, set(broken), work, state)
    for note, times in notes.items():
        if times:
            print(f"note: {times} {note}")
    finish(args, work, state)
    print(f"{args.out}: {sum(state['shards'].values())} rows. Next: ./orchestrator config new --data {args.out} --out my.yaml")


if __name__ == "__main__":
    main()
