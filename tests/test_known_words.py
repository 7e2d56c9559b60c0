"""The words that a model knows, those of a prompt that it does not, and where that is reported."""

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import SHORT, Cli, assert_refused
from models import TOKENIZER
from PIL import Image

from pnpvideo import PnPVideoPipeline
from pnpvideo.batch.run_batch import plan_batch, warn_of_words
from pnpvideo.catalogue.known_words import KnownWords, read_known_words, words_of_model
from pnpvideo.catalogue.pictures import picture_of
from pnpvideo.catalogue.unknown_words import nearest_words, notice_of_unknown, unknown_words
from pnpvideo.cli import main
from pnpvideo.errors import InputError
from pnpvideo.options.batch import BatchOptions

CONTENT: dict[str, Any] = {
    "draws": "draws shapes, not photos",
    "otherwise": "for photos, use --model big",
    "makes_sources": False,
    "words": {
        "things": [["wolf"], ["polar bear"], ["cherries"], ["glasses"], ["t shirt"], ["women"]],
        "looks": [["golden", "gold"], ["blue"]],
        "grounds": [["white background", "on white"], ["meadow", "grass"]],
        "styles": [["3D render"]],
    },
    "near": {"dog": ["wolf"], "wood": ["golden"]},
}


def write(folder: Path, **changes: object) -> Path:
    (folder / "words.json").write_text(json.dumps(CONTENT | changes))
    return folder


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> KnownWords:
    found = read_known_words(write(tmp_path_factory.mktemp("words")))
    assert found is not None
    return found


@pytest.fixture(scope="module")
def embedded() -> KnownWords:
    found = words_of_model("embedded")
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("text", "unknown"),
    [
        ("", ""),
        ("a 3d Render of the WOLF with a polar bear, on grass", ""),
        ("a golden wolf made of gold, next to its meadow", ""),
        ("wolves and polar bears, a cherry; a woman in t-shirts", ""),
        ("the wolf's meadow", ""),
        ("a wolf on a white background", ""),
        ("a wolf on white", ""),
        ("a white wolf", "white"),
        ("a bear, polar", "bear polar"),
        ("render of 3 wolves", "render"),
        ("a glass of cherries, his glasses", "glass"),
        ("(wolf:1.3), ((golden)) [blue] BREAK meadow AND gold", ""),
        ("<lora:style:0.8> embedding:x.pt wolf <toy> __colour__", ""),
        ("Zebra zebra ZEBRAS", "Zebra"),
        ("a photo of a caf\u00e9, \u72d0\u72f8", "photo caf\u00e9 \u72d0\u72f8"),
        ("wolfish wolfs bus", "wolfish bus"),
        ("1.5 2024 -- !?", ""),
    ],
)
def test_unknown_words(text: str, unknown: str, known: KnownWords) -> None:
    assert [one.word for one in unknown_words(text, known)] == unknown.split()


@pytest.mark.parametrize(
    ("word", "nearest"),
    [
        ("dog", ["wolf"]),
        ("dogs", ["wolf"]),
        ("woods", ["golden"]),
        ("bear", ["polar bear"]),
        ("Bears", ["polar bear"]),
        ("background", ["white background"]),
        ("meadov", ["meadow"]),
        ("bearr", ["polar bear"]),
        ("gras", ["meadow"]),
        ("qwertz", []),
    ],
)
def test_nearest_words(word: str, nearest: list[str], known: KnownWords) -> None:
    assert list(nearest_words(word, known)) == nearest


@pytest.mark.parametrize(
    ("nearest", "words"),
    [
        ("fox", "foxx"),
        ("meadow", "gras medow"),
        ("rocket", "rockett rokcet"),
        ("teapot", "teapott"),
        ("guitar", "gitar"),
        ("purple", "purpel"),
        ("turquoise", "turqoise"),
        ("umbrella", "umbrela"),
        ("sunflower", "sunflour"),
        ("helicopter", "helicoptor"),
        ("snow", "snwo snowy"),
        ("fish", "goldfish"),
        # Other words that only look alike.
        ("", "groom broom root hair hear king coat cart hose drown handle mane sail hand pan"),
    ],
)
def test_a_word_that_looks_alike_is_not_a_mistyped_one(
    nearest: str, words: str, embedded: KnownWords
) -> None:
    found = {word: nearest_words(word, embedded, most=1) for word in words.split()}
    assert found == dict.fromkeys(words.split(), (nearest,) if nearest else ())


@pytest.mark.parametrize(("word", "nearest"), [("fishh", "fish"), ("horze", "horse")])
def test_a_whole_entry_is_nearer_than_a_part_of_another(
    word: str, nearest: str, embedded: KnownWords
) -> None:
    assert nearest_words(word, embedded)[0] == nearest


@pytest.mark.parametrize(
    ("word", "nearest"),
    [
        ("goldfish", "fish"),
        ("Blackbirds", "dove parrot"),
        ("cheesecake", "birthday cake shortcake"),
        ("houseboat", "sailboat motor boat"),  # Its end, not its beginning.
        ("watchdog", "dog"),  # Both parts are known.
        ("flowerbed", "tulip sunflower"),
        ("flowering", "tulip sunflower"),  # No ring.
        ("pinapple", "pineapple"),  # Mistyped, not an apple.
        ("watermelon", "melon"),  # From the list.
        ("catalogue", ""),
        ("catapult", ""),
        ("acrobat", ""),
        ("million", ""),
        ("content", ""),
        ("thing", ""),  # Like "hatching", but not nearly.
        ("velocity", ""),
        ("sheepish", ""),
    ],
)
def test_a_compound_word_is_near_its_parts(word: str, nearest: str, embedded: KnownWords) -> None:
    assert " ".join(nearest_words(word, embedded)) == nearest


def test_the_notice_is_one_short_line(known: KnownWords) -> None:
    def notice(*texts: str) -> str:
        return notice_of_unknown(texts, known) or ""

    end = "; it draws shapes, not photos: for photos, use --model big (pnpvideo words --model "
    assert notice("a wolf", "blue grass") == ""
    assert notice("a photo").startswith(f"the model does not know 'photo'{end}")
    assert notice("a dog", "a photo, a dog").startswith(
        f"the model knows neither 'dog' (nearest: wolf) nor 'photo'{end}"
    )
    assert notice("x1 y2 z3").startswith(f"the model does not know 'x1', 'y2' and 'z3'{end}")
    long = notice(" ".join(f"w{n}x" for n in range(40)))
    assert "and 34 more words;" in long
    assert len(long) < 400
    assert notice_of_unknown(["a photo"], None) is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"words": {"things": ["fox"]}}, "words.things.0"),
        ({"words": {"things": [[]]}}, "words.things.0"),
        ({"words": {"things": [[""]]}}, "words.things.0.0"),
        ({"makes_sources": "yes"}, "makes_sources"),
        ({"colour": 1}, "colour"),
        ({"sheet": {"file": "../a.jpg", "side": 8, "columns": 4}}, "sheet.file"),
        ({"sheet": {"file": "gone.jpg", "side": 8, "columns": 4}}, "gone.jpg is missing"),
        ({"sheet": {"file": "a.jpg", "side": 0, "columns": 4}}, "sheet.side"),
    ],
)
def test_a_list_that_cannot_be_used(
    changes: dict[str, object], message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"words\.json cannot be used") as refused:
        read_known_words(write(tmp_path, **changes))
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "\x00", "[" * 100_000, '"words"'])
def test_a_list_that_is_not_one(text: str, tmp_path: Path) -> None:
    (tmp_path / "words.json").write_text(text)
    with pytest.raises(InputError, match=r"words\.json cannot be used"):
        read_known_words(tmp_path)
    (tmp_path / "words.json").unlink()
    assert read_known_words(tmp_path) is None


def test_the_embedded_models_list(embedded: KnownWords) -> None:
    kinds = {kind: len(entries) for kind, entries in embedded.kinds.items()}
    assert kinds == {"things": 280, "looks": 16, "grounds": 17, "lights": 3, "styles": 4}
    for entry in embedded.entries:
        for text in entry.texts:
            assert notice_of_unknown([f"a {text}"], embedded) is None
    words = {entry.word for entry in embedded.entries}
    for word, nearest in embedded.near.items():
        assert unknown_words(word, embedded), word
        assert set(nearest) <= words, word
    assert not embedded.makes_sources


def test_every_entry_has_a_picture(embedded: KnownWords) -> None:
    assert embedded.sheet is not None
    assert embedded.sheet.stat().st_size < 300_000
    with Image.open(embedded.sheet) as sheet:
        for entry in embedded.entries:
            assert entry.box is not None
            assert entry.box[2] <= sheet.width
            assert entry.box[3] <= sheet.height
    fox = next(entry for entry in embedded.entries if entry.word == "fox")
    picture = picture_of(fox, embedded)
    assert picture is not None
    assert picture.size == (64, 64)
    red, _, blue = picture.resize((1, 1)).getpixel((0, 0))
    assert red > blue + 20  # A fox is orange.


def test_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    write(tmp_path)

    def words(*arguments: str) -> tuple[int, str, str]:
        return main(["words", *arguments, "--model", str(tmp_path)]), *capsys.readouterr()

    code, out, _ = words()
    assert code == 0
    assert out.startswith("things (6)\n  wolf, polar bear, cherries, glasses, t shirt, women\n")
    assert out.endswith("draws shapes, not photos: for photos, use --model big.\n")
    assert words("looks") == (0, "looks (2)\n  golden (gold), blue\n", "")
    assert words("Polar  ") == (0, "things (1)\n  polar bear\n", "")
    # Whole words first, and then what is near.
    write(tmp_path, words={"things": [["capped"], ["red cap"], ["hat"]]}, near={"cap": ["hat"]})
    assert words("cap")[1] == "things (2)\n  red cap, capped\nnear to 'cap': hat\n"
    write(tmp_path)
    assert_refused(words("dog"), 2, "the model knows nothing with 'dog'; the nearest are wolf")
    (tmp_path / "words.json").unlink()
    assert_refused(words(), 2, "does not list what it knows")


@pytest.fixture
def model(tiny_model: Path, tmp_path: Path) -> Path:
    """The tiny model with a list of words."""
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder, copy_function=lambda a, b: Path(b).symlink_to(a))
    return write(folder)


def test_a_run_names_unknown_words_first(model: Path, picture: Path, cli: Cli) -> None:
    given = (str(picture), "--prompt", "a blue photo", "--steps", "1", "-o", "out.png", "--json")
    code, out, err = cli(*given, model=str(model))
    assert code == 0
    assert err.count("the model does not know 'photo'") == 1
    events = [json.loads(line) for line in out.splitlines()]
    assert events[0]["event"] == "warning"
    assert events[0]["message"] in err
    assert events[0]["unknown_words"] == {"photo": []}
    assert events[-1]["event"] == "done"


@pytest.mark.parametrize(("prompt", "said"), [("a blue wolf", False), ("a blue photo", True)])
def test_only_a_notice_of_unknown_words_says_what_the_model_draws(
    prompt: str, said: bool, model: Path, picture: Path, caplog: Any
) -> None:
    caplog.set_level(logging.INFO, "pnpvideo")
    output = str(picture.with_name("out.png"))
    given = ("--prompt", prompt, "--steps", "1", "-o", output, "--model", str(model))
    assert main(["translate", str(picture), *given, "--quiet"]) == 0
    assert ("draws shapes, not photos" in caplog.text) == said


@pytest.mark.parametrize("reads_photos", [False, True])
@pytest.mark.parametrize("is_photo", [False, True])
def test_a_run_names_a_photo_that_the_model_cannot_use(
    reads_photos: bool, is_photo: bool, model: Path, tmp_path: Path, caplog: Any
) -> None:
    write(model, reads_photos=reads_photos)
    pixels = np.random.default_rng(0).integers(0, 256 if is_photo else 2, (64, 64, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "in.png")
    given = ("--prompt", "a blue wolf", *SHORT, "-o", str(tmp_path / "out.png"), "--quiet")
    assert main(["translate", str(tmp_path / "in.png"), *given, "--model", str(model)]) == 0
    said = "the source looks like a photo, and the model draws shapes, not photos: for photos, use"
    assert (said in caplog.text) == (is_photo and not reads_photos)


def test_models_without_a_list_are_not_asked(picture: Path, cli: Cli) -> None:
    result = cli(str(picture), "--prompt", "a blue photo", "--steps", "1", "-o", "out.png")
    assert (result[0], result[2]) == (0, "")


def test_a_source_from_words_is_for_models_that_can(model: Path, cli: Cli) -> None:
    given = ("--guidance-prompt", "a wolf", *SHORT, "-o", "out.png")
    assert_refused(cli(*given, model=str(model)), 2, "cannot make a source from words")
    write(model, makes_sources=True)
    assert cli(*given, model=str(model))[0] == 0


def test_pipelines(
    model: Path, tmp_path: Path, load: Callable[..., PnPVideoPipeline], caplog: Any
) -> None:
    caplog.set_level(logging.WARNING, "pnpvideo")
    pipeline = load(model)
    assert pipeline.known_words == read_known_words(model)
    picture = Image.new("RGB", (32, 32))
    pipeline("a blue photo", picture, negative_prompt="a smear", num_inference_steps=1)
    (notice,) = caplog.messages
    assert notice.startswith("the model knows neither 'photo' nor 'smear'")
    caplog.clear()
    pipeline("a blue wolf", guidance_prompt="a wolf", num_inference_steps=1)
    assert ["cannot make a source" in one for one in caplog.messages] == [True]
    pipeline.save_pretrained(tmp_path / "saved")
    assert (tmp_path / "saved" / "words.json").read_text() == (model / "words.json").read_text()
    pipeline.load_textual_inversion(_toy(pipeline), token="<toy>")
    assert pipeline.known_words is None


def _toy(pipeline: PnPVideoPipeline) -> dict[str, Any]:
    return {"<toy>": pipeline.text_encoder.get_input_embeddings().weight[0].detach().clone()}


def test_a_batch_names_them_once(model: Path, tmp_path: Path, picture: Path, caplog: Any) -> None:
    jobs = [
        {"source": picture.name, "prompt": text, "model": str(model), "output": f"{number}.png"}
        for number, text in enumerate(("a photo", "a wolf", "a photo of a smear"))
    ]
    (tmp_path / "jobs.jsonl").write_text("\n".join(map(json.dumps, jobs)))
    options = BatchOptions.of({"jobs": str(tmp_path / "jobs.jsonl"), "output": str(tmp_path / "o")})
    caplog.set_level(logging.WARNING, "pnpvideo")
    warn_of_words(plan_batch(options, {}, overwrite=False))
    (notice,) = caplog.messages
    assert notice.startswith("the model knows neither 'photo' nor 'smear'")


def test_the_tokenizer_has_every_word(embedded: KnownWords) -> None:
    vocabulary = json.loads((TOKENIZER / "vocab.json").read_text(encoding="utf-8"))
    for entry in embedded.entries:
        if entry.word != "grey background":  # Its other spelling is for people.
            for word in entry.word.lower().replace("3d", "3 d").split():
                assert f"{word}</w>" in vocabulary, entry.word
