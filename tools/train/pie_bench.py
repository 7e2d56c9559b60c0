"""A set like PIE-Bench made from the world, with all its edit types, and other methods' results.

    python -m tools.train.pie_bench make --out results/world --count 100
    python -m tools.train.pie_bench translate --data results/world --methods ddim generation
    pnpvideo evaluate pie-bench results/world -o results/pie --theirs truth=results/world/truth ...

`make` writes the set in PIE-Bench's format, and the true translations as a method's results in
OUT/truth. `translate` adds a folder beside it for each other method on the same model.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from pnpvideo.evaluation.items import Item, ReadRequest
from pnpvideo.evaluation.readers import pie_bench
from pnpvideo.evaluation.readers.pie_bench import EDIT_TYPES, IMAGES
from pnpvideo.pipelines.stable_diffusion import PnPVideoPipeline
from tools.train.appearance import Pixels
from tools.train.artwork import SMALL
from tools.train.captions import full_caption
from tools.train.evaluate_drawings import read_drawing
from tools.train.layout import Scene
from tools.train.pool import run_jobs
from tools.train.scenes import object_masks, random_scene, render
from tools.train.tasks import EDITS, GOAL, HELD_OUT, World, make_example, open_world
from tools.train.translators import METHODS, Translator, side_of

SIDE = 512
_SPREAD = 25  # pixels around changed things, for shadows
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Edit:
    """A scene and its true edit, each in its style."""

    source: Scene
    style: str
    target: Scene
    target_style: str = GOAL


def make_edit(world: World, kind: str, index: int) -> Edit:
    """Return held-out edit `index` of one of PIE-Bench's types.

    The world has no words for poses, so the light changes instead. "Content" edits change the thing
    behind the first.
    """
    tasks = {"1": "class", "5": "light", "6": "colour", "7": "material", "8": "ground"}
    if kind == "0":
        tasks["0"] = EDITS[index % len(EDITS)]
    if kind in tasks:
        example = make_example(world, tasks[kind], index)
        return Edit(source=example.source, style=example.style, target=example.target)
    generator = np.random.default_rng(HELD_OUT + index)
    scene = random_scene(generator, world.known)
    if kind == "9":
        drawn = ("line drawing", "cartoon")[index % 2]
        return Edit(source=scene, style=drawn, target=scene)
    while len(scene.objects) < 2:
        scene = random_scene(generator, world.known)
    fewer = replace(scene, objects=scene.objects[:-1])
    if kind == "2":
        return Edit(source=fewer, style=GOAL, target=scene)
    if kind == "3":
        return Edit(source=scene, style=GOAL, target=fewer)
    first = scene.objects[0]
    alike = world.alike[first.name]
    other = replace(first, name=alike[int(generator.integers(len(alike)))])
    return Edit(
        source=scene, style=GOAL, target=replace(scene, objects=(other, *scene.objects[1:]))
    )


def edited_part(world: World, edit: Edit) -> Mask:
    """Return the mask of the edited part (SIDE, SIDE).

    It covers changed things and their surroundings; the ground if it changes; everything if style
    or light change.
    """
    before, after = edit.source, edit.target
    if edit.style != edit.target_style or before.light != after.light:
        return np.ones((SIDE, SIDE), bool)

    def area(scene: Scene, names: Callable[[Scene], list[bool]]) -> Mask:
        if not scene.objects:
            return np.zeros((SIDE, SIDE), bool)
        masks = object_masks(scene, world.artwork, size=SIDE) > 0.5
        return np.asarray(masks[names(scene)].any(0))

    if before.ground != after.ground:
        return ~area(before, lambda scene: [True] * len(scene.objects))
    both = set(before.objects) & set(after.objects)
    changed = [
        area(scene, lambda scene: [thing not in both for thing in scene.objects])
        for scene in (before, after)
    ]
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * _SPREAD + 1,) * 2)
    return np.asarray(cv2.dilate((changed[0] | changed[1]).astype(np.uint8), kernel), bool)


def run_lengths(mask: Mask) -> list[int]:
    """Return start, length, start, length, ... of True pixels, row by row."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.ravel().astype(np.int8), [0]])))
    return [
        int(number)
        for start, stop in zip(edges[::2], edges[1::2], strict=True)
        for number in (start, stop - start)
    ]


def make_set(world: World, out: Path, count: int) -> None:
    """Write `count` edits, the types in turn, and their true translations."""
    mapping = {}
    for number in range(count):
        kind = list(EDIT_TYPES)[number % len(EDIT_TYPES)]
        edit = make_edit(world, kind, number)
        name = f"{kind}{number:011d}"
        inside = f"{kind}_{EDIT_TYPES[kind].replace(' ', '_')}/{name}.png"
        _save(render(edit.source, edit.style, world.artwork, size=SIDE), out / IMAGES / inside)
        true = render(edit.target, edit.target_style, world.artwork, size=SIDE)
        _save(true, out / "truth" / IMAGES / inside)
        mapping[name] = {
            "image_path": inside,
            "original_prompt": full_caption(edit.source, edit.style),
            "editing_prompt": full_caption(edit.target, edit.target_style),
            "editing_instruction": "",
            "editing_type_id": kind,
            "blended_word": "",
            "mask": run_lengths(edited_part(world, edit)),
        }
    (out / "mapping_file.json").write_text(json.dumps(mapping, indent=1), encoding="utf-8")


def _save(picture: Pixels, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((255 * picture).round().astype(np.uint8)).save(path)


@dataclass(frozen=True, kw_only=True)
class Job:
    item: Item
    methods: Sequence[str]
    steps: int | None
    out: Path


def work(pipeline: PnPVideoPipeline, job: Job) -> None:
    assert job.item.source is not None
    source = read_drawing(job.item.source, side_of(pipeline))
    translator = Translator(pipeline, source, steps=job.steps)
    for method in job.methods:
        picture = translator.translate([job.item.prompt], method, seed=0)[0]
        large = cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC).clip(0, 1)
        _save(large, job.out / method.replace(" ", "-") / f"{job.item.result}.png")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True, dest="command")
    make = commands.add_parser("make", help="the set and its true translations")
    make.add_argument("--out", type=Path, required=True)
    make.add_argument("--count", type=int, default=100)
    make.add_argument("--artwork", type=Path, default=SMALL, help="folder of things")
    translate = commands.add_parser("translate", help="what other methods make of it")
    translate.add_argument("--data", type=Path, required=True, help="folder that `make` wrote")
    translate.add_argument("--model", default="embedded")
    others = [method for method in METHODS if method not in ("truth", "pnp")]
    translate.add_argument("--methods", nargs="+", choices=others, default=others)
    translate.add_argument("--steps", type=int, help="the model's own by default")
    translate.add_argument("--processes", type=int, help="one for each CPU core by default")
    given = parser.parse_args()
    if given.command == "make":
        make_set(open_world(given.artwork), given.out, given.count)
        return
    items = pie_bench.read(given.data, ReadRequest(unpacked=given.data)).items
    jobs = [
        Job(item=item, methods=given.methods, steps=given.steps, out=given.data) for item in items
    ]
    run_jobs(work, jobs, given.model, given.processes)


if __name__ == "__main__":
    main()
