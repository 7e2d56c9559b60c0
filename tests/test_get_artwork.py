"""Fetching the artwork: what is left out, what is aligned, and a clear word without npm."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from PIL import Image, ImageOps

from tools.train.artwork import Artwork
from tools.train.get_artwork import (
    KNOWN,
    LEFT_OUT,
    SMALL,
    designs,
    hold_out,
    suitable,
    taught,
    write,
)

ROOT = Path(__file__).parents[1]


def test_without_npm_it_says_what_to_do(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tools.train.get_artwork", str(tmp_path / "artwork")]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        env={"PATH": str(tmp_path), "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("npm was not found; install Node.js")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "artwork").exists()


def test_a_folder_is_read_as_it_was_written(tmp_path: Path) -> None:
    things = [thing for thing in Artwork().things.values() if thing.name in ("fox", "hot dog")]
    write(things, tmp_path)
    again = Artwork(tmp_path)
    assert list(again.names()) == [thing.name for thing in things]
    assert again.names(held_out=True) == ("hot dog",)
    for thing in things:
        mine = again.things[thing.name]
        assert mine == replace(thing, render=mine.render)
        assert mine.render.read_bytes() == thing.render.read_bytes()
    assert "Microsoft" in (tmp_path / "LICENSE").read_text()


def test_doubles_and_what_is_not_aligned_are_left_out(tmp_path: Path) -> None:
    fox, rocket = (Artwork().things[name] for name in ("fox", "rocket"))
    turned = tmp_path / "turned.webp"
    with Image.open(rocket.render) as image:
        ImageOps.mirror(image).save(turned)
    double = replace(fox, name="another fox")
    assert suitable([fox, double, rocket, replace(rocket, render=turned)]) == [fox, rocket]
    assert suitable([replace(rocket, render=turned), fox]) == [fox]


def test_designs_are_those_that_exist_in_both_forms(tmp_path: Path) -> None:
    flat, renders = tmp_path / "flat", tmp_path / "renders"
    (renders / "assets").mkdir(parents=True)
    flat.mkdir()
    body = {"body": "<path/>"}
    names = ("hot-dog", "taxi", "robot", "grinning-face", "pear", "anchor")
    (flat / "icons.json").write_text(json.dumps({"icons": dict.fromkeys(names, body)}))
    codes = {str(number): name for number, name in enumerate(names)}
    codes = {f"{code}-fe0f" if code == "0" else code: name for code, name in codes.items()}
    (flat / "chars.json").write_text(json.dumps(codes))
    categories = {
        "Food & Drink": ["hot-dog", "pear"],
        "Travel & Places": ["taxi", "anchor"],
        "Smileys": ["robot", "grinning-face"],
    }
    (flat / "metadata.json").write_text(json.dumps({"categories": categories}))
    for code in ("0-fe0f", "1", "2", "3", "4"):
        (renders / "assets" / f"{code}.webp").touch()
    found = {thing.name: thing for thing in designs(flat, renders)}
    # A taxi has letters, a face is no thing, and there is no render of an anchor.
    assert set(found) == {"hot dog", "pear", "robot"}
    assert found["hot dog"].render.name == "0-fe0f.webp"
    assert found["hot dog"].category == "Food & Drink"
    assert LEFT_OUT.search("taxi")


def test_the_same_sixty_are_held_out() -> None:
    fox = Artwork().things["fox"]
    things = [replace(fox, name=str(number)) for number in range(100)]
    held = {thing.name for thing in hold_out(things) if thing.held_out}
    assert len(held) == 60
    assert held == {thing.name for thing in hold_out(things) if thing.held_out}


def test_the_committed_part_is_the_one_that_is_named() -> None:
    assert set(Artwork().names()) == set(SMALL)


def test_training_sees_the_listed_things_and_the_held_out_ones_stay() -> None:
    things = Artwork().things.values()
    assert {thing.name for thing in things if not thing.held_out} <= KNOWN
    assert KNOWN.isdisjoint(thing.name for thing in things if thing.held_out)
    left_out = replace(Artwork().things["fox"], name="trolleybus")
    assert taught([*things, left_out]) == list(things)
    assert len(KNOWN) == 280
