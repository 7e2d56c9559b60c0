"""The meaning of a mask's values: brightness, two values, a palette, labels, colours, opacity."""

import io
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
import torch
from clips import ffmpeg
from command import SHORT, Cli, pixels, save_frames
from numpy.typing import NDArray
from PIL import Image

from pnpvideo import InputError
from pnpvideo.clips.as_clip import as_clip
from pnpvideo.clips.as_mask import as_mask
from pnpvideo.clips.clip import Clip
from pnpvideo.clips.read import read_clip
from pnpvideo.evaluation.masks import MaskPictures
from pnpvideo.options.mask import MaskOptions
from pnpvideo.pixels.mask import Area, check_mask, weights_of
from pnpvideo.pixels.mask_values import ones_as_white, white_and_black

LABELS = np.zeros((24, 32), np.uint8)
LABELS[4:16, 4:12] = 1
LABELS[8:20, 18:28] = 2
ONE, TWO, BOTH = LABELS == 1, LABELS == 2, LABELS > 0
DAVIS = [0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0] + [191] * 756
RED, BLUE = (200, 20, 30), (20, 40, 220)


def indexed(labels: NDArray[np.generic], palette: list[int]) -> Image.Image:
    image = Image.fromarray(np.asarray(labels, np.uint8))
    image.putpalette(palette)
    return image


def coloured(*colours: tuple[int, int, int]) -> NDArray[np.uint8]:
    """The labels as colours: one of the background, one of each label."""
    return np.array(colours, np.uint8)[LABELS]


def layer(colour: Any, opaque: NDArray[np.bool_], below: int = 0) -> Image.Image:
    """Paint of one colour, or a picture, on a transparent layer."""
    rgba = np.zeros((24, 32, 4), np.uint8) + np.uint8(below)
    rgba[..., :3] = np.where(opaque[..., None], colour, below)
    rgba[..., 3] = np.where(opaque, 255, 0)
    return Image.fromarray(rgba)


# Each is saved under its name, and edits what is given. A notice, if any, has the words.
FILES: dict[str, tuple[Image.Image | NDArray[np.generic], NDArray[np.bool_], str]] = {
    "zero and one.png": (ONE.astype(np.uint8), ONE, ""),
    "zero and one.bmp": (ONE.astype(np.uint8), ONE, ""),
    "zero and one, deep.png": (ONE.astype(np.uint16), ONE, ""),
    "zero and 255, deep.png": (ONE.astype(np.uint16) * 255, ONE, ""),
    "any two.png": (np.where(ONE, 140, 90).astype(np.uint8), ONE, ""),
    "black and grey.png": (np.where(ONE, 128, 0).astype(np.uint8), ONE, ""),
    "white.png": (ONE.astype(np.uint8) * 255, ONE, ""),
    "bits.png": (Image.fromarray(ONE), ONE, ""),
    "float.tif": (ONE.astype(np.float32), ONE, ""),
    "half.tif": (ONE.astype(np.float16), ONE, ""),
    "unsigned.tif": (ONE.astype(np.uint32), ONE, ""),
    "davis.png": (indexed(ONE, DAVIS), ONE, ""),
    "davis, index 2.png": (indexed(TWO * 2, DAVIS), TWO, ""),
    "davis.gif": (indexed(ONE, DAVIS), ONE, ""),
    "no palette.png": (indexed(ONE, [0] * 768), ONE, ""),
    "grey palette.png": (indexed(ONE, [0, 0, 0, 255, 255, 255]), ONE, ""),
    "palette from white.png": (indexed(~ONE, [255, 255, 255, 0, 0, 0]), ONE, ""),
    "palette from a colour.png": (indexed(~ONE, [*RED, 0, 0, 0]), ONE, ""),
    "two colours of a palette.png": (indexed(ONE, [*BLUE, *RED]), ONE, ""),
    "red on black.png": (coloured((0, 0, 0), RED, (0, 0, 0)), ONE, ""),
    "red on black.webp": (coloured((0, 0, 0), RED, (0, 0, 0)), ONE, ""),
    "white on red.png": (coloured(RED, (255, 255, 255), RED), ONE, ""),
    "red on blue.png": (coloured(BLUE, RED, BLUE), ONE, ""),
    "three davis.png": (indexed(LABELS, DAVIS), BOTH, "map of labels (0, 1, 2): all but 0 are"),
    "three cityscapes.png": (
        indexed(LABELS, [128, 64, 128, *RED, *BLUE]), BOTH, "labels (0, 1, 2): all but 0",
    ),
    "grey labels.png": (LABELS, BOTH, "map of labels (0, 1, 2): all but 0 are edited; mask_label"),
    "deep labels.png": (LABELS.astype(np.uint16) * 3, BOTH, "(0, 3, 6)"),
    "float labels.tif": (LABELS.astype(np.float32) * 7, BOTH, "(0, 7, 14)"),
    "colours.png": (coloured((0, 0, 0), RED, BLUE), BOTH, "(#000000, #1428dc, #c8141e): all but"),
    "colours.gif": (coloured((0, 0, 0), RED, BLUE), BOTH, "all but black are edited"),
    "white layer.png": (layer(255, ONE), ONE, ""),
    "white layer on white.png": (layer(255, ONE, below=255), ONE, ""),
    "red layer.png": (layer(RED, ONE), ONE, ""),
    "grey layer.png": (layer(90, ONE), ONE, ""),
    "two colours on a layer.png": (
        layer(coloured((0, 0, 0), RED, BLUE), BOTH), BOTH, "(#1428dc, #c8141e): all are edited",
    ),
    "transparent palette.png": (indexed(ONE, [255] * 6), ONE, ""),
}  # fmt: skip


def save(folder: Path, name: str, content: Image.Image | NDArray[np.generic]) -> Path:
    path = folder / name
    if path.suffix == ".tif":
        tifffile.imwrite(path, np.asarray(content), photometric="minisblack")
        return path
    image = content if isinstance(content, Image.Image) else Image.fromarray(content)
    more = {"transparency": 0} if "transparent" in name else {}
    image.save(path, lossless=True, **more)
    return path


def edited(mask: Clip, labels: tuple[str, ...] = ()) -> NDArray[np.bool_]:
    """Return the edited part of each frame; every pixel is edited fully or not at all."""
    weights = weights_of(white_and_black(mask, labels).read(0, len(mask)))
    assert set(np.unique(weights)) <= {0, 255}
    return weights > 0


@pytest.mark.parametrize("name", FILES)
def test_files(tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str) -> None:
    content, wanted, words = FILES[name]
    path = save(tmp_path, name, content)
    for background in ("black", "white"):
        with caplog.at_level(logging.WARNING):
            assert np.array_equal(edited(read_clip(path, background=background))[0], wanted)
    # Python's forms of the same, and the evaluation, read it as this does.
    files = [path, path.read_bytes(), [path], [io.BytesIO(path.read_bytes())]]
    for given in files if path.suffix == ".tif" else [*files, Image.open(path)]:
        assert np.array_equal(edited(as_mask(given))[0], wanted)
    assert np.array_equal(MaskPictures(path=path).read(2, 32, 24), [wanted] * 2)
    assert words in caplog.text
    assert bool(words) == bool(caplog.text)


def test_brightness_stays_what_it_is(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    soft = cv2.GaussianBlur(ONE.astype(np.uint8) * 255, (7, 7), 2)
    deep = soft.astype(np.uint16) * 257
    tinted = np.stack([soft, soft, soft], axis=-1)
    for name, content in (
        ("a.png", soft),
        ("b.png", deep),
        ("c.png", tinted),
        ("d.png", indexed(soft, [i // 3 for i in range(768)])),
    ):
        path = save(tmp_path, name, content)
        plain = weights_of(read_clip(path, background="black").read(0, 1))
        assert np.array_equal(weights_of(white_and_black(read_clip(path)).read(0, 1)), plain)
        assert np.array_equal(weights_of(soft[None, ..., None].repeat(3, -1)), plain)
    Image.fromarray(soft).save(tmp_path / "e.jpg", quality=80)
    read = white_and_black(read_clip(tmp_path / "e.jpg")).read(0, 1)
    assert np.array_equal(read, read_clip(tmp_path / "e.jpg").read(0, 1))
    assert not caplog.text
    # A soft layer is laid on black, as it always was.
    rgba = np.dstack([np.full((24, 32, 3), 255, np.uint8), soft])
    path = save(tmp_path, "f.png", rgba)
    laid = read_clip(path, background="black").read(0, 1)
    assert np.array_equal(white_and_black(read_clip(path)).read(0, 1), laid)
    # What may be labels is said.
    assert len(np.unique(save_and_read(tmp_path, LABELS * 30))) == 3
    assert (
        "is nowhere white: its brightest value is 60 of 255, so at most 15% of the" in caplog.text
    )


def save_and_read(folder: Path, content: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return white_and_black(read_clip(save(folder, "dim.png", content))).read(0, 1)


def test_all_frames_have_one_meaning(tmp_path: Path) -> None:
    """Frames without an object, of one object, and of another type, are read as the others."""
    empty = np.zeros_like(LABELS)
    frames = [empty, ONE * np.uint8(1), LABELS, TWO * np.uint8(2), np.full_like(LABELS, 1)]
    wanted = np.stack(frames) > 0
    for kind in ("indices", "greys", "colours", "mixed"):
        folder = tmp_path / kind
        folder.mkdir()
        for number, frame in enumerate(frames):
            as_palette = kind == "indices" or (kind == "mixed" and number % 2)
            content = indexed(frame, DAVIS) if as_palette else frame
            if kind == "colours" or (kind == "mixed" and not number % 2):
                content = np.array(DAVIS, np.uint8).reshape(-1, 3)[frame]
            save(folder, f"{number}.png", content)
        assert np.array_equal(edited(read_clip(folder)), wanted)
        assert np.array_equal(MaskPictures(path=folder).read(5, 32, 24), wanted)
        assert np.array_equal(edited(read_clip(folder, start=1, frames=2)), wanted[1:3])


def test_videos_and_pictures_of_lossy_formats(tmp_path: Path) -> None:
    large = np.kron(coloured((0, 0, 0), (200, 20, 30), (30, 200, 60)), np.ones((8, 8, 1), np.uint8))
    Image.fromarray(large).save(tmp_path / "a.png")
    Image.fromarray(large).save(tmp_path / "a.jpg", quality=90)
    ffmpeg(
        "-loop",
        "1",
        "-i",
        tmp_path / "a.png",
        "-frames:v",
        "3",
        "-crf",
        "18",
        "-pix_fmt",
        "yuv420p",
        tmp_path / "a.mp4",
    )
    wanted = np.kron(BOTH, np.ones((8, 8), bool))
    for name, count in (("a.jpg", 1), ("a.mp4", 3)):
        found = edited(read_clip(tmp_path / name, background="black"))
        assert len(found) == count
        assert (found != wanted).mean() < 0.06
        inner = cv2.erode(wanted.astype(np.uint8), np.ones((9, 9))) > 0
        outer = cv2.dilate(wanted.astype(np.uint8), np.ones((33, 33))) > 0  # A block of chroma.
        assert found[:, inner].all()
        assert not found[:, ~outer].any()


ARRAYS: dict[str, tuple[Callable[[], Any], NDArray[np.bool_]]] = {
    "bool": (lambda: ONE, ONE),
    "zero and one": (lambda: ONE.astype(np.uint8), ONE),
    "signed": (lambda: ONE.astype(np.int64), ONE),
    "255 of 64 bits": (lambda: ONE.astype(np.int64) * 255, ONE),
    "minus one and one": (lambda: ONE * 2 - 1, ONE),
    "shares": (lambda: ONE.astype(np.float32), ONE),
    "floats to 255": (lambda: ONE * 255.0, ONE),
    "a tensor of bool": (lambda: torch.from_numpy(ONE), ONE),
    "half a tensor": (lambda: torch.from_numpy(ONE)[None, None].half(), ONE),
    "bfloat16": (lambda: torch.from_numpy(ONE)[None].bfloat16(), ONE),
    "one channel, as diffusers has it": (lambda: ONE[None, None].astype(np.float32), ONE),
    "one channel last": (lambda: ONE[..., None], ONE),
    "a batch of one channel last": (lambda: ONE[None, ..., None], ONE),
    "three equal channels": (lambda: torch.from_numpy(ONE).expand(1, 3, 24, 32), ONE),
    "a video of one frame": (lambda: torch.from_numpy(ONE)[None, None, None], ONE),
    "four channels": (lambda: np.asarray(layer(255, ONE)), ONE),
    "labels of a network": (lambda: LABELS.astype(np.int64), BOTH),
    "negative labels": (lambda: LABELS.astype(np.int64) - 1, TWO),
    "labels in a tensor": (lambda: torch.from_numpy(LABELS).long()[None], BOTH),
    "an image": (lambda: indexed(ONE, DAVIS), ONE),
    "a list of lists": (lambda: [[Image.fromarray(ONE)]], ONE),
    "a turned image": (lambda: turned(ONE), ONE),
}  # fmt: skip


def turned(mask: NDArray[np.bool_]) -> Image.Image:
    """A mask on its side, whose orientation says so."""
    image = Image.fromarray(np.rot90(mask).copy())
    image.getexif()[0x0112] = 6
    return image


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays(name: str) -> None:
    make, wanted = ARRAYS[name]
    found = edited(as_mask(make()))
    assert found.shape == (1, 24, 32)
    assert np.array_equal(found[0], wanted)


@pytest.mark.parametrize(
    "make",
    [
        lambda f: f,
        lambda f: list(f),
        lambda f: f[:, None],
        lambda f: f[..., None],
        lambda f: f[None],
        lambda f: f[None, None],
        lambda f: f[None, :, None],
        lambda f: torch.from_numpy(f),
        lambda f: torch.from_numpy(f)[:, None].float(),
        lambda f: [Image.fromarray(frame) for frame in f],
        lambda f: f.astype(np.uint8),
    ],
)
@pytest.mark.parametrize("count", [3, 5])
def test_masks_of_several_frames(make: Callable[[Any], Any], count: int) -> None:
    frames = np.stack([np.roll(ONE, i, axis=1) for i in range(count)])
    assert np.array_equal(edited(as_mask(make(frames))), frames)


@pytest.mark.parametrize(
    ("labels", "content", "wanted"),
    [
        (2, indexed(LABELS, DAVIS), TWO),
        ("1", indexed(LABELS, DAVIS), ONE),
        ([1, "2"], indexed(LABELS, DAVIS), BOTH),
        (0, indexed(LABELS, DAVIS), ~BOTH),
        ("#800000", indexed(LABELS, DAVIS), ONE),
        (np.int64(2), LABELS, TWO),
        ("60", LABELS * 30, TWO),
        ("#c8141e", coloured((0, 0, 0), RED, BLUE), ONE),
        ("rgb(20, 40, 220)", coloured((9, 9, 9), RED, BLUE), TWO),
        (("red", "lime"), coloured((0, 0, 0), (255, 0, 0), (0, 255, 0)), BOTH),
        ("300", LABELS.astype(np.uint16) * 150, TWO),
    ],
)
def test_chosen_labels(
    tmp_path: Path, labels: Any, content: Any, wanted: NDArray[np.bool_],
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    path = save(tmp_path, "a.png", content)
    area = Area.of(read_clip(path), MaskOptions.of({"mask_label": labels}))
    assert area is not None
    assert area.mask is not None
    assert np.array_equal(weights_of(area.mask.read(0, 1))[0], np.where(wanted, 255, 0))
    assert not caplog.text


@pytest.mark.parametrize(
    ("values", "content", "message"),
    [
        ({"mask_label": 7}, LABELS, "mask_label is 7, and the mask has only 0, 1, 2$"),
        ({"mask_label": "red"}, coloured((0, 0, 0), RED, BLUE), "mask_label is #ff0000, and the"),
        ({"mask_label": 1.5}, LABELS, "mask_label is 1.5; give whole numbers or colours"),
        ({"mask_label": "dog"}, LABELS, "mask_label is 'dog'; give whole numbers or colours"),
        ({}, coloured(BLUE, RED, (9, 200, 9)), "has no label 0 and no black, so all would be"),
        ({}, LABELS + 1, "has no label 0 and no black, so all would be edited; choose some of its"),
    ],
)
def test_labels_that_are_refused(
    tmp_path: Path, values: dict[str, object], content: Any, message: str
) -> None:
    path = save(tmp_path, "a.png", content)
    with pytest.raises(InputError, match=message):
        Area.of(read_clip(path), MaskOptions.of(values))
    with pytest.raises(InputError, match="mask_label needs a mask"):
        Area.of(None, MaskOptions.of({"mask_label": 1}))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            np.zeros((2, 2, 8, 8, 3), np.uint8),
            r"the mask has shape \(2, 2, 8, 8, 3\), not \(height",
        ),
        (np.zeros(8), r"the mask has shape \(8,\)"),
        (np.full((8, 8), np.nan), "values that are not numbers"),
        (np.linspace(-1, 1, 64).reshape(8, 8), r"go from -1 to 1, .* give frames / 2 \+ 0\.5"),
        (np.zeros((8, 8), complex), "the mask has type complex128"),
        (b"no picture", "the content that is given is not"),
        ([np.zeros((8, 8)), np.zeros((8, 9))], "different sizes"),
        ([], "there are no frames"),
    ],
)
def test_arrays_that_are_no_masks(given: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        edited(as_mask(given))


def test_a_run_edits_what_a_palette_says(cli: Cli, tmp_path: Path) -> None:
    save_frames(tmp_path / "in", 1)
    labels = np.zeros((32, 48), np.uint8)
    labels[4:24, 12:36], labels[26:31, 2:9] = 1, 2
    save(tmp_path, "labels.png", indexed(labels, DAVIS))
    save(tmp_path, "plain.png", np.where(labels == 1, 255, 0).astype(np.uint8))
    run = ("in/source0.png", *SHORT, "--size", "48x32", "--mask")
    assert cli(*run, "plain.png", "-o", "plain-out.png")[0] == 0
    assert cli(*run, "labels.png", "--mask-label", "1", "-o", "one.png")[::2] == (0, "")
    code, _, said = cli(*run, "labels.png", "-o", "both.png")
    assert code == 0
    assert "the mask labels is read as a map of labels (0, 1, 2): all but 0 are edited" in said
    np.testing.assert_array_equal(pixels(tmp_path / "one.png"), pixels(tmp_path / "plain-out.png"))
    changed = np.abs(
        pixels(tmp_path / "both.png") - pixels(tmp_path / "in/source0.png").astype(int)
    )
    assert not changed[labels == 0].any()
    assert changed[labels == 2].mean() > 1


def test_one_value_is_no_mask() -> None:
    for value, words in ((0, "black everywhere"), (255, "white everywhere")):
        mask = white_and_black(as_mask(np.full((8, 8), value, np.uint8)))
        with pytest.raises(InputError, match=words):
            check_mask(mask, (8, 8), 1)


def test_control_pictures_of_0_and_1_are_black_and_white(tmp_path: Path) -> None:
    for number, dtype in enumerate((np.uint8, np.uint16)):
        path = save(tmp_path, f"{number}.png", ONE.astype(dtype))
        found = ones_as_white(read_clip(path)).read(0, 1)[0]
        assert np.array_equal(found, 255 * ONE[..., None].repeat(3, -1))
    for given in (ONE, ONE.astype(np.uint8), ONE[..., None].repeat(3, -1).astype(np.uint8)):
        assert np.array_equal(ones_as_white(as_clip(given)).read(0, 1)[0, ..., 1], 255 * ONE)
    for depth in (LABELS, LABELS * 100, np.zeros_like(LABELS)):
        clip = read_clip(save(tmp_path, "depth.png", depth))
        assert np.array_equal(ones_as_white(clip).read(0, 1), clip.read(0, 1))
