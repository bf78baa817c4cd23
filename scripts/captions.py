"""For encode.py: which pictures a folder has, and their captions. Needs no other library."""

import argparse
import csv
import io
import json
import sys
from dataclasses import dataclass
from pathlib import Path

PICTURES = {".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
METADATA = ("metadata.jsonl", "metadata.csv")


@dataclass(frozen=True)
class Row:
    """A picture's path in the folder, and its caption of each kind; None where it is missing. Names may repeat."""

    name: str
    captions: dict[str, str | None]

    def problem(self, images: Path) -> str | None:
        """Why it cannot be encoded, as far as this is known before its picture is read; None if it can."""
        if not (images / self.name).is_file():
            return "there is no such picture"
        return next((f"it has no {kind} caption" for kind, caption in self.captions.items() if caption is None), None)


def extension(value: str) -> str:
    """An option's value."""
    if not value.startswith(".") or value == "." or "/" in value:
        raise argparse.ArgumentTypeError(f"{value!r} must begin with a dot, such as .txt")
    return value


def read_rows(args: argparse.Namespace) -> list[Row]:
    """The rows of metadata.jsonl or metadata.csv; without these files, every picture with the captions beside it."""
    metadata = next((path for name in METADATA if (path := args.images / name).exists()), None)
    there = f"{metadata} has the captions" if metadata else f"there is no {' or '.join(METADATA)} in {args.images}"
    for kind in ("caption", "synthetic"):
        option = f"{kind}_{'extension' if metadata else 'column'}"
        if getattr(args, option) is not None:
            sys.exit(f"--{option.replace('_', '-')} has no effect: {there}")
    return metadata_rows(args, metadata) if metadata else picture_rows(args)


def metadata_rows(args: argparse.Namespace, path: Path) -> list[Row]:
    entries = read_metadata(path)
    if not entries:
        sys.exit(f"{path} has no rows")
    columns = {"original": args.caption_column or "text", "synthetic": args.synthetic_column or "synthetic_text"}
    names = set().union(*entries)
    if not args.synthetic_column and columns["synthetic"] not in names:
        del columns["synthetic"]
    for column in columns.values():
        if column not in names:
            sys.exit(f"{path} has no column {column}; it has {', '.join(sorted(names))}")

    def caption(value) -> str | None:
        return " ".join(value.split()) or None if isinstance(value, str) else None

    return [Row(e["file_name"], {kind: caption(e.get(column)) for kind, column in columns.items()}) for e in entries]


def read_metadata(path: Path) -> list[dict]:
    """The lines of a metadata file as Hugging Face's imagefolder has it."""
    content = io.StringIO(read_text(path), newline="")
    if path.suffix == ".csv":
        reader = csv.DictReader(content)
        entries = {reader.line_num: entry for entry in reader}
    else:
        entries = {number: json_value(line) for number, line in enumerate(content, 1) if line.strip()}
    for number, entry in entries.items():
        if not isinstance(entry, dict):
            sys.exit(f"{path}, line {number}: it is not a JSON object")
        if not isinstance(entry.get("file_name"), str):
            sys.exit(f"{path}, line {number}: it has no file_name")
        if None in entry:
            sys.exit(f"{path}, line {number}: it has more fields than the first line; put quotes around text with commas")
    return list(entries.values())


def json_value(line: str):
    """None where it is not JSON."""
    try:
        return json.loads(line)
    except ValueError:
        return None


def picture_rows(args: argparse.Namespace) -> list[Row]:
    endings = {"original": args.caption_extension or ".txt", "synthetic": args.synthetic_extension}
    rows, longer = [], 0
    for path in sorted(path for path in args.images.rglob("*") if path.suffix.lower() in PICTURES):
        lines = {kind: caption_lines(path.with_suffix(ending)) for kind, ending in endings.items() if ending}
        longer += sum(len(found) > 1 for found in lines.values())
        captions = {kind: next(iter(found), None) for kind, found in lines.items()}
        rows.append(Row(str(path.relative_to(args.images)), captions))
    if longer:
        print(f"note: captions of which only the first line is used: {longer}", flush=True)
    return rows


def caption_lines(file: Path) -> list[str]:
    """Those that are not empty. Only the first is used: several programs take the others as alternatives."""
    lines = read_text(file).splitlines() if file.is_file() else []
    return [line.strip() for line in lines if line.strip()]


def read_text(file: Path) -> str:
    try:
        return file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        sys.exit(f"{file} is not UTF-8")
