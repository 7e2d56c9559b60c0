"""Read many damaged media files, as the command does, and count the outcomes.

    python -m tools.fuzz_media --count 10000 --seed 1

Small files of every supported kind are made and damaged: flipped bits, cut ends, pieces that are
lost, repeated or taken from another file. Each is read to its end and written again in another
process, with limits of time and memory. It must be read, or refused with one line. A traceback, a
crash, a hang, other output or files that are left behind are failures, and the input is kept. The
same seed makes the same files.

    python -m tools.fuzz_media --kind tables --count 2000

--kind pictures and videos damage sources of that kind only; masks, tables, settings and jobs damage
what a run reads beside its source: masks, lists of jobs, settings files and job folders.
"""

import argparse
import json
import shutil
import sys
import time
from collections import Counter
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from pnpvideo.clips.silence import silenced
from tools.fuzz_media.inputs import READERS, lay_out
from tools.fuzz_media.mutate import mutate, mutate_text
from tools.fuzz_media.pictures import picture_seeds
from tools.fuzz_media.read_one import Case, Outcome
from tools.fuzz_media.videos import video_seeds
from tools.fuzz_media.worker import Worker

Seeds = dict[str, bytes]
_SOURCES = {
    "sources": (picture_seeds, video_seeds),
    "pictures": (picture_seeds,),
    "videos": (video_seeds,),
}
_FINE = ("read", "refused")
_ENDINGS = (".png", ".jpg", ".webp", ".tiff", ".bmp", ".gif", ".heic", ".avif", ".tga")


def main() -> int:
    """Run the command; the exit code is 1 if any file fails."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.fuzz_media",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--count", type=int, default=1000, help="how many files")
    parser.add_argument("--seed", type=int, default=0, help="seed of all random choices")
    parser.add_argument("--first", type=int, default=0, help="the number of the first file")
    parser.add_argument("--kind", choices=(*_SOURCES, *READERS), default="sources")
    parser.add_argument("--only", default="", help="damage only files whose name contains this")
    parser.add_argument("--seconds", type=float, default=60, help="the limit for one file")
    parser.add_argument(
        "--keep", type=Path, default=Path("fuzz-failures"), help="the folder for files that fail"
    )
    given = parser.parse_args()
    with silenced():  # Encoders print their settings.
        makers = _SOURCES.get(given.kind) or (READERS[given.kind][0],)
        seeds = {n: c for make in makers for n, c in make() if given.only in n}
    numbers = range(given.first, given.first + given.count)
    with TemporaryDirectory() as folder:
        kind = "sources" if given.kind in _SOURCES else given.kind
        return run(seeds, numbers, given.seed, given.seconds, given.keep, Path(folder), kind)


def run(
    seeds: Seeds,
    numbers: range,
    seed: int,
    seconds: float,
    keep: Path,
    folder: Path,
    kind: str = "sources",
) -> int:
    """Read the files of these numbers, print the outcomes, and return the exit code.

    kind: of input, "sources" or one of `READERS`.
    """
    began = time.monotonic()
    counts: Counter[str] = Counter()
    by_seed: dict[str, Counter[str]] = {name: Counter() for name in seeds}
    slowest = (0.0, "")
    results = folder / "results"
    results.mkdir()
    with Worker(results, seconds) as worker:
        _check_seeds(seeds, worker, folder, kind)
        for done, number in enumerate(numbers, start=1):
            case, name, how = (
                make_case(seeds, number, seed, folder)
                if kind == "sources"
                else make_input(seeds, number, seed, folder, kind)
            )
            started = time.monotonic()
            outcome = worker.read(case)
            slowest = max(slowest, (time.monotonic() - started, f"{number} {name}"))
            counts[outcome.kind] += 1
            by_seed[name][outcome.kind] += 1
            if outcome.kind not in _FINE:
                _keep(case, number, name, how, outcome, keep)
            _remove(case.source)
            if done % 500 == 0:
                print(f"{done} of {len(numbers)}: {_counts_text(counts)}", flush=True)
    for name, its in by_seed.items():
        print(f"  {name}: {_counts_text(its)}")
    print(f"the slowest: {slowest[1]}, {slowest[0]:.1f} s")
    print(f"{len(numbers)} files of {len(seeds)} kinds, seed {seed}: {_counts_text(counts)}")
    print(f"in {time.monotonic() - began:.0f} s")
    return int(any(kind not in _FINE for kind in counts))


def make_case(seeds: Seeds, number: int, seed: int, folder: Path) -> tuple[Case, str, str]:
    """Return the damaged file of a number, its original's name and a description of the damage."""
    random = Random(f"{seed} {number}")
    name = random.choice(list(seeds))
    content, how = mutate(seeds[name], seeds[random.choice(list(seeds))], random)
    options: dict[str, object] = {}
    if random.random() < 0.3:
        options["allow_truncated"] = True
    if random.random() < 0.2:
        options["keep_alpha"] = True
    if random.random() < 0.2:
        options |= {"start": 1, "stride": 2}
    if random.random() < 0.1:
        options["sound"] = "all"
    source = folder / f"{number}-{name}"
    if name.endswith(_ENDINGS) and random.random() < 0.1:  # One of several frames.
        source = folder / f"{number}-frames"
        source.mkdir()
        suffix = Path(name).suffix
        for frame in range(3):
            (source / f"{frame}{suffix}").write_bytes(content if frame == 1 else seeds[name])
    else:
        source.write_bytes(content)
    return Case(source=source, options=options), name, how


def make_input(
    seeds: Seeds, number: int, seed: int, folder: Path, kind: str
) -> tuple[Case, str, str]:
    """Return the case of a number whose damaged file is an input of a kind (see `make_case`)."""
    random = Random(f"{seed} {number} {kind}")
    name = random.choice(list(seeds))
    is_text = kind in ("tables", "settings") or name.endswith(".log")
    change = mutate_text if is_text else mutate
    content, how = change(seeds[name], seeds[random.choice(list(seeds))], random)
    source = folder / f"{number}-{kind}"
    lay_out(kind, name, content, source, seeds)
    return Case(source=source, options={}, kind=kind, name=name), name, how


def _check_seeds(seeds: Seeds, worker: Worker, folder: Path, kind: str) -> None:
    """Check that all undamaged files are read, except those without pictures."""
    for name, content in seeds.items():
        path = folder / name
        if kind == "sources":
            path.write_bytes(content)
        else:
            lay_out(kind, name, content, path, seeds)
        outcome = worker.read(Case(source=path, options={}, kind=kind, name=name))
        _remove(path)
        expected = "refused" if name.startswith("sound.") else "read"
        if outcome.kind != expected:
            sys.exit(f"{name} is undamaged, but gave: {outcome}")


def _keep(case: Case, number: int, name: str, how: str, outcome: Outcome, keep: Path) -> None:
    keep.mkdir(parents=True, exist_ok=True)
    kept = keep / case.source.name
    _remove(kept)
    if case.source.is_dir():
        shutil.copytree(case.source, kept)
    else:
        shutil.copy(case.source, kept)
    what = {"number": number, "was": name, "damage": how, "options": case.options}
    what |= {"outcome": outcome.kind, "message": outcome.message}
    (keep / f"{case.source.name}.json").write_text(json.dumps(what, indent=1) + "\n")
    print(f"{outcome.kind}: {kept} ({how}): {_last_line(outcome.message)}", flush=True)


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or [""])[-1][:300]


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _counts_text(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in counts.most_common()) or "none"


if __name__ == "__main__":
    sys.exit(main())
