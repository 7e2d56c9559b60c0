"""The artwork: its line drawings keep every path, and its three forms lie on each other."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tools.train.artwork import (
    DRAWN,
    LAYER,
    SMALL,
    Artwork,
    Layer,
    draw_layer,
    file_name,
    line_art,
    look_alikes,
    overlap,
)
from tools.train.get_artwork import write

PATHS = re.compile(r'\s(?:d|points)="([^"]*)"')
SHAPES = re.compile(r"<(?:path|circle|ellipse|rect|polygon|line|polyline)\b")


@pytest.fixture(scope="module")
def artwork() -> Artwork:
    return Artwork()


def test_the_committed_part_is_small_and_has_its_licence() -> None:
    licence = (SMALL / "LICENSE").read_text()
    assert "Fluent Emoji by Microsoft Corporation" in licence
    assert "MIT License" in licence
    assert "Copyright (c) Microsoft Corporation" in licence
    artwork = Artwork()
    assert len(artwork.names()) == 40
    held_out, known = artwork.names(held_out=True), artwork.names(held_out=False)
    assert len(held_out) >= 10
    assert set(held_out) | set(known) == set(artwork.names())
    files = {path.stem for path in (SMALL / "renders").iterdir()}
    assert files == {file_name(name) for name in artwork.names()}
    assert sum(path.stat().st_size for path in SMALL.rglob("*.*")) < 1_000_000


def test_line_art_keeps_every_path_and_no_paint(artwork: Artwork) -> None:
    for thing in artwork.things.values():
        drawn = line_art(thing.body)
        visible = re.sub(
            r"<(linearGradient|radialGradient|filter|defs|mask|clipPath)\b.*?</\1>",
            "",
            thing.body,
            flags=re.DOTALL,
        )
        assert PATHS.findall(drawn) == PATHS.findall(visible)
        assert len(SHAPES.findall(drawn)) == len(SHAPES.findall(visible)) > 0
        assert drawn.count('stroke-width="0.7"') == len(SHAPES.findall(drawn))
        assert "url(#" not in drawn
        elements = re.findall(SHAPES.pattern + r"[^>]*>", drawn)
        fills = {fill for element in elements for fill in re.findall(r'\sfill="([^"]*)"', element)}
        assert fills <= {"#fff", "none"}


def test_open_lines_are_not_filled() -> None:
    body = '<path fill="none" stroke="#123" stroke-width="2" opacity=".5" d="M0 0L5 5"/>'
    (element,) = re.findall(r"<path[^>]*>", line_art(body, width=1.5))
    assert 'fill="none"' in element
    assert 'stroke-width="1.5"' in element
    assert "#123" not in element
    assert "opacity" not in element
    assert element.endswith("/>")


@pytest.mark.parametrize("style", DRAWN)
def test_layers_are_multiplied_by_their_opacity(artwork: Artwork, style: str) -> None:
    for name in artwork.names()[::4]:
        layer = artwork.layer(name, style)
        assert layer.shape == (LAYER, LAYER, 4)
        assert layer.dtype == np.uint8
        opacity = layer[..., 3]
        assert (layer[..., :3] <= opacity[..., None]).all()
        assert (opacity == 255).any()
        # The margin of one unit, but for a stroke's half width and soft edges.
        assert opacity[0].max() == opacity[-1].max() == opacity[:, 0].max() == 0


def test_a_render_is_its_file_on_the_square_of_the_svg(artwork: Artwork) -> None:
    thing = artwork.things["fox"]
    with Image.open(thing.render) as image:
        large = np.asarray(image.convert("RGBA"))
    rows, columns = np.nonzero(large[..., 3] > 127)
    mine, also = np.nonzero(artwork.layer("fox", "3D render")[..., 3] > 127)
    for theirs, ours in ((rows, mine), (columns, also)):
        for end in (np.min, np.max):
            place = (end(theirs) + 0.5) / len(large) * 32 + 1
            assert (end(ours) + 0.5) / LAYER * 34 == pytest.approx(place, abs=0.2)


def test_the_three_forms_lie_on_each_other(artwork: Artwork) -> None:
    for name in artwork.names():
        line, cartoon, render = (artwork.layer(name, style) for style in DRAWN)
        assert overlap(line, cartoon) > 0.85
        assert overlap(cartoon, render) >= 0.8


def test_overlap() -> None:
    one = np.zeros((LAYER, LAYER, 4), np.uint8)
    other = one.copy()
    one[:100, ..., 3], other[50:150, ..., 3] = 255, 255
    assert overlap(one, other) == pytest.approx(50 / 150)
    assert overlap(one, one) == 1


def test_kept_layers_are_those_that_are_drawn(tmp_path: Path) -> None:
    write([Artwork().things[name] for name in ("fox", "tulip")], tmp_path / "artwork")
    drawn, kept = Artwork(tmp_path / "artwork"), Artwork(tmp_path / "artwork")

    def layers(artwork: Artwork) -> list[Layer]:
        return [artwork.layer(name, style) for name in artwork.things for style in DRAWN]

    for _ in range(2):  # Made, and then read.
        kept.keep_layers(tmp_path / "layers.npy")
        for one, other in zip(layers(drawn), layers(kept), strict=True):
            np.testing.assert_array_equal(one, other)
    assert {path.name for path in tmp_path.iterdir()} == {"artwork", "layers.npy"}


def test_look_alikes_are_those_with_the_greatest_overlap(artwork: Artwork) -> None:
    names = artwork.names()[:12]
    found = look_alikes(artwork, names, 3)
    for name in names:
        mine = artwork.outline(name)
        shares = {
            other: (mine & artwork.outline(other)).sum() / (mine | artwork.outline(other)).sum()
            for other in names
            if other != name
        }
        assert list(found[name]) == sorted(shares, key=lambda n: -shares[n])[:3]


def test_an_outline_is_what_the_cartoon_covers(artwork: Artwork) -> None:
    opacity = draw_layer(artwork.things["pear"], "cartoon")[..., 3].astype(float)
    share = opacity.reshape(32, 8, 32, 8).mean((1, 3)) / 255
    outline = artwork.outline("pear")
    assert outline[share > 0.95].all()
    assert not outline[share < 0.05].any()
