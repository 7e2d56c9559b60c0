"""Fetch Microsoft's Fluent Emoji (MIT licence) and keep the things that scenes can use.

    python -m tools.train.get_artwork WORK/artwork

Two npm packages have the designs as flat vector art and as 3D renders. Things are kept if their two
forms are aligned, without letters, flags, scenes in frames and near duplicates. Some of these,
chosen at random, are held out of training, and training sees those in `known_things.txt`.
`--small FOLDER` also writes the small part that the repository has.

The list was made by hand: things that people name in a prompt and recognise in a thumbnail, and one
from each group of similar things ("train" and "tram", "hut" and "house"). With half as many things,
each is seen twice as often.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np

from tools.train.artwork import Thing, draw_layer, file_name, overlap

FLAT = "@iconify-json/fluent-emoji-flat@1.2.6"
RENDERS = "@lobehub/fluent-emoji-3d@1.1.0"
CATEGORIES = ("Animals & Nature", "Food & Drink", "Activities", "Travel & Places", "Objects")
OTHERS = ("robot", "ghost", "skull", "alien", "bomb", "heart-decoration")
"""Things from other categories."""
LEFT_OUT = re.compile(
    # Letters and digits.
    r"oclock|thirty|medal|banknote|convenience-store|^hotel|love-hotel|post-office|bus-stop|calendar"
    r"|mahjong|joker|slot-machine|pool-8|card$|identification|map|e-mail|chart|money|red-envelope"
    r"|musical-score|notes$|hospital|taxi|pager|banknotes|postbox|x-ray|fax|kaaba|hamsa|synagogue"
    # Pictures in frames, and flags.
    r"|cityscape|sunrise|sunset|at-night|with-stars|milky|motorway|national-park|railway-track|foggy"
    r"|fog|fireworks|sparkler|moon-viewing|shooting-star|desert$|elevator|station$|flag|mountain-rail"
    r"|framed|metro|paw-prints|film-frames|contr"
    # Variants of other things, and weapons.
    r"|mailbox|-book$|with-lock|locked-with|speaker|globe|moon-face|with-face|quarter|gibbous|waxing"
    r"|waning|low-battery|optical-disk|envelope-with|incoming|with-arrow|tilted-right|with-pen"
    r"|white-flower|guide-dog|service-dog|cigarette|bikini|briefs|swimsuit|coffin|pistol|microbe"
    r"|drop-of|file|folder|card-|page-|bookmark|notebook|tabs|ledger|with-rain|with-slash|cockroach"
)
ALIGNED = 0.80  # smallest overlap of the two forms
DOUBLE = 0.03  # largest mean difference of near duplicates
HELD_OUT = 60
KNOWN = frozenset(
    Path(__file__).with_name("known_things.txt").read_text(encoding="utf-8").splitlines()
)
"""Things that training sees."""
SMALL = (
    *(
        "fox",
        "rocket",
        "tulip",
        "sailboat",
        "house",
        "teapot",
        "mushroom",
        "strawberry",
        "cat face",
    ),
    *("butterfly", "turtle", "whale", "cactus", "snail", "horse", "pear", "cupcake", "automobile"),
    *("guitar", "trophy", "sunflower", "hot pepper", "frog", "castle"),
    *("owl", "elephant", "duck", "flamingo", "cat", "panda", "watermelon", "green apple"),
    *("hot dog", "ghost", "airplane", "backpack", "canoe", "locomotive", "bathtub", "telephone"),
)
"""Things in the small part, some of them held out of training."""
NOTICE = """The artwork in this folder is from Fluent Emoji by Microsoft Corporation
(https://github.com/microsoft/fluentui-emoji), taken from the npm packages
@iconify-json/fluent-emoji-flat and @lobehub/fluent-emoji-3d.

MIT License

Copyright (c) Microsoft Corporation.

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and
associated documentation files (the "Software"), to deal in the Software without restriction,
including without limitation the rights to use, copy, modify, merge, publish, distribute,
sublicense, and/or sell copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial
portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT
NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND
NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES
OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN
CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
"""


def fetch(package: str, folder: Path) -> Path:
    """Download and unpack an npm package; return the folder with its files."""
    npm = shutil.which("npm")
    if npm is None:
        sys.exit(
            "npm was not found; install Node.js (which brings it) from https://nodejs.org or your"
            " system's packages, then run this again"
        )
    packed = subprocess.run(
        [npm, "pack", "--silent", "--pack-destination", str(folder), package],
        capture_output=True,
        text=True,
    )
    if packed.returncode:
        sys.exit(f"npm could not fetch {package}: {packed.stderr.strip().splitlines()[-1:]}")
    archive = folder / packed.stdout.strip().splitlines()[-1]
    target = folder / archive.stem
    with tarfile.open(archive) as file:
        file.extractall(target, filter="data")
    return target / "package"


def designs(flat: Path, renders: Path) -> Iterator[Thing]:
    """Yield the things of the categories that exist in both forms."""
    icons = json.loads((flat / "icons.json").read_text("utf-8"))["icons"]
    codes = {name: code for code, name in json.loads((flat / "chars.json").read_text()).items()}
    categories = json.loads((flat / "metadata.json").read_text())["categories"]
    for category, names in categories.items():
        for name in names:
            if name not in OTHERS and (category not in CATEGORIES or LEFT_OUT.search(name)):
                continue
            code = codes.get(name, "").removesuffix("-fe0f")
            files = [renders / "assets" / f"{code}{end}.webp" for end in ("", "-fe0f")]
            found = [file for file in files if file.exists()]
            if name in icons and found:
                yield Thing(
                    name=name.replace("-", " "),
                    body=icons[name]["body"],
                    render=found[0],
                    category=category,
                    held_out=False,
                )


def suitable(things: Iterable[Thing]) -> list[Thing]:
    """Return the things that are aligned and not near duplicates of earlier ones."""
    kept: list[Thing] = []
    seen: list[np.ndarray] = []
    for thing in things:
        cartoon = draw_layer(thing, "cartoon")
        small = cv2.resize(cartoon, (24, 24), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
        doubled = any(float(np.abs(small - other).mean()) < DOUBLE for other in seen)
        if not doubled and overlap(cartoon, draw_layer(thing, "3D render")) >= ALIGNED:
            kept.append(thing)
            seen.append(small)
    return kept


def hold_out(things: list[Thing]) -> list[Thing]:
    chosen = set(random.Random(0).sample([thing.name for thing in things], HELD_OUT))
    return [replace(thing, held_out=thing.name in chosen) for thing in things]


def taught(things: Iterable[Thing]) -> list[Thing]:
    """Return the things that are held out and those that training sees."""
    return [thing for thing in things if thing.held_out or thing.name in KNOWN]


def write(things: Iterable[Thing], folder: Path) -> None:
    """Write a folder of artwork, as `Artwork` reads it."""
    (folder / "renders").mkdir(parents=True, exist_ok=True)
    entries = {}
    for thing in things:
        shutil.copyfile(thing.render, folder / "renders" / f"{file_name(thing.name)}.webp")
        entries[thing.name] = {
            "body": thing.body,
            "category": thing.category,
            "held_out": thing.held_out,
        }
    (folder / "things.json").write_text(json.dumps(entries, indent=1, ensure_ascii=False), "utf-8")
    (folder / "LICENSE").write_text(NOTICE)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--small", type=Path, help="folder of the small part")
    arguments = parser.parse_args()
    with TemporaryDirectory() as name:
        flat, renders = (fetch(package, Path(name)) for package in (FLAT, RENDERS))
        things = taught(hold_out(suitable(designs(flat, renders))))
        write(things, arguments.folder)
        if arguments.small:
            write([thing for thing in things if thing.name in SMALL], arguments.small)
    print(f"{len(things)} things, {HELD_OUT} of them held out of training")


if __name__ == "__main__":
    main()
