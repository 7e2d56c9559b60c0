"""Frames in every form that Python users have them, as sources and to be written."""

import io
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
from pnpvideo.options.settings import Settings
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
        ([PICTURES, PICTURES], "there are 2 clips; give each in a call of its own"),
        ([PICTURES[0], PICTURES[1].resize((9, 9))], "the frames have 2 different sizes"),
        (np.zeros((2, 2, 8, 8, 3), np.uint8), "there are 2 clips; give each"),
        (torch.zeros(2, 2, 3, 8, 8), "there are 2 clips; give each"),
        (np.zeros((2, 2, 8, 8, 5), np.uint8), r"shape \(2, 2, 8, 8, 5\), not \(frames, height"),
        (torch.zeros(3, 8, 8).to_sparse(), r"is sparse or quantized; give tensor\.to_dense"),
        (torch.zeros(3, 8, 8, device="meta"), "is on the device meta"),
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


def encoded(image: Image.Image) -> bytes:
    memory = io.BytesIO()
    image.save(memory, "PNG")
    return memory.getvalue()


@pytest.mark.parametrize(
    "make",
    [
        lambda f: torch.from_numpy(f).permute(3, 0, 1, 2)[None] / 255,
        lambda f: torch.from_numpy(f).permute(3, 0, 1, 2),
        lambda f: np.moveaxis(f, -1, 0)[None],
        lambda f: torch.from_numpy(f).permute(0, 3, 1, 2)[None],
        lambda f: [encoded(Image.fromarray(frame)) for frame in f],
        lambda f: [io.BytesIO(encoded(Image.fromarray(frame))) for frame in f],
        lambda f: [bytearray(encoded(frame)) for frame in map(Image.fromarray, f)],
        lambda f: np.concatenate([f, np.full_like(f[..., :1], 255)], axis=-1),
    ],
)
def test_more_forms(make: Callable[[Any], Any]) -> None:
    for count in (1, 2, 4):
        frames = smooth_frames(count, 24, 16)
        given = make(frames)
        if getattr(given, "shape", ())[:2] == (3, 1):
            with pytest.raises(InputError, match=r"frames have shape \(3, 1, 16, 24\)"):
                as_clip(given)  # Three frames of grey?
            continue
        assert np.array_equal(all_frames(as_clip(given)), frames)


def test_paths_and_contents(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.png" for number in range(2)]
    for picture, path in zip(PICTURES, paths, strict=True):
        picture.save(path)
    for given in (paths, [str(path) for path in paths], tuple(paths), [paths]):
        assert np.array_equal(all_frames(as_clip(given)), FRAMES)
    assert np.array_equal(all_frames(as_clip(encoded(PICTURES[0]))), FRAMES[:1])
    write_clip([FRAMES], tmp_path / "a.mkv")
    whole = all_frames(read_clip(tmp_path / "a.mkv"))
    assert np.array_equal(all_frames(as_clip((tmp_path / "a.mkv").read_bytes())), whole)
    for wrong, words in (
        (b"no picture", "the content that is given is not"),
        (b"", "the content that is given is empty"),
        ([paths[0], tmp_path / "gone.png"], "gone.png does not exist"),
    ):
        with pytest.raises(InputError, match=words):
            as_clip(wrong)


@pytest.mark.parametrize("grey", [FRAMES[..., 0], FRAMES[0, ..., 0], FRAMES[..., :1]])
def test_grey_arrays(grey: Any) -> None:
    one = grey[..., np.newaxis] if grey.shape[-1] != 1 else grey
    if grey.ndim == 3 and grey.shape[-1] != 1:
        with pytest.raises(InputError, match="frames have shape"):  # Of 2 frames, or channels?
            as_clip(grey)
        grey = grey[:, np.newaxis]
    wanted = np.repeat(one, 3, axis=-1).reshape(-1, 16, 24, 3)
    assert np.array_equal(all_frames(as_clip(grey)), wanted)
    assert np.array_equal(all_frames(as_clip(torch.from_numpy(grey))), wanted)
    assert np.array_equal(all_frames(as_clip(grey > 99)), (wanted > 99) * 255)


def test_frames_and_channels_that_cannot_be_told_apart() -> None:
    frames = torch.from_numpy(smooth_frames(3, 24, 16)) / 255
    for order in ((3, 0, 1, 2), (0, 3, 1, 2)):
        with pytest.raises(InputError, match=r"\(1, 3, 3, 16, 24\), where either 3 may be the ch"):
            as_clip(frames.permute(order)[None])
    # Frames before channels, as without a batch.
    assert np.array_equal(all_frames(as_clip(frames.permute(0, 3, 1, 2))), smooth_frames(3, 24, 16))
    assert np.array_equal(all_frames(as_clip(frames[None])), smooth_frames(3, 24, 16))


CALLS: dict[str, tuple[dict[str, Any], str]] = {
    "generator": ({"generator": 0}, "generator is 0; give a torch.Generator, such as torch.Gene"),
    "generators": ({"generator": [0, 1]}, r"generator is \[0, 1\]; give a torch.Generator"),
    "no generators": ({"generator": []}, r"generator is \[\]; give a torch.Generator"),
    "no prompt": ({"prompt": []}, r"prompt is \[\]; give a text or a list of texts"),
    "a number": ({"prompt": 5}, "prompt is 5; give a text or a list of texts"),
    "numbers": ({"prompt": ["a", 5]}, r"prompt is \['a', 5\]; give a text or a list of texts"),
    "no negative": ({"negative_prompt": []}, r"negative_prompt is \[\]; give a text or a list"),
    "a negative number": ({"negative_prompt": 1.5}, "negative_prompt is 1.5; give a text or"),
    "inversion": ({"inversion_prompt": ["a"]}, r"inversion_prompt is \['a'\]; give a text$"),
    "embeds": ({"prompt": None, "prompt_embeds": "a"}, "prompt_embeds is 'a'; give a tensor"),
    "trajectory": ({"video": None, "trajectory": "a.safetensors"}, "trajectory is 'a.safetens"),
    "job": ({"job": "folder"}, "job is 'folder'; give a JobFolder"),
    "storage": ({"storage": "disk"}, "storage is 'disk'; give a Storage"),
    "kwargs": ({"cross_attention_kwargs": 0.5}, "cross_attention_kwargs is 0.5; give a dict"),
    "size": ({"height": 16.5, "width": 24}, "height is 16.5; give a whole number of pixels"),
    "half a size": ({"height": 16}, "give both height and width"),
    "images": ({"num_images_per_prompt": 1.5}, "num_images_per_prompt is 1.5; give a whole"),
    "batch": ({"batch_size": "4"}, "batch_size is '4'; give a whole number"),
    "video": ({"video": 5}, r"frames have shape \(\), not"),
    "steps": ({"num_inference_steps": np.float32(2.5)}, "steps is .*2.5.*; give a whole number"),
}


@pytest.mark.parametrize("name", CALLS)
def test_values_of_a_call_that_are_refused(pipeline: PnPVideoPipeline, name: str) -> None:
    given, message = CALLS[name]
    with pytest.raises(InputError, match=message) as refused:
        pipeline(**{"prompt": "a stone", "video": PICTURES[0]} | given)
    assert "\n" not in str(refused.value)


def test_numbers_of_numpy_and_torch(pipeline: PnPVideoPipeline) -> None:
    def run(**given: Any) -> Any:
        generator = torch.Generator().manual_seed(0)
        return pipeline("a stone", PICTURES[0], generator=generator, output_type="np", **given)

    plain = run(num_inference_steps=2, height=16, width=24, tau_f=0.5, batch_size=2)
    same = run(
        num_inference_steps=np.int64(2), height=np.int32(16), width=torch.tensor(24),
        tau_f=np.float64(0.5), batch_size=np.uint8(2), num_images_per_prompt=np.int64(1),
    )  # fmt: skip
    np.testing.assert_array_equal(same.frames, plain.frames)
    values = {"source": "a", "prompt": ["b"], "seed": np.int64(3), "size": (np.int64(64), 32)}
    more = {"mask": "c", "mask_motion": np.bool_(True), "quality": np.array(70)}
    settings = Settings.of(values | more)
    assert (settings.seed, settings.size, settings.mask_motion) == (3, (64, 32), True)
    assert {type(v) for v in (settings.seed, *settings.size, settings.quality)} == {int}
    with pytest.raises(InputError, match=r"seed is -1; give a whole number"):
        Settings.of(values | {"seed": np.int64(-1)})
    again = {"trajectory": plain.trajectory, "num_inference_steps": 2}
    with pytest.raises(InputError, match="the size is 32x32, and the trajectory is of 24x16"):
        pipeline("a stone", height=32, width=32, **again)
    assert pipeline("a stone", height=16, width=24, **again).frames
