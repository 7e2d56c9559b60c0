"""A run whose mask is found by words shows what was found, and says how much it covers."""

import logging
import re
from pathlib import Path

import numpy as np
import pytest
from command import Cli, assert_refused, names, pixels

from pnpvideo import PnPVideoPipeline, Settings
from pnpvideo.catalogue.known_words import words_of_model
from pnpvideo.catalogue.unknown_words import check_named
from pnpvideo.pixels.show_mask import mask_sheet, percent, shown_frames, whole
from pnpvideo.run.first_frame import preview_settings
from pnpvideo.run.run import run

SAMPLES = Path(__file__).parents[1] / "samples"
FOX = {
    "source": str(SAMPLES / "fox"),
    "prompt": "a 3D render of a golden fox",
    "mask_from_prompt": "the fox",
    "steps": 2,
    "seed": 1,
}


@pytest.fixture(scope="module")
def embedded() -> PnPVideoPipeline:
    return PnPVideoPipeline.from_pretrained("embedded")


def covered(caplog: pytest.LogCaptureFixture) -> float:
    """The share of the picture that the mask covers, as it is logged."""
    (share,) = re.findall(r"the mask covers (\d+) % of the picture \(the fox\)", caplog.text)
    caplog.clear()
    return int(share) / 100


def test_the_mask_of_a_picture_can_be_given_again(
    embedded: PnPVideoPipeline, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is as large as the source, white in all that was edited."""
    caplog.set_level(logging.INFO)
    given = FOX | {"frames": 1, "output": str(tmp_path / "out.png")}
    done = run(Settings.of(given), embedded, quiet=True)
    assert names(tmp_path) == {"out.png", "out.png.yaml", "out-mask.png"}
    assert done.mask == tmp_path / "out-mask.png"
    mask, result = pixels(done.mask), pixels(done.outputs[0])
    assert set(np.unique(mask)) == {0, 255}
    share = float((mask > 0).mean())
    assert 0.05 < share < 0.9
    assert "out-mask.png shows the mask: look at it, as the model cannot tell" in caplog.text
    assert covered(caplog) == pytest.approx(share, abs=0.01)
    source = pixels(min((SAMPLES / "fox").iterdir()))
    changed = np.abs(result.astype(int) - source).max(-1) > 0
    assert not changed[mask[..., 0] == 0].any()
    assert changed[mask[..., 0] > 0].mean() > 0.5

    again = {name: value for name, value in given.items() if name != "mask_from_prompt"}
    again |= {"mask": str(done.mask), "output": str(tmp_path / "again.png")}
    other = run(Settings.of(again), embedded, quiet=True)
    assert other.mask is None
    np.testing.assert_array_equal(pixels(other.outputs[0]), result)
    small = given | {"size": (128, 128), "output": str(tmp_path / "small.png")}
    assert pixels(run(Settings.of(small), embedded, quiet=True).mask).shape == mask.shape


def test_the_masks_of_a_clip_and_of_its_preview(
    embedded: PnPVideoPipeline, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    settings = Settings.of(
        FOX
        | {"frames": 3, "size": (128, 128), "output": str(tmp_path / "out")}
        | {"prompt": ["a 3D render of a jade fox", "a 3D render of a purple fox"]}
    )
    first = preview_settings(settings, overwrite=False)
    assert first is not None
    shown = run(first, embedded, quiet=True)
    assert shown.mask == tmp_path / "out-preview-mask.png"
    assert pixels(shown.mask).shape == (256, 256, 3)
    covered(caplog)
    done = run(settings, embedded, quiet=True)
    # One for all prompts: the frames with the mask in red, and the masks below them.
    assert done.mask == tmp_path / "out-mask.png"
    sheet = pixels(done.mask)
    assert sheet.shape == (256, 384, 3)
    white = (sheet[128:] > 0).mean()
    assert set(np.unique(sheet[128:])) == {0, 255}
    assert covered(caplog) == pytest.approx(white, abs=0.01)


@pytest.mark.parametrize(
    ("count", "wanted"),
    [(1, [0]), (2, [0, 1]), (6, [0, 1, 2, 3, 4, 5]), (11, [0, 2, 4, 6, 8, 10]),
     (7, [0, 1, 2, 4, 5, 6])],
)  # fmt: skip
def test_a_sheet_shows_a_few_frames(count: int, wanted: list[int]) -> None:
    assert shown_frames(count) == wanted


def test_a_sheet_is_not_higher_than_needed() -> None:
    frames, masks = np.full((2, 512, 300, 3), 90, np.uint8), np.zeros((2, 512, 300), np.uint8)
    masks[1, :256] = 3
    sheet = mask_sheet(frames, whole(masks))
    assert sheet.shape == (512, 300, 3)
    assert (sheet[100, 200] == [172, 77, 77]).all()
    assert (sheet[100, 50] == 90).all()
    assert (sheet[300, 200] == 255).all()
    shares = {0: "0 %", 0.004: "less than 1 %", 0.18: "18 %", 1: "100 %"}
    assert [percent(share) for share in shares] == list(shares.values())


def test_a_mask_that_is_there_is_not_replaced(cli: Cli, picture: Path, tmp_path: Path) -> None:
    (tmp_path / "out-mask.png").write_bytes(b"mine")
    given = (picture.name, "--prompt", "a", "--mask-from-prompt", "it", "-o", "out.png")
    code, _, error = cli(*given, model="no/such")
    assert (code, "out-mask.png exists already" in error) == (2, True)
    assert (tmp_path / "out-mask.png").read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "the spaceship",
            "'spaceship' (nearest: flying saucer), so it cannot find that in the source",
        ),
        ("asdf qwer", "the model knows neither 'asdf' nor 'qwer', so it cannot find that"),
        ("the car", "the model does not know 'car' (nearest: automobile), so it cannot find"),
        ("tree", "(pnpvideo words lists all), or give a mask"),
    ],
)
def test_words_that_the_model_does_not_know_are_refused(
    cli: Cli, picture: Path, tmp_path: Path, name: str, message: str
) -> None:
    """Before it is loaded; one that it knows beside another is looked for."""
    given = (picture.name, "--prompt", "a fox", "-o", "out.png", "--mask-from-prompt")
    assert_refused(cli(*given, name, model="embedded"), 2, message)
    listed = words_of_model("embedded")
    check_named("the red fox at the door", listed)
    check_named("foxes", listed)
    check_named(name, None)
    assert names(tmp_path) == {picture.name}
