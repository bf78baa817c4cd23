"""For test/interop/encode.test.ts: a pipeline of SD3's layout with random weights, and what diffusers computes with it.

    sd3_pipeline.py make MODEL PICTURES           writes both folders
    sd3_pipeline.py compare MODEL PICTURES DATA   prints JSON: what diffusers' own pipeline makes of plain.png and its
                                                  caption, and what Hugging Face's load_from_disk finds in the data set
"""

import json
import sys
from pathlib import Path

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5TokenizerFast,
)

LETTERS = "abcdefghijklmnopqrstuvwxyz,"
SIZE = 64


def clip_tokenizer(folder: Path):
    """Letters, of which each may end a word, and the two tokens around a text."""
    folder.mkdir(parents=True)
    start, end = "<|startoftext|>", "<|endoftext|>"
    words = [*LETTERS, *(f"{letter}</w>" for letter in LETTERS), "re", "red</w>", start, end]
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\nr e\nre d</w>\n")
    config = {"model_max_length": 77, "bos_token": start, "eos_token": end, "pad_token": end, "unk_token": end}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return CLIPTokenizer.from_pretrained(folder), len(words)


def t5_tokenizer(folder: Path):
    """Letters, and the mark before a word."""
    words = ["<pad>", "</s>", "<unk>", "\u2581", *LETTERS]
    tokenizer = Tokenizer(models.Unigram([(word, -2.0) for word in words], unk_id=2))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    folder.mkdir(parents=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"model_max_length": 512, "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>", "extra_ids": 0}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return T5TokenizerFast.from_pretrained(folder), len(words)


def clip(width: int, words: int, activation: str):
    config = CLIPTextConfig(
        vocab_size=words, hidden_size=width, intermediate_size=2 * width, projection_dim=width, num_hidden_layers=2,
        num_attention_heads=4, hidden_act=activation, bos_token_id=words - 2, eos_token_id=words - 1, pad_token_id=words - 1,
    )
    return CLIPTextModelWithProjection(config)


def make(model: Path, pictures: Path) -> None:
    torch.manual_seed(1)
    first, words = clip_tokenizer(model / "made" / "clip_l")
    second, _ = clip_tokenizer(model / "made" / "clip_g")
    third, t5_words = t5_tokenizer(model / "made" / "t5")
    StableDiffusion3Pipeline(
        vae=AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4, norm_num_groups=4,
            block_out_channels=(8, 8, 8, 8), latent_channels=16, scaling_factor=1.5305, shift_factor=0.0609,
            use_quant_conv=False, use_post_quant_conv=False,
        ),
        text_encoder=clip(48, words, "quick_gelu"),
        tokenizer=first,
        text_encoder_2=clip(80, words, "gelu"),
        tokenizer_2=second,
        text_encoder_3=T5EncoderModel(
            T5Config(
                vocab_size=t5_words, d_model=160, d_kv=20, d_ff=320, num_layers=2, num_heads=8,
                feed_forward_proj="gated-gelu",
            )
        ),
        tokenizer_3=third,
        transformer=SD3Transformer2DModel(
            sample_size=8, num_layers=1, attention_head_dim=16, num_attention_heads=2, joint_attention_dim=160,
            caption_projection_dim=32, pooled_projection_dim=128, out_channels=16, pos_embed_max_size=16,
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(),
    ).save_pretrained(model)
    pictures.mkdir(parents=True)
    draw(pictures)


def draw(folder: Path) -> None:
    """Ten pictures with captions: one as it is encoded, the same one in four other guises, and others of any size."""
    generator = torch.Generator().manual_seed(2)

    def noise(width: int, height: int) -> Image.Image:
        values = torch.randint(0, 256, (height, width, 3), generator=generator, dtype=torch.uint8)
        return Image.fromarray(values.numpy())

    plain = noise(SIZE, SIZE)
    plain.save(folder / "plain.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by 90 degrees clockwise
    plain.transpose(Image.Transpose.ROTATE_90).save(folder / "turned.png", exif=exif)
    wide = Image.new("RGB", (3 * SIZE, SIZE), "red")
    wide.paste(plain, (SIZE, 0))
    wide.save(folder / "wide.png")
    grey = plain.convert("L")
    grey.save(folder / "grey.png")
    grey.convert("RGB").save(folder / "grey-rgb.png")
    Image.new("RGBA", (SIZE, SIZE), (255, 0, 0, 0)).save(folder / "transparent.png")
    Image.new("RGB", (SIZE, SIZE), "white").save(folder / "white.png")
    (folder / "more").mkdir()
    for i, size in enumerate([(100, 80), (80, 300), (50, 40)]):
        noise(*size).save(folder / "more" / f"{i}.jpg", quality=90)
    for i, path in enumerate(sorted(folder.rglob("*.[jp][pn]g"))):
        path.with_suffix(".txt").write_text(f"a red picture, {LETTERS[i] * (1 + 9 * i)}\nanother caption\n")
        path.with_suffix(".synthetic.txt").write_text(f"one of {LETTERS[i]}")


@torch.inference_mode()
def compare(model: Path, pictures: Path, data: Path) -> dict:
    pipeline = StableDiffusion3Pipeline.from_pretrained(model, torch_dtype=torch.float32)
    caption = (pictures / "plain.txt").read_text().splitlines()[0]
    context, _, pooled, _ = pipeline.encode_prompt(
        caption, None, None, do_classifier_free_guidance=False, max_sequence_length=77
    )
    pixels = pipeline.image_processor.preprocess(Image.open(pictures / "plain.png"))
    mean = pipeline.vae.encode(pixels).latent_dist.mode()
    latent = (mean - pipeline.vae.config.shift_factor) * pipeline.vae.config.scaling_factor
    found = {"context": context, "pooled": pooled, "latent": latent}
    return {name: values.flatten().tolist() for name, values in found.items()} | {"loaded": loaded(data)}


def loaded(data: Path) -> dict | None:
    """What `datasets` reads; None without this library."""
    try:
        from datasets import load_from_disk
    except ImportError:
        return None
    found = load_from_disk(str(data)).with_format("numpy")
    return {"columns": found.column_names, "ids": found["id"][:].tolist(), "t5": list(found["t5"][:].shape)}


if __name__ == "__main__":
    command, *paths = sys.argv[1:]
    print(json.dumps({"make": make, "compare": compare}[command](*map(Path, paths))))
