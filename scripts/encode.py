"""Makes a data set of pictures and captions: latents of an autoencoder, and features of CLIP-L, CLIP-G and T5.

    python scripts/encode.py --model stabilityai/stable-diffusion-3-medium-diffusers --images PHOTOS --out DATA

Needs torch, diffusers, transformers, pillow and pyarrow. What it reads and writes: docs/guide/data.md.
"""

import argparse
import contextlib
import hashlib
import json
import math
import os
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from diffusers import AutoencoderKL
from PIL import Image, ImageOps
from transformers import CLIPTextModelWithProjection, CLIPTokenizer, T5EncoderModel, T5TokenizerFast

from captions import Row, extension, read_rows

PREFIXES = {"original": "", "synthetic": "synthetic_"}  # of columns, by kind of caption
TEXT_FOLDERS = {"clip_l": "text_encoder", "clip_g": "text_encoder_2", "t5": "text_encoder_3"}
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
STATE = "encoding.json"  # is in the folder of an encoding that is not complete


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])

    def add(name, meaning, **options):
        parser.add_argument(name, help=meaning + (" (default: %(default)s)" if options.get("default") else ""), **options)

    add("--model", "a model of SD3's layout in diffusers' format: a folder, or a name on the Hub", required=True)
    add("--images", "folder of pictures, with captions beside them or in a metadata file", type=Path, required=True)
    add("--out", "folder of the data set; must not exist", type=Path, required=True)
    add("--size", "side of the square pictures in pixels, a multiple of 16", type=int, default=512)
    add("--mode", "latents are samples of the posterior, its means, or its moments, from which every step of a training "
        "draws another sample", choices=("sample", "mean", "moments"), default="sample")
    add("--seed", "seed of --mode sample", type=int, default=1)
    add("--t5-tokens", "T5 tokens of a caption; 256 is for longer captions", type=int, default=77)
    add("--caption-extension", "of the file with a picture's caption (default: .txt)", type=extension)
    add("--synthetic-extension", "of the file with a second, synthetic caption, such as .synthetic.txt", type=extension)
    add("--caption-column", "caption in metadata.jsonl or metadata.csv (default: text)")
    add("--synthetic-column", "second, synthetic caption there (default: synthetic_text, if there is this column)")
    add("--skip-broken", "leave out rows that cannot be encoded, instead of ending", action="store_true")
    add("--batch", "pictures or captions at once", type=int, default=8)
    add("--shard-rows", "rows of a file, which are held in memory", type=int, default=1000)
    add("--device", "where to compute", default="cuda" if torch.cuda.is_available() else "cpu")
    add("--dtype", "of the text encoders (default: float16 on a GPU, else float32)", choices=DTYPES)
    args = parser.parse_args()
    if args.size < 16 or args.size % 16:
        parser.error("--size must be a multiple of 16: the autoencoder divides it by 8, and patches by 2")
    if min(args.batch, args.shard_rows, args.t5_tokens) < 1:
        parser.error("--batch, --shard-rows and --t5-tokens must be at least 1")
    args.dtype = args.dtype or ("float32" if args.device == "cpu" else "float16")
    return args


def load_picture(path: Path, size: int) -> tuple[torch.Tensor, bool]:
    """
    [3, size, size] in [-1, 1]: upright (EXIF), transparency on white, the shorter side resized to `size` (Lanczos,
    antialiased), the middle of the longer one. Also whether it was enlarged.
    """
    with Image.open(path) as picture:
        picture = ImageOps.exif_transpose(picture)
        if picture.mode[0] in "IF":
            raise ValueError(f"its pixels ({picture.mode}) have more than 8 bits")
        if picture.has_transparency_data:
            picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture.convert("RGBA"))
        fitted = ImageOps.fit(picture.convert("RGB"), (size, size), Image.Resampling.LANCZOS)
        return torch.from_numpy(np.array(fitted)).permute(2, 0, 1).float() / 127.5 - 1, min(picture.size) < size


class Encoders:
    """Are held in the host's memory; each is on the device for its turn only, so the largest must fit there."""

    def __init__(self, args: argparse.Namespace):
        self.args, self.notes, self.broken = args, Counter(), []

        def load(kind, folder, **options):
            return kind.from_pretrained(args.model, subfolder=folder, **options)

        self.vae = load(AutoencoderKL, "vae", torch_dtype=torch.float32).eval()
        self.text = {}
        for name, folder in TEXT_FOLDERS.items():
            clip = CLIPTokenizer, CLIPTextModelWithProjection
            tokenizer, encoder = (T5TokenizerFast, T5EncoderModel) if name == "t5" else clip
            tokenizer = load(tokenizer, folder.replace("text_encoder", "tokenizer"))
            self.text[name] = tokenizer, load(encoder, folder, torch_dtype=DTYPES[args.dtype]).eval()

    @torch.inference_mode()
    def table(self, rows: list[Row]) -> pa.Table | None:
        """
        These rows without those that cannot be encoded; None if no row is left. `broken` then has the names of the
        others and the reasons, `notes` counts what the user may want to know of these rows.
        """
        images, self.notes = self.args.images, Counter()
        self.broken = [(row.name, why) for row in rows if (why := row.problem(images))]
        rows, latents = self.latents([row for row in rows if not row.problem(images)])
        if not rows:
            return None
        columns = {"moments" if self.args.mode == "moments" else "latent": torch.stack(latents).numpy()}
        kinds = list(rows[0].captions)
        for name, values in self.features([row.captions[kind] for kind in kinds for row in rows]).items():
            parts = np.split(values, len(kinds))
            columns |= {PREFIXES[kind] + name: part for kind, part in zip(kinds, parts, strict=True)}
        finite = np.all([np.isfinite(values).reshape(len(rows), -1).all(axis=1) for values in columns.values()], axis=0)
        if not finite.all():
            self.broken += [(rows[i].name, "it gives values that are not finite") for i in np.flatnonzero(~finite)]
            rows = [rows[i] for i in np.flatnonzero(finite)]
            columns = {name: values[finite] for name, values in columns.items()}
        texts = {PREFIXES[kind] + "caption": [row.captions[kind] for row in rows] for kind in kinds}
        numbers = {name: nested(values) for name, values in columns.items()}
        return pa.table({"id": [row.name for row in rows], **texts, **numbers}) if rows else None

    @contextlib.contextmanager
    def on_device(self, encoder):
        yield encoder.to(self.args.device)
        encoder.to("cpu")

    def latents(self, rows: list[Row]) -> tuple[list[Row], list[torch.Tensor]]:
        """The rows whose pictures can be read, and their latents. The next pictures are read while some are encoded."""
        kept, latents = [], []
        batches = [*batched(rows, self.args.batch), []]
        with self.on_device(self.vae) as vae, ThreadPoolExecutor() as pool:
            reading = pool.map(self.picture, batches[0])
            for following in batches[1:]:
                read = [found for found in reading if found is not None]
                reading = pool.map(self.picture, following)
                if read:
                    batch, pictures, enlarged = zip(*read, strict=True)
                    posterior = vae.encode(torch.stack(pictures).to(self.args.device)).latent_dist
                    kept += batch
                    latents += map(self.latent, batch, posterior.mean.cpu(), posterior.logvar.cpu())
                    self.notes[f"pictures smaller than {self.args.size} pixels, enlarged"] += sum(enlarged)
        return kept, latents

    def picture(self, row: Row) -> tuple[Row, torch.Tensor, bool] | None:
        """The picture, and whether it was enlarged; None if it cannot be read, which `broken` then holds."""
        try:
            return row, *load_picture(self.args.images / row.name, self.args.size)
        except Exception as error:  # Pillow's decoders raise errors of many kinds.
            self.broken.append((row.name, f"{type(error).__name__}: {error}"))
            return None

    def latent(self, row: Row, mean: torch.Tensor, logvar: torch.Tensor) -> torch.Tensor:
        """Shifted and scaled. A picture has the same noise in any batch, in all its rows, and after an interruption."""
        shift, scale = self.vae.config.shift_factor or 0.0, self.vae.config.scaling_factor
        if self.args.mode == "sample":
            digest = hashlib.sha256(f"{self.args.seed} {row.name}".encode()).digest()
            generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "little"))
            mean = mean + torch.exp(logvar / 2) * torch.randn(mean.shape, generator=generator)
        latent = (mean - shift) * scale
        return torch.cat([latent, logvar + 2 * math.log(scale)]) if self.args.mode == "moments" else latent

    def features(self, captions: list[str]) -> dict[str, np.ndarray]:
        """CLIP's penultimate hidden states and pooled projections, T5's last ones; as in diffusers' encode_prompt."""
        columns = {}
        for name, (tokenizer, encoder) in self.text.items():
            tokens = self.args.t5_tokens if name == "t5" else tokenizer.model_max_length
            padded = {"padding": "max_length", "max_length": tokens, "truncation": True, "return_tensors": "pt"}
            parts = []
            with self.on_device(encoder):
                for batch in batched(captions, self.args.batch):
                    cut = sum(len(ids) > tokens for ids in tokenizer(batch, verbose=False).input_ids)
                    self.notes[f"captions longer than the {tokens} tokens of {name}, cut"] += cut
                    ids = tokenizer(batch, **padded).input_ids.to(self.args.device)
                    output = encoder(ids, output_hidden_states=True)
                    clip = name != "t5" and [output.hidden_states[-2], output.text_embeds]
                    found = clip or [output.last_hidden_state]
                    parts.append([values.to("cpu", torch.float16) for values in found])
            for suffix, values in zip(("", "_pooled"), zip(*parts, strict=True), strict=False):
                columns[name + suffix] = torch.cat(values).numpy()
        return columns


def batched(items: list, size: int) -> list[list]:
    return [items[first : first + size] for first in range(0, len(items), size)]


def nested(values: np.ndarray) -> pa.Array:
    """A row is a list of fixed size for each dimension."""
    array = pa.array(values.reshape(-1))
    for length in reversed(values.shape[1:]):
        array = pa.FixedSizeListArray.from_arrays(array, length)
    return array


@contextlib.contextmanager
def complete(path: Path):
    """A file that appears under its name when it is complete and on the disk."""
    part = path.with_name(path.name + ".part")
    with open(part, "wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def write_json(path: Path, value) -> None:
    with complete(path) as file:
        file.write(json.dumps(value, indent=2).encode())


def tell(broken: list[tuple[str, str]], args: argparse.Namespace, advice: str) -> None:
    """Names the rows that cannot be encoded, and ends if they are not to be skipped."""
    for name, why in broken[: None if args.skip_broken else 20]:
        print(f"{'skipped' if args.skip_broken else 'error'}: {args.images / name}: {why}", file=sys.stderr)
    if broken and not args.skip_broken:
        sys.exit(f"{len(broken)} rows cannot be encoded. {advice}")


def begin(args: argparse.Namespace, rows: list[Row], work: Path) -> dict:
    """What was encoded so far: the rows of every complete shard by the name of its file, and the notes on them."""
    keys = ("model", "size", "mode", "seed", "t5_tokens", "dtype", "shard_rows")
    digest = hashlib.sha256(json.dumps([[row.name, row.captions] for row in rows]).encode()).hexdigest()
    settings = {**{key: getattr(args, key) for key in keys}, "rows": digest}
    if not (work / STATE).exists():
        work.mkdir(parents=True, exist_ok=True)
        write_json(work / STATE, {"settings": settings, "shards": {}, "notes": {}})
    state = json.loads((work / STATE).read_bytes())
    other = [key for key, value in settings.items() if state["settings"].get(key) != value]
    if other:
        sys.exit(f"{work} was begun with other {', '.join(other)}. Use what it was begun with, or delete it")
    return state


def encode(args: argparse.Namespace, shards: dict[str, list[Row]], work: Path, state: dict) -> None:
    """Encodes the shards that are not complete, one after the other."""
    missing = [name for name in shards if name not in state["shards"]]
    encoders = Encoders(args) if missing else None
    advice = (
        "Replace these pictures under the same names, or add --skip-broken; the same command then goes on. "
        f"If you change captions, remove rows or choose another --dtype, delete {work} first"
    )
    begun = time.monotonic()
    for done, name in enumerate(missing, 1):
        table = encoders.table(shards[name])
        tell(encoders.broken, args, advice)
        if table is not None:
            with complete(work / name) as file, pa.ipc.new_stream(file, table.schema) as stream:
                stream.write_table(table)
        state["shards"][name] = table.num_rows if table is not None else 0
        state["notes"] = Counter(state["notes"]) + encoders.notes
        write_json(work / STATE, state)
        left = (time.monotonic() - begun) / done * (len(missing) - done)
        print(f"{name}: {state['shards'][name]} rows, about {left / 60:.0f} min left", flush=True)


def finish(args: argparse.Namespace, work: Path, state: dict) -> None:
    """Writes what `datasets.load_from_disk` needs beside the shards, and gives the folder its name."""
    files = sorted(name for name, rows in state["shards"].items() if rows)
    if not files:
        sys.exit("No row could be encoded")
    model = Path(args.model).resolve().name if Path(args.model).is_dir() else args.model
    write_json(work / "dataset_info.json", {
        "description": f"Encoded by scripts/encode.py: {json.dumps(state['settings'])}",
        "encoders": {name: f"{model}/{folder}" for name, folder in TEXT_FOLDERS.items()},
        **{"citation": "", "homepage": "", "license": "", "features": None},
    })
    write_json(work / "state.json", {
        "_data_files": [{"filename": name} for name in files],
        "_fingerprint": hashlib.sha256(json.dumps(state).encode()).hexdigest()[:16],
        **{"_format_columns": None, "_format_kwargs": {}, "_format_type": None},
        **{"_output_all_columns": False, "_split": None},
    })
    work.rename(args.out)
    (args.out / STATE).unlink()
    for what, times in state["notes"].items():
        print(f"note: {what}: {times}")
    rows = sum(state["shards"].values())
    print(f"{args.out}: {rows} rows. Next: ./orchestrator config new --data {args.out} --out my.yaml")


def main() -> None:
    args = arguments()
    torch.backends.cudnn.allow_tf32 = False  # The autoencoder computes in fp32.
    if args.out.exists():
        sys.exit(f"{args.out} exists already")
    rows = read_rows(args)
    if not rows:
        sys.exit(f"There are no pictures in {args.images}")
    if not args.skip_broken:
        broken = [(row.name, why) for row in rows if (why := row.problem(args.images))]
        tell(broken, args, "Add what is missing, or --skip-broken")
    work = args.out.with_name(args.out.name + ".partial")
    state = begin(args, rows, work)
    parts = batched(rows, args.shard_rows)
    encode(args, {f"data-{i:05d}-of-{len(parts):05d}.arrow": part for i, part in enumerate(parts)}, work, state)
    finish(args, work, state)


if __name__ == "__main__":
    main()
