"""Search for the images in a folder, or that match a pattern, to use as frames."""

import contextlib
import logging
import re
from collections import Counter
from difflib import get_close_matches
from pathlib import Path

from pnpvideo.errors import InputError

_log = logging.getLogger(__name__)

_SUFFIXES_OF_FORMAT = {
    "png": (".png", ".apng"),
    "jpg": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "webp": (".webp",),
    "tif": (".tif", ".tiff"),
    "bmp": (".bmp", ".dib"),
    "gif": (".gif",),
    "heic": (".heic", ".heif", ".hif"),
    "avif": (".avif",),
    "jp2": (".jp2", ".j2k", ".jpf", ".jpx"),
    "jxl": (".jxl",),
    "tga": (".tga",),
    "ppm": (".ppm", ".pgm", ".pbm", ".pnm"),
    "ico": (".ico",),
    "psd": (".psd",),
    "pcx": (".pcx",),
}
_FORMAT_OF = {suffix: kind for kind, suffixes in _SUFFIXES_OF_FORMAT.items() for suffix in suffixes}

VIDEO_SUFFIXES = (
    *(".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts"),
    *(".wmv", ".asf", ".flv", ".f4v", ".ogv", ".ogm", ".3gp", ".3g2", ".mjpeg", ".mjpg", ".mxf"),
    *(".vob", ".mpe", ".m1v", ".m2v", ".m2t", ".mod", ".tod", ".qt", ".divx", ".dv", ".rm"),
    ".rmvb",
    *(".y4m", ".nut", ".ivf", ".h264", ".264", ".hevc", ".265", ".obu", ".wtv", ".gxf"),
)

_NUMBER = re.compile(r"%0?(\d*)d")
_TYPO = 0.8
"""The similarity from which a name is a mistyped one."""
_WILDCARD = re.compile(r"%0?\d*d|[*?]")


def is_image_name(path: Path) -> bool:
    """Return whether a name has the suffix of an image."""
    return path.suffix.lower() in _FORMAT_OF


def is_video_name(path: Path) -> bool:
    """Return whether a name has the suffix of a video."""
    return path.suffix.lower() in VIDEO_SUFFIXES


def images_in(folder: Path) -> list[Path]:
    """Return all images of the format that is most frequent in a folder, in natural order.

    Log the files that are left out, except hidden ones. Raise InputError if there are no images,
    or equally many of two formats.
    """
    try:
        files = [p for p in folder.iterdir() if not p.name.startswith(".") and p.is_file()]
    except OSError as error:
        raise InputError(f"{folder} cannot be read: {error.strerror}") from None
    formats = Counter(_FORMAT_OF[p.suffix.lower()] for p in files if is_image_name(p))
    if not formats:
        other_files = _counted(Counter(p.suffix.lower().lstrip(".") or p.name for p in files))
        raise InputError(
            f"{folder} has no images to use as frames"
            f"{f', only {other_files}' if other_files else ''}"
        )
    (image_format, count), *others = _by_count(formats)
    if others and others[0][1] == count:
        raise InputError(
            f"{folder} holds images of several formats ({_counted(formats)}); name the frames with "
            f"a pattern, such as {folder}/*.{image_format}"
        )
    paths = [p for p in files if _FORMAT_OF.get(p.suffix.lower()) == image_format]
    left_out = Counter(p.suffix.lower().lstrip(".") or p.name for p in set(files) - set(paths))
    if left_out:
        _log.warning(
            "%s: reading its %d %s images, leaving out: %s",
            *(folder, count, image_format, _counted(left_out)),
        )
    return sorted(paths, key=natural)


def are_unrelated(paths: list[Path]) -> bool:
    """Return whether the names of images do not form a sequence, by numbers or a common beginning.

    1.png and 2.png, a.png and b.png, walk-left.png and walk-right.png may be frames; cat.png and
    dog.png are not.
    """
    stems = [path.stem.lower() for path in paths]
    is_numbered = any(letter.isdigit() for stem in stems for letter in stem)
    beginnings = {stem[:2] for stem in stems}
    return not is_numbered and min(map(len, stems)) > 2 and len(beginnings) > 1


def _counted(kinds: Counter[str]) -> str:
    """Return the counts of at most five kinds as text, such as "3 png, 1 txt"."""
    counts = [f"{count} {kind}" for kind, count in _by_count(kinds)[:5]]
    return ", ".join(counts + ["more"] * (len(kinds) > 5))


def _by_count(kinds: Counter[str]) -> list[tuple[str, int]]:
    return sorted(kinds.items(), key=lambda kind: (-kind[1], kind[0]))


def is_pattern(path: Path) -> bool:
    """Return whether a path names several files by numbers (%04d) or wildcards (* and ?)."""
    return _WILDCARD.search(str(path)) is not None


def check_there(source: str | Path) -> None:
    """Raise InputError for a source that does not exist: a file, a folder, or files of a pattern.

    Whatever else is wrong with its path is left to those who read it.
    """
    path = Path(source)
    with contextlib.suppress(OSError):
        if not path.exists():
            if not is_pattern(path):
                raise InputError(f"{path} does not exist{_nearest(path)}")
            images_like(path)


def _nearest(path: Path) -> str:
    """Return the end of a message about a missing file: the name beside it that may be meant.

    It has a similar name with the same ending, such as the same letters in another order, or the
    same name with another ending.
    """
    try:
        beside = sorted(one for one in path.parent.iterdir() if not one.name.startswith("."))
    except OSError:
        return ""
    alike = {one.stem: one.name for one in beside if one.suffix.lower() == path.suffix.lower()}
    found = [alike[stem] for stem in get_close_matches(path.stem, alike, n=1, cutoff=_TYPO)]
    found += [name for stem, name in alike.items() if sorted(stem) == sorted(path.stem)]
    named = [one.name for one in beside if one.stem.lower() == path.stem.lower()]
    found += get_close_matches(path.name, named, n=1, cutoff=0)
    return f"; did you mean {found[0]}?" if found else ""


def fixed_folder(pattern: Path) -> Path:
    """Return the part of a pattern before the first name with a number or wildcard."""
    parts = pattern.parts
    first = next((i for i, part in enumerate(parts) if _WILDCARD.search(part)), len(parts) - 1)
    return Path(*parts[:first])


def images_like(pattern: Path) -> list[Path]:
    """Return the files that match a pattern, in one folder or several, in natural order.

    Numbers need not start at 0 or 1, and may have gaps. Raise InputError if no file matches.
    """
    folder = fixed_folder(pattern)
    if not folder.is_dir():
        raise InputError(
            f"{folder} does not exist (looking for {pattern.relative_to(folder)} in it)"
        )
    below = pattern.relative_to(folder).as_posix()
    if _NUMBER.search(below):
        form = re.compile("".join(_expression(piece) for piece in _split(below)))
        # Brackets are literal in a numbered pattern, but a character class in a glob.
        glob = _plain_stars(_NUMBER.sub("*", re.sub(r"\[", "[[]", below)))
        paths = [p for p in folder.glob(glob) if form.fullmatch(p.relative_to(folder).as_posix())]
    else:
        paths = list(folder.glob(_plain_stars(below)))
    paths = [p for p in paths if p.is_file() and not _is_hidden(p.relative_to(folder))]
    if not paths:
        raise InputError(f"no file is named like {pattern}")
    return sorted(paths, key=natural)


def _plain_stars(pattern: str) -> str:
    """Return a pattern with * for ** within a name, where pathlib refuses it."""
    parts = pattern.split("/")
    return "/".join(part if part == "**" else re.sub(r"\*+", "*", part) for part in parts)


def _split(pattern: str) -> list[str]:
    return re.split(r"(%0?\d*d|\*|\?)", pattern)


def _expression(piece: str) -> str:
    number = _NUMBER.fullmatch(piece)
    if number is not None:
        # Names have at most 255 letters, and regular expressions a limit of their own.
        digits = int(number[1] or 1) if len(number[1]) < 4 else 999
        return rf"\d{{{digits},}}"
    return {"*": "[^/]*", "?": "[^/]"}.get(piece, re.escape(piece))


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def natural(path: Path) -> list[tuple[list[tuple[str, int]], str]]:
    """Return a sort key that puts frame2 before frame10: text as text and digits as numbers.

    The path is compared folder by folder; names that are then equal are compared as text.
    """
    key = []
    for part in path.parts:
        pieces = re.findall(r"(\D*)(\d*)", part.lower())
        key.append(([(text, int(digits or -1)) for text, digits in pieces], part))
    return key
