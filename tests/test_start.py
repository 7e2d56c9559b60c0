"""Sampling without an inversion, and reading the source once, through the whole recipe."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from clips import smooth_frames
from command import Cli, assert_refused, pixels, save_frames
from forked import run_killed
from tqdm import tqdm

from pnpvideo import PnPVideoPipeline
from pnpvideo.cli import main
from pnpvideo.clips.as_clip import clip_of_frames
from pnpvideo.errors import InputError
from pnpvideo.options.method import PnPOptions
from pnpvideo.pixels.mask import Area
from pnpvideo.stages.callbacks import QUIET, Callbacks
from pnpvideo.stages.edit import OpenEdit, edit
from pnpvideo.stages.request import Edit, seeded
from pnpvideo.storage.allocate import Storage
from pnpvideo.storage.trajectory import Trajectory

COUNT, SIZE = 5, (48, 32)


def request(pipeline: PnPVideoPipeline, own: Mapping[str, Any], **more: Any) -> Edit:
    given: dict[str, Any] = {
        "source": clip_of_frames(smooth_frames(COUNT, *SIZE)),
        "prompt": ["a stone", "a tree"],
        "generators": seeded(4),
        "batch_size": 2,
        "storage": Storage(precision="full"),
        "options": PnPOptions(steps=5, guidance_scale=3.0, blend_radius=0, **own),
    }
    return Edit(**(given | more))


@pytest.mark.parametrize("level", [1.0, 0.6])
@pytest.mark.parametrize("kind", ["noised", "noise"])
def test_what_is_read_and_started_from(pipeline: PnPVideoPipeline, kind: str, level: float) -> None:
    """One noise for all frames and levels: signal * clean + noise * eps, written out."""
    own = {
        "start_from": kind,
        "start_level": level if kind == "noised" else 1.0,
        "feature_level": 0.4,
    }
    with OpenEdit(pipeline.model, request(pipeline, own), QUIET) as opened:
        opened.invert()
        start = opened.start(seeded(4)[0])
        clean = opened.source.trajectory.clean
    eps = torch.randn(clean.shape[1:], generator=seeded(4)[0])
    levels = pipeline.model.schedule(PnPOptions(steps=5), SIZE).levels
    for number, one in enumerate(levels[:-1]):
        a, b = one.signal_square**0.5, one.noise_square**0.5
        for frame in range(COUNT):
            expected = a * clean[frame] + b * eps
            torch.testing.assert_close(start.source.latents[number, [frame]][0], expected)
    torch.testing.assert_close(start.source.clean, clean)
    first = start.source.latents[2 if level < 1 else 0, :]
    expected = eps.expand_as(clean) if kind == "noise" else first
    torch.testing.assert_close(start.latents, expected)


@pytest.mark.parametrize(
    ("own", "inverts"),
    [
        ({"start_from": "noised"}, False),
        ({"start_from": "noise", "feature_level": 0.4}, False),
        ({"feature_level": 0.4}, True),
    ],
)
def test_only_the_inverted_start_inverts(
    pipeline: PnPVideoPipeline, own: Mapping[str, Any], inverts: bool
) -> None:
    begun: list[str] = []

    class Bar(tqdm):  # type: ignore[type-arg]
        def __init__(self, *, desc: str, **rest: object) -> None:
            begun.append(desc)
            super().__init__(disable=True)

    with edit(pipeline.model, request(pipeline, own), Callbacks(bars=Bar)) as result:
        assert len(result.source.trajectory.timesteps) == (5 if inverts else 0)
    assert begun == ["inverting"] * inverts + ["translating"]


OTHERWISE = [
    {"start_from": "noised", "feature_level": 0.4},
    {
        "start_from": "noise",
        "feature_level": 0.2,
        "attention_sharing": "extended",
        "keyframe_every": 2,
    },
    {"start_from": "noised", "noise_motion": True, "start_level": 0.8},
    {"start_from": "noise", "eta": 0.5, "feature_level": 0.4},
    {"feature_level": 0.4, "start_level": 0.6},
]


@pytest.mark.parametrize("own", OTHERWISE)
def test_batches_and_companions_change_nothing(
    pipeline: PnPVideoPipeline, own: Mapping[str, Any]
) -> None:
    """Any batch size, watched or not, and each seed alone as among others."""
    found = []
    for more in (
        {"batch_size": 1},
        {"batch_size": 5},
        {"generators": [g for seed in (4, 9, 4, 9) for g in seeded(seed)], "results_per_prompt": 2},
    ):
        with edit(pipeline.model, request(pipeline, own, **more), QUIET) as result:
            found.append(result.latents)
    seen: list[int] = []
    watching = Callbacks(bars=QUIET.bars, on_prediction=lambda step, _: seen.append(step))
    with edit(pipeline.model, request(pipeline, own), watching) as result:
        found.append(result.latents)
    first = {0.6: 2, 0.8: 1}.get(own.get("start_level"), 0)
    assert seen == list(range(first, 5))
    close = {"rtol": 1e-3, "atol": 1e-4}
    torch.testing.assert_close(found[1], found[0], **close)
    torch.testing.assert_close(found[3], found[0], **close)
    with edit(
        pipeline.model, request(pipeline, own, prompt="a stone", generators=seeded(4)), QUIET
    ) as alone:
        torch.testing.assert_close(found[2][:1], alone.latents, **close)
    if own.get("start_from", "inverted") != "inverted":
        assert not torch.allclose(found[2][0], found[2][1])


@pytest.mark.parametrize("own", OTHERWISE[:2])
def test_the_rest_of_the_source_stays(pipeline: PnPVideoPipeline, own: Mapping[str, Any]) -> None:
    mask = np.zeros((1, 32, 48, 3), np.uint8)
    mask[:, 8:24, 16:40] = 255
    area = Area(mask=clip_of_frames(mask), feather=0)
    with edit(pipeline.model, request(pipeline, own, area=area), QUIET) as result:
        assert result.mask is not None
        frames = result.all_frames(0)
        inside = np.concatenate(list(result.mask.frames.batches(COUNT))) > 0
        (source,) = result.source.frames(COUNT)
        outside = result.mask.latents == 0
        clean = result.source.trajectory.clean
        kept = outside.expand_as(clean)
        torch.testing.assert_close(result.latents[0][kept], clean[kept], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(frames[~inside], source[~inside])
    assert (frames[inside] != source[inside]).any()


@pytest.mark.slow
@pytest.mark.parametrize("own", [("--start-from", "noised"), ()])
def test_killed_and_started_again(
    tiny_model: Path, tmp_path: Path, own: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parts of a clip are sampled one after the other, and each of their steps is kept."""
    save_frames(tmp_path / "frames", 4)
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    run = ("../frames", "--prompt", "a stone", "--steps", "3", "--batch-size", "2", *own)
    run += ("--feature-level", "0.4", "--model", str(tiny_model))
    code, told = -9, [""]
    while code == -9:
        code, text = run_killed(*run, "-o", "a/", "--job", "job", cwd=here, after=5 * len(told))
        told.append(text)
    assert code == 0, told
    assert "drawing continues after " in "".join(told)
    assert main(["translate", *run, "-o", "b/", "--quiet"]) == 0
    for path in sorted((here / "b").glob("*.png")):
        np.testing.assert_array_equal(pixels(here / "a" / path.name), pixels(path))


def test_a_trajectory_without_an_inversion(pipeline: PnPVideoPipeline, tmp_path: Path) -> None:
    own = {"start_from": "noise", "feature_level": 0.4}
    with edit(pipeline.model, request(pipeline, own), QUIET) as result:
        latents, kept = result.latents, result.source.trajectory
        kept.save(tmp_path / "kept.safetensors")
    again = Trajectory.load(tmp_path / "kept.safetensors")
    with edit(pipeline.model, request(pipeline, own, source=again), QUIET) as result:
        torch.testing.assert_close(result.latents, latents)
    with pytest.raises(InputError, match="the trajectory was not inverted; give the start_from"):
        OpenEdit(pipeline.model, request(pipeline, {}, source=again), QUIET)


@pytest.mark.parametrize(
    ("own", "message"),
    [
        (
            ("--start-from", "noise", "--start-level", "0.5"),
            "start_level is 0.5, and noise alone has",
        ),
        (
            ("--start-from", "noised", "--noise-share", "0.5"),
            "noise_share is 0.5; it mixes noise into",
        ),
        (("--start-level", "0.5", "--noise-share", "0.5"), "noise_share is 0.5; it is mixed into"),
        (
            ("--start-from", "noised", "--check-inversion"),
            "with start_from noised and method inject there is no inversion to check",
        ),
        (("--start-from", "blank"), "start_from is 'blank'; give inverted, noised or noise"),
        (("--feature-level", "1.5"), "feature_level is 1.5; give a number from 0 to 1"),
    ],
)
def test_refused(cli: Cli, picture: Path, own: tuple[str, ...], message: str) -> None:
    given = cli(str(picture), "--prompt", "a stone", "-o", "out.png", "--steps", "3", *own)
    assert_refused(given, 2, message)
