"""A result that is no picture is an error that names the cause, and nothing is written."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from clips import smooth_frames
from command import SHORT, Cli, assert_refused, names, pixels, save_frames
from PIL import Image
from safetensors.torch import load_file, save_file

from pnpvideo.clips.clip import Frames
from pnpvideo.errors import RunError
from pnpvideo.models.autoencoder import frames_to_tensor
from pnpvideo.models.failures import check_not_plain
from pnpvideo.pipelines.stable_diffusion import PnPVideoPipeline

WEIGHTS = "diffusion_pytorch_model.safetensors"


def changed(model: Path, folder: Path, part: str, factors: dict[str, float]) -> Path:
    """A copy of a model with the weights whose names begin so multiplied."""
    shutil.copytree(model, folder)
    weights = load_file(folder / part / WEIGHTS)
    for start, factor in factors.items():
        assert any(name.startswith(start) for name in weights)
        for name in weights:
            weights[name] *= factor if name.startswith(start) else 1
    save_file(weights, folder / part / WEIGHTS, {"format": "pt"})
    return folder


@pytest.mark.parametrize(
    ("part", "factors", "dtype", "output", "message"),
    [
        ("vae", {"encoder.conv_in": 1e7}, "float16", "out.mp4",
         "the autoencoder made values that are not numbers (NaN): most likely float16 is too "
         "coarse for it; give --dtype float32, or a model with a fixed autoencoder"),
        ("vae", {"decoder.conv_out": 1e7}, "float16", "out.png",
         "the autoencoder made values that are not numbers (NaN): most likely float16 is too"),
        ("unet", {"conv_in": 1e7}, "float16", "out",
         "the network made values that are not numbers (NaN): most likely float16 is too coarse "
         "for it; give --dtype float32"),
        ("vae", {"decoder.conv_in": float("nan")}, "float32", "out.mp4", "files are damaged"),
        ("unet", {"conv_out": float("inf")}, "float32", "out.png", "files are damaged"),
        ("vae", {"decoder.conv_out": 0.0}, "float16", "out.mp4",
         "the result is of one colour: most likely"),
        ("vae", {"decoder.conv_out": 0.0}, "float32", "out",
         "the result is of one colour: as this is"),
    ],
)  # fmt: skip
def test_what_is_no_picture_is_an_error(
    cli: Cli,
    tiny_model: Path,
    tmp_path: Path,
    part: str,
    factors: dict[str, float],
    dtype: str,
    output: str,
    message: str,
) -> None:
    save_frames(tmp_path / "frames", 1 if output == "out.png" else 3)
    model = changed(tiny_model, tmp_path / "model", part, factors)
    before = names(tmp_path)
    result = cli("frames", *SHORT, "--dtype", dtype, "-o", output, model=str(model))
    assert_refused(result, 1, message)
    assert names(tmp_path) == before


def test_the_same_model_in_full_precision(cli: Cli, tiny_model: Path, tmp_path: Path) -> None:
    save_frames(tmp_path, 1)
    model = changed(tiny_model, tmp_path / "model", "vae", {"encoder.conv_in": 1e7})
    given = ("source0.png", *SHORT, "--dtype", "float32", "-o", "out.png")
    assert cli(*given, model=str(model))[0] == 0
    assert np.ptp(pixels(tmp_path / "out.png")) > 16


@pytest.mark.parametrize("spread", [0, 10])
def test_a_source_of_one_colour_may_stay_so(
    cli: Cli, tiny_model: Path, tmp_path: Path, spread: int
) -> None:
    picture = np.full((32, 32, 3), 8, np.uint8)
    picture[:16] += spread
    Image.fromarray(picture).save(tmp_path / "fade.png")
    model = changed(tiny_model, tmp_path / "model", "vae", {"decoder.conv_out": 0.0})
    assert cli("fade.png", *SHORT, "-o", "out.png", model=str(model))[0] == 0
    assert np.ptp(pixels(tmp_path / "out.png")) == 0


WHITE = np.full((1, 128, 128, 3), 255, np.uint8)
DRAWN = smooth_frames(1, 128, 128)


@pytest.mark.parametrize(
    ("frames", "latents_of", "is_error"),
    [
        ([WHITE], WHITE, False),
        ([WHITE], DRAWN, True),
        ([WHITE, WHITE - 255], DRAWN, True),
        ([WHITE, DRAWN, WHITE], DRAWN, False),
    ],
)
def test_one_colour_is_right_where_the_latents_say_so(
    embedded: PnPVideoPipeline, frames: list[Frames], latents_of: Frames, is_error: bool
) -> None:
    def encode(images: Frames) -> torch.Tensor:
        return embedded.model.autoencoder.encode(frames_to_tensor(images))

    latents = encode(latents_of)
    latents = latents + 0.05 * torch.randn(latents.shape[1], 1, 1)
    checked = check_not_plain(frames, latents, lambda: [DRAWN], encode, torch.float32)
    if is_error:
        with pytest.raises(RunError, match="of one colour"):
            list(checked)
    else:
        assert all(one is given for one, given in zip(checked, frames, strict=True))


@pytest.fixture(scope="module")
def embedded() -> PnPVideoPipeline:
    return PnPVideoPipeline.from_pretrained("embedded")
