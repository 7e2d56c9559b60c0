"""Which files are the frames of a folder or of a pattern, and what is said of the others."""

import logging
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from clips import all_frames, make_video
from command import SHORT, Cli, assert_refused, run_script
from PIL import Image

from pnpvideo.batch.read_jobs import read_jobs
from pnpvideo.clips.find_images import check_there
from pnpvideo.clips.read import read_clip
from pnpvideo.errors import InputError

pillow_heif.register_heif_opener()


def fill(folder: Path, *names: str) -> list[int]:
    """Save pictures of a grey each; returns those."""
    folder.mkdir(parents=True, exist_ok=True)
    greys = []
    for i, name in enumerate(names):
        greys.append(20 + 30 * i)
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (24, 16), (greys[-1],) * 3).save(path)
    return greys


def greys_of(source: Path) -> list[int]:
    frames = all_frames(read_clip(source))
    assert np.ptp(frames, axis=(1, 2, 3)).max() <= 2
    return [round(float(frame.mean())) for frame in frames]


@pytest.mark.parametrize(
    "suffix",
    [
        *("png", "jpg", "jpeg", "webp", "tif", "tiff", "bmp", "gif", "heic", "avif", "jp2", "tga"),
        *("ppm", "pcx", "ico"),
    ],
)
def test_a_folder_of_any_kind_of_images(tmp_path: Path, suffix: str) -> None:
    greys = fill(tmp_path / "frames", *(f"f{n}.{suffix}" for n in (1, 2, 10)))
    if suffix == "ico":  # It holds squares only.
        greys = [20, 50, 80]
        for n, grey in zip((1, 2, 10), greys, strict=True):
            Image.new("RGB", (16, 16), (grey,) * 3).save(tmp_path / "frames" / f"f{n}.ico")
    assert np.abs(np.array(greys_of(tmp_path / "frames")) - greys).max() <= 1


def test_two_suffixes_of_one_kind(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    greys = fill(tmp_path, "1.JPG", "2.jpeg", "3.jpg")
    assert np.abs(np.array(greys_of(tmp_path)) - greys).max() <= 1
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("names", "others", "count", "told"),
    [
        (["1.tif", "2.tif", "3.png"], [], 2, "reading its 2 tif images, leaving out: 1 png"),
        (["1.png", "2.png"], ["notes.txt", "Thumbs.db"], 2, "2 png images, leaving out: 1 "),
        (["1.png"], ["a.dng", "b.dng", ".hidden"], 1, "its 1 png images, leaving out: 2 dng"),
    ],
)
def test_what_is_left_out_is_said(
    tmp_path: Path,
    names: list[str],
    others: list[str],
    count: int,
    told: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    greys = fill(tmp_path, *names)
    for name in others:
        (tmp_path / name).write_text("no image")
    with caplog.at_level(logging.WARNING):
        assert greys_of(tmp_path) == greys[:count]
    (message,) = caplog.messages
    assert told in message


@pytest.mark.parametrize("suffix", ["tif", "gif", "webp", "png", "heic", "avif"])
def test_files_of_several_pictures_are_said(
    tmp_path: Path, suffix: str, caplog: pytest.LogCaptureFixture
) -> None:
    pictures = [Image.new("RGB", (24, 16), (grey,) * 3) for grey in (20, 120, 220)]
    more = {"save_all": True, "append_images": pictures[1:]}
    for name in ("1", "2"):
        pictures[0].save(tmp_path / f"{name}.{suffix}", **more)
    assert [abs(grey - 20) <= 1 for grey in greys_of(tmp_path)] == [True, True]
    assert caplog.messages == [f"{tmp_path}/1.{suffix} holds several pictures; only one is read"]
    # On its own, a file of pages or of photos is a picture, and another is an animation.
    clip = read_clip(tmp_path / f"1.{suffix}")
    assert len(clip) == (1 if suffix in ("tif", "heic") else 3)
    assert len(caplog.messages) == (2 if suffix in ("tif", "heic") else 1)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ["1.png", "2.png", "1.tif", "2.tif"],
            r"several formats \(2 png, 2 tif\); name the frames .*/\*\.png",
        ),
        (["a.txt", "b.dng", "c.dng"], r"has no images to use as frames, only 2 dng, 1 txt"),
        ([], "has no images to use as frames$"),
    ],
)
def test_folders_that_are_refused(tmp_path: Path, names: list[str], message: str) -> None:
    for name in names:
        if name.endswith(("png", "tif")):
            fill(tmp_path, name)
        else:
            (tmp_path / name).write_text("no image")
    with pytest.raises(InputError, match=message):
        read_clip(tmp_path)


@pytest.mark.parametrize(
    ("pattern", "numbers"),
    [
        ("shots*/0001.png", [0, 2, 5]),
        ("shots*/%04d.png", [0, 1, 2, 3, 5]),
        ("shots%d/%d.png", [0, 1, 2, 3, 5]),
        ("shots?/000*.png", [0, 1, 2, 3]),
        ("shots%02d/*.png", [5]),
        ("*/000[12].png", [0, 1, 2, 3, 4, 5]),
        ("**/0002.png", [1, 3]),
        ("other [1]/%04d.png", [4]),
    ],
)
def test_patterns_in_the_folders_part(tmp_path: Path, pattern: str, numbers: list[int]) -> None:
    names = ["shots1/0001.png", "shots1/0002.png", "shots2/0001.png", "shots2/0002.png"]
    greys = fill(tmp_path, *names, "other [1]/0001.png", "shots10/0001.png")
    (tmp_path / "shots1" / "notes.txt").write_text("no frame")
    (tmp_path / ".shots3").mkdir()
    fill(tmp_path / ".shots3", "0001.png")
    assert sorted(greys_of(tmp_path / pattern)) == [greys[i] for i in sorted(numbers)]
    if "[1]" not in pattern and pattern[0] != "*":  # In natural order: 2 before 10.
        assert greys_of(tmp_path / pattern) == [greys[i] for i in numbers]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("shots*/9.png", "no file is named like shots"),
        ("none/shots*/1.png", "none does not exist (looking for shots*/1.png in it)"),
        ("https://example.org/a.mp4", "https://example.org/a.mp4 is an address, and only files"),
        ("rtsp://camera/1", "rtsp://camera/1 is an address, and only files are read"),
        ("-", "- is not a file: standard input and output are not supported"),
    ],
)
def test_sources_that_are_refused(cli: Cli, tmp_path: Path, source: str, message: str) -> None:
    fill(tmp_path, "shots1/1.png")
    assert_refused(cli(source, *SHORT), 2, message)
    # The same in a settings file, whose paths start from its folder.
    (tmp_path / "run.yaml").write_text(f"source: '{source}'\n")
    code, _, told = cli("--config", "run.yaml", *SHORT)
    assert code == 2
    assert message.split("shots")[0] in told


def test_a_source_that_does_not_exist_is_refused_before_torch_is_imported(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("source: gone.mp4\nprompt: [x]")
    script = (
        "import sys\n"
        "from pnpvideo.cli import main\n"
        "for given in ('translate gone.mp4 --prompt x', 'translate --config run.yaml',\n"
        "              'translate gone/*.png --prompt x', 'grid gone.mp4 --prompt x -o g',\n"
        "              'visualize run.yaml --beside gone.mp4 -o b.png',\n"
        "              'blocks embedded gone.mp4 --prompt x -o b'):\n"
        "    assert main(given.split()) == 2, given\n"
        "    assert 'torch' not in sys.modules, given\n"
    )
    done = run_script(script, cwd=tmp_path)
    told = [line.partition(" (")[0] for line in done.stderr.splitlines()]
    gone = "pnpvideo: gone.mp4 does not exist"
    assert told == [gone, gone, "pnpvideo: gone does not exist", gone, gone, gone]


def test_a_patterns_folders_are_not_written_over(cli: Cli, tmp_path: Path) -> None:
    fill(tmp_path, "shots1/0001.png", "shots2/0001.png")
    for output in ("shots1", "shots2/"):
        refused = cli("shots*/%04d.png", *SHORT, "--overwrite", "-o", output)
        assert_refused(refused, 2, "would write over the source")


def test_results_of_patterns_are_named_for_their_folder(cli: Cli, tmp_path: Path) -> None:
    fill(tmp_path, "shots/1.png", "shots/2.png")
    for source in ("shots/*.png", "shots/%d.png"):
        assert cli(source, *SHORT, "--overwrite")[:2] == (0, "shots-translated\n")


def test_results_go_to_files(cli: Cli, tmp_path: Path) -> None:
    fill(tmp_path, "1.png")
    for output, message in (("-", "- is not a file"), ("ftp://a.org/b.png", "is an address")):
        assert_refused(cli("1.png", *SHORT, "-o", output), 2, message)


def test_a_batch_finds_videos_of_every_suffix(tmp_path: Path) -> None:
    """All of these are in the folder of a batch, and can be read."""
    mpeg2 = ("-c:v", "mpeg2video")
    coding = {".vob": mpeg2, ".m2v": mpeg2, ".f4v": ("-c:v", "mpeg4", "-f", "mp4")}
    coding |= {".asf": ("-c:v", "wmv2"), ".qt": ("-c:v", "mpeg4", "-f", "mov")}
    coding |= {".y4m": (), ".3g2": ("-c:v", "mpeg4"), ".nut": ("-c:v", "ffv1")}
    clips = tmp_path / "clips"
    clips.mkdir()
    paths = [make_video(clips / f"a{s}", *how, frames=2) for s, how in coding.items()]
    paths.append(paths[0].rename(clips / "A.VOB"))
    (clips / "notes.txt").write_text("no clip")
    found = [Path(str(job.values["source"])) for job in read_jobs(clips, tmp_path / "out")]
    assert sorted(found) == sorted(paths[1:])
    assert [len(read_clip(path)) for path in found] == [2] * len(coding)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("goos.png", "; did you mean goose.png?"),
        ("GOOSE.png", "; did you mean goose.png?"),
        ("goose.jpg", "; did you mean goose.png?"),
        ("wlof.mp4", "; did you mean wolf.mp4?"),
        ("jobs.yml", "; did you mean jobs.yaml?"),
        ("golf.mp4", ""),
        ("frame", "; did you mean frames?"),
        ("goos.mp4", ""),  # Two mistakes.
        ("hid.png", ""),
        ("zebra.png", ""),
        ("frames/goos.png", ""),
        ("nowhere/goos.png", ""),
    ],
)
def test_a_missing_source_names_the_nearest(tmp_path: Path, name: str, hint: str) -> None:
    for one in ("goose.png", "wolf.mp4", ".hide.png", "jobs.csv", "jobs.yaml"):
        (tmp_path / one).touch()
    (tmp_path / "frames").mkdir()
    path = tmp_path / name
    with pytest.raises(InputError) as refused:
        check_there(path)
    assert str(refused.value) == f"{path} does not exist{hint}"
