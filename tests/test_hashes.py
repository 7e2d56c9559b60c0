"""The files in hashes/ name the tested versions of all that is needed, each with its hashes."""

import re
import tomllib
from collections.abc import Iterable

import pytest

from tools.hashes import EXTRAS, FOLDER, ROOT, WEB, Requirements, parsed

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
WANTED = {
    "base": PROJECT["dependencies"],
    "extras": [one for name in EXTRAS for one in PROJECT["optional-dependencies"][name]],
}


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def listed(*names: str) -> Requirements:
    every: Requirements = {}
    for name in names:
        part = parsed((FOLDER / f"{name}.txt").read_text())
        assert not every.keys() & part.keys(), "pip refuses a package that is given twice"
        every |= part
    return every


def names_of(requirements: Iterable[str]) -> set[str]:
    found = (re.match(r"[\w.-]+", one) for one in requirements)
    return {plain(match[0]) for match in found if match}


@pytest.mark.parametrize("extra", WANTED)
def test_all_that_is_needed_has_hashes(extra: str) -> None:
    files = ("base", "torch") if extra == "base" else ("base", "torch", "extras")
    packages = listed(*files)
    assert names_of(WANTED[extra]) <= packages.keys()
    for name, lines in packages.items():
        assert re.fullmatch(rf"{name}==\S+( \\\n    --hash=sha256:[0-9a-f]{{64}})+\n", lines), name


@pytest.mark.parametrize("pins", [ROOT / "constraints.txt", WEB], ids=lambda path: path.name)
def test_the_versions_are_the_tested_ones(pins: object) -> None:
    packages = listed("base", "torch", "extras")
    versions = {name: lines.split()[0].partition("==")[2] for name, lines in packages.items()}
    lines = pins.read_text().splitlines()  # type: ignore[attr-defined]
    tested = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    tested = {plain(name): version for name, version in tested.items()}
    known = tested.keys() & versions.keys()
    assert {name: versions[name] for name in known} == {name: tested[name] for name in known}
    if pins == WEB:
        assert known == tested.keys()
