"""The samples are in the embedded model's own size and words, and remade they are the same."""

import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from diffusers import AutoencoderTiny, UNet2DConditionModel
from models import TOKENIZER
from transformers import CLIPTokenizer

from pnpvideo.clips.read import read_clip
from tools.make_samples import make_samples
from tools.train.artwork import Artwork
from tools.train.captions import full_caption
from tools.train.layout import Object, Scene
from tools.train.scenes import APPEARANCES, GROUNDS

SAMPLES = Path(__file__).parents[1] / "samples"
SETTINGS = sorted(SAMPLES.glob("*.yaml"))


@pytest.fixture(scope="module")
def tokenizer() -> CLIPTokenizer:
    return CLIPTokenizer.from_pretrained(TOKENIZER)


def assert_known(text: str, tokenizer: CLIPTokenizer) -> None:
    words = re.findall(r"\d|[a-z]+", text.lower())
    assert tokenizer.tokenize(text) == [f"{word}</w>" for word in words]


def test_the_model_knows_every_word_of_the_prompts(tokenizer: CLIPTokenizer) -> None:
    assert len(SETTINGS) == 5
    prompts = [text for path in SETTINGS for text in yaml.safe_load(path.read_text())["prompt"]]
    prompts += yaml.safe_load((SAMPLES / "drawings" / "prompts.yaml").read_text()).values()
    for prompt in prompts:
        assert prompt.startswith("a 3D render of a")
        assert_known(prompt, tokenizer)


def test_the_model_knows_every_word_of_the_world(tokenizer: CLIPTokenizer) -> None:
    for number, name in enumerate(Artwork().names()):
        appearance = APPEARANCES[number % len(APPEARANCES)]
        thing = Object(name=name, x=0, y=0, size=0.5, appearance=appearance)
        scene = Scene(objects=(thing,), ground=GROUNDS[number % len(GROUNDS)], light="sunset")
        assert_known(full_caption(scene, "3D render"), tokenizer)


@pytest.mark.parametrize("path", SETTINGS, ids=lambda path: path.stem)
def test_a_sample_has_the_models_own_size(path: Path) -> None:
    embedded = TOKENIZER.parent
    latents = UNet2DConditionModel.load_config(embedded, subfolder="unet")["sample_size"]
    vae = AutoencoderTiny.load_config(embedded, subfolder="vae")
    side = latents * 2 ** (len(vae["decoder_block_out_channels"]) - 1)
    clip = read_clip(SAMPLES / yaml.safe_load(path.read_text())["source"])
    try:
        assert clip.read(0, 1).shape == (1, side, side, 3)
    finally:
        clip.close()


def test_the_samples_are_those_that_are_made(tmp_path: Path) -> None:
    make_samples(tmp_path)
    made = {path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()}
    kept = {path.relative_to(SAMPLES) for path in SAMPLES.rglob("*") if path.is_file()}
    assert made == {path for path in kept if not {"cards", "drawings"} & set(path.parts)}
    assert "Fluent Emoji" in (SAMPLES / "LICENSE").read_text()
    for path in SETTINGS:
        source = yaml.safe_load(path.read_text())["source"]
        clips = [read_clip(folder / source) for folder in (SAMPLES, tmp_path)]
        mine, theirs = (clip.read(0, len(clip)).astype(float) for clip in clips)
        for clip in clips:
            clip.close()
        assert mine.shape == theirs.shape
        assert np.abs(mine - theirs).mean() < 1
