"""Makes small data in the formats that benchmarks are published in, and small metric networks."""

import csv
import json
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import torch
import yaml
from models import TOKENIZER
from PIL import Image
from safetensors.torch import save_file
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPTokenizer,
    ViTConfig,
    ViTForImageClassification,
    ViTModel,
)

from pnpvideo.evaluation.lpips import make_features

PIE_SIDE = 512
RUNS = {
    "0": [PIE_SIDE * 100 + 50, 200, PIE_SIDE * 101 + 50, 200],
    "1": [],
    "2": [0, PIE_SIDE * PIE_SIDE],
    "3": [PIE_SIDE * PIE_SIDE - 3, 100],
    "4": [PIE_SIDE * 200 + 500, 40],
}
"""Run lengths by edit type: some rows, none, all, over the end, over the edge of a row."""


def save_picture(path: Path, seed: int, size: tuple[int, int] = (48, 32)) -> Path:
    """A smooth picture of its own for each seed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    small = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    Image.fromarray(small).resize(size, Image.Resampling.BICUBIC).save(path)
    return path


def save_json(path: Path, value: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
    return path


def pie_entry(kind: str, number: int = 0) -> dict[str, object]:
    return {
        "image_path": f"{kind}_some_kind/{kind}{number}.jpg",
        "original_prompt": "a [red] star on grass",
        "editing_prompt": f"a [blue] star on {['grass', 'sand'][number]}",
        "editing_instruction": "make it blue",
        "editing_type_id": kind,
        "blended_word": "star star",
        "mask": RUNS.get(kind, RUNS["0"]),
    }


def save_pie_bench(folder: Path, kinds: str = "0123456789") -> Path:
    entries = {f"{kind}00000000000": pie_entry(kind) for kind in kinds}
    # A second prompt of the first picture.
    again = pie_entry(kinds[0], 1) | {"image_path": pie_entry(kinds[0])["image_path"]}
    entries["second"] = again
    for number, entry in enumerate(entries.values()):
        path = folder / "annotation_images" / str(entry["image_path"])
        if not path.exists():
            save_picture(path, number, (PIE_SIDE, PIE_SIDE))
    save_json(folder / "mapping_file.json", entries)
    return folder


def save_ti2i(folder: Path) -> Path:
    save_picture(folder / "panda" / "cartoon_30.jpg", 1)
    save_picture(folder / "data" / "real_karate.jpg", 2)
    entries = [
        {
            "init_img": "/ImageNetR-TI2I/panda/cartoon_30.jpg",
            "source_prompt": "a cartoon of a panda",
            "target_prompts": ["a photo of a panda", "a sketch of a panda"],
        },
        {"init_img": "data/real_karate.jpg", "target_prompts": ["a statue"]},
        {"target_prompts": ["made by a model"]},
    ]
    folder.mkdir(exist_ok=True)
    (folder / "imnetr-ti2i.yaml").write_text(yaml.safe_dump(entries))
    return folder


def emu_rows(folder: Path) -> list[dict[str, object]]:
    texts = [
        ("a cat", "a dog", "local"),
        ("a train station in city", "a train station in city", "style"),
        ("a bird", "A bird.", "add"),
        ("a red house", "a blue house", "color"),
    ]
    return [
        {
            "instruction": "change it",
            "image": str(save_picture(folder / f"{number}.png", number).name),
            "task": task,
            "split": "test",
            "idx": number,
            "hash": f"h{number}",
            "input_caption": before,
            "output_caption": after,
        }
        for number, (before, after, task) in enumerate(texts)
    ]


def save_emu_edit(folder: Path, suffix: str = ".parquet") -> Path:
    folder.mkdir(exist_ok=True)
    rows = emu_rows(folder)
    path = folder / f"test-00000{suffix}"
    if suffix == ".parquet":
        for row in rows:
            picture = folder / str(row["image"])
            row["image"] = {"bytes": picture.read_bytes(), "path": picture.name}
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    elif suffix == ".jsonl":
        path.write_text("\n".join(map(json.dumps, rows)))
    else:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0], delimiter="\t" if suffix == ".tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)
    return folder


def save_magicbrush(folder: Path) -> Path:
    sessions: dict[str, list[dict[str, str]]] = {}
    captions: dict[str, dict[str, str]] = {}
    for name, turns in (("7", 1), ("139", 3)):
        inside = folder / "images" / name
        save_picture(inside / f"{name}-input.png", int(name))
        captions[name] = {f"{name}-input.png": "a table"}
        sessions[name] = []
        for turn in range(1, turns + 1):
            before = "input" if turn == 1 else f"output{turn - 1}"
            # A target may have a size of its own.
            save_picture(inside / f"{name}-output{turn}.png", 10 * int(name) + turn, (40, 30))
            with Image.open(inside / f"{name}-input.png") as picture:
                hole = np.array(picture.convert("RGBA"))
            hole[8:16, 8:24, 3] = 0
            Image.fromarray(hole).save(inside / f"{name}-mask{turn}.png")
            captions[name][f"{name}-output{turn}.png"] = f"a table with {turn} cups"
            sessions[name].append(
                {
                    "input": f"{name}-{before}.png",
                    "mask": f"{name}-mask{turn}.png",
                    "output": f"{name}-output{turn}.png",
                    "instruction": f"add cup {turn}",
                }
            )
    save_json(folder / "edit_sessions.json", sessions)
    save_json(folder / "global_descriptions.json", captions)
    return folder


def save_imagenet_real_edit(folder: Path) -> Path:
    entries = []
    for number, (before, after) in enumerate((("tabby", "tiger cat"), ("zebra", "horse cart"))):
        save_picture(folder / f"n{number}.JPEG", number)
        entries.append(
            {
                "image_name": f"val/n{number}.JPEG",
                "soure_prompt": f"a photo of a {before}",
                "edit_prompt": f"a photo of a {after}",
            }
        )
    save_json(folder / "ImageNet_real_edit.json", entries)
    return folder


def save_five_bench(folder: Path, frames: int = 3) -> Path:
    for kind in range(1, 7):
        clip = f"000{kind}_thing"
        for number in range(1, frames + 1):
            name = f"{clip}/{number:05d}.jpg"
            save_picture(folder / "images" / name, kind)
            mask = np.zeros((32, 48), np.uint8)
            mask[4 : 4 + 4 * kind, 8:30] = 255
            path = folder / "bmasks" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(mask).save(path, quality=100)
        entry = {
            "video_name": clip,
            "source_prompt": "a [red] bus",
            "target_prompt": f"a [blue] bus {kind}",
            "save_dir": f"{kind}_blue_bus",
            "editing_type_id": kind,
        }
        save_json(folder / "edit_prompt" / f"edit{kind}_FiVE.json", [entry])
    return folder


def save_manifest(folder: Path) -> Path:
    for number in range(2):
        save_picture(folder / f"{number}.png", number)
    save_picture(folder / "wanted.png", 9)
    mask = np.zeros((32, 48), np.uint8)
    mask[:, 24:] = 255
    Image.fromarray(mask).save(folder / "mask.png")
    rows = [
        ["id", "source", "source_prompt", "target_prompt", "mask", "reference", "type"],
        ["first", "0.png", "a cat", "a dog", "mask.png", "wanted.png", "animals"],
        ["second", "1.png", "", "a house", "", "", "places"],
    ]
    with (folder / "manifest.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return folder


def save_networks(folder: Path) -> dict[str, str]:
    """Metric networks of the real kinds, tiny where they can be, by role."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        tokenizer = CLIPTokenizer.from_pretrained(TOKENIZER)
        size = {
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
        }
        text = size | {
            "vocab_size": len(tokenizer),
            "max_position_embeddings": tokenizer.model_max_length,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
        }
        picture = size | {"image_size": 32, "patch_size": 8}
        clip = CLIPModel(CLIPConfig(text_config=text, vision_config=picture, projection_dim=12))
        clip.save_pretrained(folder / "clip")
        tokenizer.save_pretrained(folder / "clip")
        ViTModel(ViTConfig(**picture), add_pooling_layer=False).save_pretrained(folder / "dino")
        labels = {0: "tabby, tabby cat", 1: "tiger cat", 2: "zebra", 3: "horse cart, horse-cart"}
        ViTForImageClassification(ViTConfig(**picture, id2label=labels)).save_pretrained(
            folder / "classifier"
        )
        ViTModel(ViTConfig(**picture | {"image_size": 256, "patch_size": 64})).save_pretrained(
            folder / "features"
        )
        for backbone in ("alex", "squeeze"):
            weights = make_features(backbone).state_dict()  # type: ignore[arg-type]
            named = {f"features.{name}": value for name, value in weights.items()}
            save_file(named, folder / f"{backbone}.safetensors")
    return {
        "clip-large": str(folder / "clip"),
        "clip": str(folder / "clip"),
        "structure": str(folder / "dino"),
        "dino": str(folder / "dino"),
        "lpips-squeeze": str(folder / "squeeze.safetensors"),
        "lpips-alex": str(folder / "alex.safetensors"),
        "classifier": str(folder / "classifier"),
        "features": str(folder / "features"),
    }
