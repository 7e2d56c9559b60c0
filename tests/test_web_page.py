"""The texts of the page, without a browser: words, times, notices, options, samples, previews."""

import logging
import threading
import tomllib
from pathlib import Path

import numpy as np
import pytest
from clips import describe, make_video, smooth_frames
from models import model_with_words
from page import wait_until
from PIL import Image

from pnpvideo import read_clip
from pnpvideo.catalogue.known_words import read_known_words, words_of_model
from pnpvideo.catalogue.unknown_words import unknown_words
from pnpvideo.errors import InputError
from pnpvideo.options.method import PnPOptions
from pnpvideo.options.settings import GROUPS, Settings
from pnpvideo.options.values import EMBEDDED_MODEL
from pnpvideo.options.web import WebOptions

pytest.importorskip("gradio")

from pnpvideo.clips.sample_folder import PROJECT_SAMPLES
from pnpvideo.web.actions import Service
from pnpvideo.web.controls import MAIN, hint_of, in_page_words, label_of, lines, offered
from pnpvideo.web.jobs import JobStore, Visitor
from pnpvideo.web.limits import Limits
from pnpvideo.web.models import Models
from pnpvideo.web.notices import notices_of_this_thread
from pnpvideo.web.pace import Paces, about
from pnpvideo.web.runner import Runner, job_cells
from pnpvideo.web.samples import examples_of, find_samples
from pnpvideo.web.serve import serving
from pnpvideo.web.show import caption
from pnpvideo.web.thresholds import CELLS, cells_of
from pnpvideo.web.words import WordHelp, with_word

ME = Visitor(key="me", place="here")
LIMITS = Limits(pixels=10_000, frames=4, waiting=2, prompts=16, prompt_length=2000)


@pytest.fixture(scope="module")
def models(tiny_model: Path) -> Models:
    return Models([str(tiny_model)], "cpu")


@pytest.fixture(scope="module")
def words(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> WordHelp:
    folder = model_with_words(tiny_model, tmp_path_factory.mktemp("words") / "tiny")
    known = {"tiny": read_known_words(folder), "large": None}
    return WordHelp(known, ["a stone", "a horse", "a stone"])


@pytest.mark.parametrize(
    ("prompts", "said"),
    [
        (["a stone", "cobblestones and a horse"], None),
        (["a zebra"], "This model does not know “zebra” (try “horse”). It draws stones."),
        (["qwer", "a zebra, qwer"], "“qwer”, “zebra” (try “horse”). It draws stones."),
        ([], None),
    ],
)
def test_words_that_a_model_does_not_know(
    words: WordHelp, prompts: list[str], said: str | None
) -> None:
    notice = words.notice("tiny", prompts)
    assert notice is None if said is None else said in str(notice)
    assert words.notice("large", prompts) is None


@pytest.mark.parametrize(
    ("prompt", "chips"),
    [
        ("", [("a stone", "a stone"), ("a horse", "a horse")]),
        ("a Ho", [("horse", "a horse ")]),
        ("a stone and co", [("cobblestone", "a stone and cobblestone ")]),
        ("a horse", []),  # Nothing to complete.
        ("a horse ", []),
        ("a h", []),
        ("a xylo", []),
    ],
)
def test_completions_of_a_prompt(
    words: WordHelp, prompt: str, chips: list[tuple[str, str]]
) -> None:
    assert words.chips("tiny", prompt) == chips
    assert words.chips("large", prompt) == (chips if not prompt else [])


def test_pictures_of_words(words: WordHelp) -> None:
    everything = words.find("tiny", "things", "")
    shown = words.pictures("tiny", everything)
    assert [word for _, word in shown] == ["stone", "horse"]
    assert shown[0][0].shape == (8, 8, 3)
    assert [entry.word for entry in words.find("tiny", "looks", "COBBLE")] == ["stone"]
    assert words.find("large", "things", "") == words.pictures("large", everything) == []
    assert with_word("", "horse") == "horse"
    assert with_word("a blue  ", "horse") == "a blue horse"


def test_the_examples_and_samples_use_words_that_the_bundled_model_knows() -> None:
    known = words_of_model(EMBEDDED_MODEL)
    assert known is not None
    samples = find_samples(PROJECT_SAMPLES)
    moving = [sample.moves for sample in samples]
    assert moving == sorted(moving, reverse=True)
    assert moving[0]
    assert examples_of(samples)
    unknown = {s.source.name: [one.word for one in unknown_words(s.prompt, known)] for s in samples}
    assert not any(unknown.values()), unknown
    assert not any(unknown_words(text, known) for text in examples_of(samples))
    for sample in samples:
        assert sample.card is not None, sample.source
        with Image.open(sample.card) as card:
            assert card.width == 2 * card.height


def test_an_installed_package_has_all_samples() -> None:
    root = Path(__file__).parents[1]
    listed = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]
    taken = {
        path: Path(place) / path.name
        for place, patterns in listed["data-files"].items()
        for pattern in patterns
        for path in root.glob(pattern)
        if path.is_file()
    }
    samples = {path for path in (root / "samples").rglob("*") if path.is_file()}
    assert samples == taken.keys()
    for path, place in taken.items():
        assert place == Path("share/pnpvideo") / path.relative_to(root)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.2, "1 s"), (7.6, "8 s"), (47, "50 s"), (100, "2 min"), (5000, "83 min"), (9000, "2 h")],
)
def test_times_in_words(seconds: float, words: str) -> None:
    assert about(seconds) == f"about {words}"


def test_estimated_times_are_measured_and_learnt(models: Models) -> None:
    paces, (name,) = Paces(), models.names
    own = models.options[name]
    assert paces.choices(name, own, 1) == [
        ("Draft", "fast"),
        ("Good", "balanced"),
        ("Best", "best"),
    ]
    paces.measure(name, models.load(name))
    assert paces.choices(name, own, 1)[0][0].startswith("Draft, about ")
    # 50 steps of inversion, and 50 of the source and two branches: 200 passes of a frame.
    paces.learn(name, {}, own, frames=3, results=1, seconds=600)
    assert paces.choices(name, own, 3)[2] == ("Best, about 10 min", "best")
    assert paces.choices(name, own, 1)[0] == ("Draft, about 60 s", "fast")
    paces.learn(name, {"size": "8x8"}, own, frames=3, results=1, seconds=1)
    assert paces.choices(name, own, 3)[2] == ("Best, about 10 min", "best")


def test_notices_are_those_of_a_run() -> None:
    log, other = logging.getLogger("pnpvideo.stages.latents"), logging.getLogger("pnpvideo.web.x")
    with notices_of_this_thread() as notices:
        for _ in range(2):
            log.warning("a %s is cut off", "text")
        log.info("more")
        other.warning("of the server")
        thread = threading.Thread(target=log.warning, args=("of another run",))
        thread.start()
        thread.join()
    log.warning("later")
    assert notices == ["a text is cut off"]


@pytest.mark.parametrize(
    ("text", "expected"), [(None, []), ("", []), (" a \n\n b", ["a", "b"]), ("None", ["None"])]
)
def test_the_lines_of_a_field(text: str | None, expected: list[str]) -> None:
    assert lines(text) == expected


def test_options_have_names_hints_and_technical_names() -> None:
    every = {name for group in GROUPS.values() for name in group.model_fields}
    shown = [(name, schema) for group in offered().values() for name, schema in group.items()]
    assert set(MAIN) <= {name for name, _ in shown}
    for name, schema in shown:
        label, hint = label_of(name), hint_of(name, schema["description"])
        assert label[0].isupper(), label
        assert "_" not in label
        assert hint.endswith(f" · {name}"), hint
        assert hint[0].isupper() or not hint[0].isalpha(), hint
    assert all(title[0].isupper() for title in offered())
    assert "3 to 10 is usual" in hint_of("guidance_scale")
    assert "mask_label" in every
    assert "mask_label" not in dict(shown)


def test_messages_call_options_what_the_page_calls_them() -> None:
    shown = {name for group in offered().values() for name in group}
    for name in sorted(shown | {"prompt", "negative_prompt", "preset"}):
        with pytest.raises(InputError) as refused:
            Settings.of({"prompt": ["a stone"], "source": "a.png", name: {"no": "such value"}})
        assert in_page_words(str(refused.value)).startswith(f"“{label_of(name)}” is "), name


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (
            "negative_prompt has no effect at guidance_scale 1; give a larger one",
            "“What it should not show” has no effect at “Follow the text” 1; give a larger one",
        ),
        ("give a smaller --size", "give a smaller “Working size”"),
        ("give --frames 1", "give “Frames” 1"),
        ("fewer frames or steps, or a smaller size", "fewer frames or steps, or a smaller size"),
        ("prompt has 4 lines", "“What the result should show” has 4 lines"),
        ("give a prompt that says it", "give a prompt that says it"),
        ("(pnpvideo words lists all)", "(“What the model knows” lists all)"),
        ("(pnpvideo words --model 'a b' lists all)", "(“What the model knows” lists all)"),
    ],
)
def test_messages_of_the_command_line_in_the_page_s_words(message: str, said: str) -> None:
    assert in_page_words(message) == said


def test_runs_with_the_same_text_are_told_apart(models: Models, tmp_path: Path) -> None:
    store = JobStore(tmp_path / "jobs")
    picture = tmp_path / "a.png"
    Image.new("RGB", (8, 8)).save(picture)
    texts = {"prompt": ["a stone"], "negative_prompt": []}
    mask = np.zeros((8, 8), np.uint8)
    for more, drawn, said in (
        ({}, None, "a stone"),
        ({"tau_f": 0.5, "preset": "draft"}, None, "a stone · Keep shapes: 0.5, Quality: draft"),
        ({"invert_mask": True}, mask, "a stone · painted part, Invert"),
        ({"mask_from_prompt": "dog"}, None, "a stone · Or name the part: dog"),
    ):
        job = store.add("translate", ME, "tiny", picture, texts | more, drawn)
        job = store.update(job, state="done")
        assert caption(job, ["tiny"]) == said
    assert caption(job, ["tiny", "large"]) == "a stone · tiny, Or name the part: dog"
    for moves, said in ((False, "what will be edited"), (True, "how the mask moves")):
        job = store.add("mask", ME, "tiny", picture, texts | {"mask_motion": moves}, mask)
        assert caption(job, ["tiny"]).startswith(f"Waiting: {said}")


def test_the_sheet_marks_the_present_thresholds(
    models: Models, picture: Path, tmp_path: Path
) -> None:
    assert cells_of(PnPOptions(tau_f=0.8, tau_a=0.5)) == CELLS
    present = 1.0, 0.25
    store = JobStore(tmp_path / "jobs")
    values = {"prompt": ["a stone"], "steps": 1, "tau_f": present[0], "tau_a": present[1]}
    store.add("thresholds", ME, models.names[0], picture, values)
    runner = Runner(store, models, LIMITS)
    wait_until(lambda: runner.is_idle, 30)
    runner.close()
    (job,) = store.all()
    cells, own = job_cells(job, models, LIMITS)
    assert own == present
    assert len(cells) == len(job.results) == len(CELLS) + 1, job.message
    edges = [np.asarray(Image.open(job.folder / name))[0] for name in job.results]
    flat = [np.ptp(edge, axis=0).max() == 0 for edge in edges]
    assert [cell for cell, is_flat in zip(cells, flat, strict=True) if is_flat] == [present]


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("old.avi", ("-c:v", "mpeg4")),
        ("deep.mkv", ("-c:v", "libx265", "-pix_fmt", "yuv420p10le", "-x265-params", "log-level=0")),
        ("odd.mov", ("-c:v", "prores_ks")),
    ],
)
def test_a_preview_of_any_clip_plays_in_browsers(
    models: Models, tmp_path: Path, name: str, made: tuple[str, ...]
) -> None:
    clip = make_video(tmp_path / name, *made, frames=3, size="50x32")
    store = JobStore(tmp_path / "jobs")
    runner = Runner(store, models, LIMITS)
    service = Service(
        store=store, runner=runner, models=models, limits=LIMITS, samples=[], previews=tmp_path
    )
    video = service.preview(clip)
    assert video is not None
    assert "Video: h264" in describe(video)
    assert "yuv420p" in describe(video)
    shown = read_clip(video)
    assert (len(shown), shown.width, shown.height) == (3, 50, 32)
    shown.close()
    assert service.preview(clip) == video
    Image.fromarray(smooth_frames(1, 48, 32)[0]).save(tmp_path / "still.png")
    assert service.preview(tmp_path / "still.png") is None
    assert service.preview(tmp_path / "nowhere.mp4") is None
    runner.close()


def test_an_about_file_that_cannot_be_read(tmp_path: Path) -> None:
    options = WebOptions.of({"about": str(tmp_path / "nowhere.md")})
    with pytest.raises(InputError, match=r"nowhere\.md cannot be read"), serving(options):
        pass
    with pytest.raises(InputError, match="title"):
        WebOptions.of({"title": ""})
