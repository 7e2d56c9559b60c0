"""Frames in every form that Python users have them, as sources and to be written."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from clips import all_frames, smooth_frames
from diffusers.utils import load_video
from PIL import Image

from pnpvideo.clips.as_clip import as_clip
from pnpvideo.clips.read import read_clip
from pnpvideo.clips.write import write_clip
from pnpvideo.errors import InputError
from pnpvideo.pipelines.stable_diffusion import PnPVideoPipeline

FRAMES = smooth_frames(2, 24, 16)
PICTURES = [Image.fromarray(frame) for frame in FRAMES]
TENSOR = torch.from_numpy(FRAMES).permute(0, 3, 1, 2)
SHARES = FRAMES / 255

SOURCES: dict[str, Any] = {
    "images": PICTURES,
    "a tuple of images": tuple(PICTURES),
    "a list of lists, as the pipelines give": [PICTURES],
    "an array": FRAMES,
    "floats": SHARES,
    "half floats": SHARES.astype(np.float16),
    "whole numbers": FRAMES.astype(np.int64),
    "channels first": np.moveaxis(FRAMES, -1, 1),
    "a batch": FRAMES[np.newaxis],
    "a list of arrays": list(FRAMES),
    "a list of floats": list(SHARES.astype(np.float32)),
    "a tensor": TENSOR / 255,
    "a tensor of bytes": TENSOR,
    "bfloat16": (TENSOR / 255).bfloat16(),
    "with a gradient": (TENSOR / 255).requires_grad_(),
    "a batch of one": TENSOR[None] / 255,
    "a list of tensors": list(TENSOR / 255),
    "channels last": torch.from_numpy(FRAMES),
    "rounded beyond": SHARES * 1.001 - 0.0005,
}


@pytest.mark.parametrize("name", SOURCES)
def test_sources(name: str) -> None:
    clip = as_clip(SOURCES[name])
    assert (len(clip), clip.width, clip.height, clip.timing) == (2, 24, 16, None)
    # bfloat16 has 8 bits, of which one is above those of a byte.
    error = np.abs(all_frames(clip) - FRAMES.astype(int)).max()
    assert error <= {"bfloat16": 1}.get(name, 0)


@pytest.mark.parametrize("one", [PICTURES[0], FRAMES[0], TENSOR[0], TENSOR[0] / 255, SHARES[0]])
def test_one_frame(one: Any) -> None:
    assert np.array_equal(all_frames(as_clip(one)), FRAMES[:1])


def test_paths_and_what_diffusers_reads(tmp_path: Path) -> None:
    write_clip([FRAMES], tmp_path / "a.gif")
    expected = all_frames(read_clip(tmp_path / "a.gif"))
    for source in (
        tmp_path / "a.gif",
        str(tmp_path / "a.gif"),
        load_video(str(tmp_path / "a.gif")),
    ):
        assert np.array_equal(all_frames(as_clip(source)), expected)
    assert as_clip(tmp_path / "a.gif").timing is not None


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (Image.new("RGBA", (4, 3), (200, 100, 0, 51)), (244, 224, 204)),
        (Image.new("LA", (4, 3), (0, 0)), (255, 255, 255)),
        (Image.new("I;16", (4, 3), 40000), (156, 156, 156)),
        (Image.new("F", (4, 3), 0.5), (128, 128, 128)),
        (Image.new("1", (4, 3), 1), (255, 255, 255)),
        (Image.new("CMYK", (4, 3), (0, 100, 200, 0)), (255, 155, 55)),
    ],
)
def test_images_of_any_mode(image: Image.Image, expected: tuple[int, int, int]) -> None:
    frames = all_frames(as_clip(image))
    assert frames.shape == (1, 3, 4, 3)
    assert np.abs(frames[0, 1, 1].astype(int) - expected).max() <= 1


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            SHARES * 2 - 1,
            r"go from -1 to .*, not from 0 to 1; if .* -1 to 1, give frames / 2 \+ 0",
        ),
        (TENSOR / 127.5 - 1, r"meant to go from -1 to 1, give frames / 2 \+ 0\.5"),
        (
            TENSOR.float(),
            r"go from 0 to 2\d\d, .* meant to go from 0 to 255, give frames / 255, or uint8",
        ),
        (list(TENSOR.float()), r"meant to go from 0 to 255, give frames / 255"),
        (SHARES * 1.2, r"go from 0 to 1\.\d+, not from 0 to 1; scale or clip them"),
        (SHARES * 9 - 5, "scale or clip them"),
        (SHARES * np.nan, r"not numbers \(NaN\)"),
        (FRAMES.astype(np.uint16) * 257, "whole numbers go from 0 to .*, not 0 to 255"),
        (FRAMES.astype(complex), "frames have type complex128; give uint8"),
        ([], "there are no frames"),
        ([PICTURES, PICTURES], "2 lists of frames; give one"),
        ([PICTURES[0], PICTURES[1].resize((9, 9))], "the frames have 2 different sizes"),
        (np.zeros((2, 2, 8, 8, 3), np.uint8), r"shape \(2, 2, 8, 8, 3\), not \(frames, height"),
        (torch.zeros(4, 8, 8), r"have shape \(4, 8, 8\), not"),
    ],
)
def test_what_is_told_and_not_clipped(source: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as refused:
        as_clip(source)
    assert isinstance(refused.value, InputError)
    assert "\n" not in str(refused.value)


GIVEN: dict[str, Callable[[], Any]] = {
    "images": lambda: PICTURES,
    "images, one after the other": lambda: iter(PICTURES),
    "an array": lambda: FRAMES,
    "batches": lambda: [FRAMES[:1], FRAMES[1:]],
    "frames": lambda: list(FRAMES),
    "floats": lambda: SHARES,
    "a tensor": lambda: TENSOR / 255,
}


@pytest.mark.parametrize("name", GIVEN)
def test_what_is_written(tmp_path: Path, name: str) -> None:
    write_clip(GIVEN[name](), tmp_path / "frames")
    assert np.array_equal(all_frames(read_clip(tmp_path / "frames")), FRAMES)


@pytest.mark.parametrize("one", [PICTURES[0], FRAMES[0], [PICTURES[0]]])
def test_one_picture_is_written(tmp_path: Path, one: Any) -> None:
    write_clip(one, tmp_path / "a.png")
    assert np.array_equal(all_frames(read_clip(tmp_path / "a.png")), FRAMES[:1])


def test_what_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="meant to go from -1 to 1"):
        write_clip(SHARES * 2 - 1, tmp_path / "a.mp4")
    assert list(tmp_path.iterdir()) == []


def test_image_is_another_name_of_video(tiny_model: Path, tmp_path: Path) -> None:
    pipeline = PnPVideoPipeline.from_pretrained(str(tiny_model))
    pipeline.set_progress_bar_config(disable=True)
    write_clip(PICTURES[0], tmp_path / "a.png")

    def run(**source: Any) -> Any:
        generator = torch.Generator().manual_seed(0)
        more = {"num_inference_steps": 1, "generator": generator, "output_type": "np"}
        return pipeline("a stone", **source, **more).frames

    expected = run(video=PICTURES[0])
    for source in (PICTURES[0], tmp_path / "a.png", TENSOR[0] / 255):
        np.testing.assert_array_equal(run(image=source), expected)
    with pytest.raises(InputError, match="as video or as image, not both"):
        run(video=PICTURES[0], image=PICTURES[0])
