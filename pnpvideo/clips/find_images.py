"""Which files of a folder, or of a pattern's folders, are frames."""

import logging
import re
from collections import Counter
from pathlib import Path

from pnpvideo.errors import InputError

_log = logging.getLogger(__name__)

_KINDS = {
    "png": (".png", ".apng"),
    "jpg": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "webp": (".webp",),
    "tif": (".tif", ".tiff"),
    "bmp": (".bmp", ".dib"),
    "gif": (".gif",),
    "heic": (".heic", ".heif", ".hif"),
    "avif": (".avif",),
    "jp2": (".jp2", ".j2k", ".jpf", ".jpx"),
    "tga": (".tga",),
    "ppm": (".ppm", ".pgm", ".pbm", ".pnm"),
    "ico": (".ico",),
    "psd": (".psd",),
    "pcx": (".pcx",),
}
_KIND_OF = {suffix: kind for kind, suffixes in _KINDS.items() for suffix in suffixes}

VIDEO_SUFFIXES = (
    *(".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts"),
    *(".wmv", ".flv", ".ogv", ".3gp", ".mjpeg", ".mxf"),
)

_NUMBER = re.compile(r"%0?(\d*)d")
_JOKER = re.compile(r"%0?\d*d|[*?]")


def is_image_name(path: Path) -> bool:
    """Whether a name's suffix is that of an image."""
    return path.suffix.lower() in _KIND_OF


def is_video_name(path: Path) -> bool:
    """Whether a name's suffix is that of a video."""
    return path.suffix.lower() in VIDEO_SUFFIXES


def images_in(folder: Path) -> list[Path]:
    """All images of the kind that a folder holds most of, in natural order.

    Files that are left out, but for hidden ones, are told. InputError where there are no images, or
    as many of two kinds.
    """
    try:
        files = [p for p in folder.iterdir() if not p.name.startswith(".") and p.is_file()]
    except OSError as error:
        raise InputError(f"{folder} cannot be read: {error.strerror}") from None
    kinds = Counter(_KIND_OF[p.suffix.lower()] for p in files if is_image_name(p))
    if not kinds:
        held = _counted(Counter(p.suffix.lower().lstrip(".") or p.name for p in files))
        raise InputError(
            f"{folder} holds no images to use as frames{f', only {held}' if held else ''}"
        )
    (kind, count), *others = _by_count(kinds)
    if others and others[0][1] == count:
        raise InputError(
            f"{folder} holds images of several kinds ({_counted(kinds)}); name those that are the "
            f"frames, such as {folder}/*.{kind}"
        )
    paths = [p for p in files if _KIND_OF.get(p.suffix.lower()) == kind]
    left = Counter(p.suffix.lower().lstrip(".") or p.name for p in set(files) - set(paths))
    if left:
        _log.warning(
            "%s: its %d %s images are read, left out: %s", folder, count, kind, _counted(left)
        )
    return sorted(paths, key=natural)


def _counted(kinds: Counter[str]) -> str:
    """ "3 png, 1 txt": of at most five kinds."""
    told = [f"{count} {kind}" for kind, count in _by_count(kinds)[:5]]
    return ", ".join(told + ["more"] * (len(kinds) > 5))


def _by_count(kinds: Counter[str]) -> list[tuple[str, int]]:
    return sorted(kinds.items(), key=lambda kind: (-kind[1], kind[0]))


def is_pattern(path: Path) -> bool:
    """Whether a path names several files by numbers (%04d) or jokers (* and ?)."""
    return _JOKER.search(str(path)) is not None


def fixed_folder(pattern: Path) -> Path:
    """The part of a pattern before the first name that may be several."""
    parts = pattern.parts
    first = next((i for i, part in enumerate(parts) if _JOKER.search(part)), len(parts) - 1)
    return Path(*parts[:first])


def images_like(pattern: Path) -> list[Path]:
    """The files that a pattern names in its folder or in several, in natural order.

    Numbers need not start at 0 or 1, and may have gaps. InputError where there are none.
    """
    folder = fixed_folder(pattern)
    if not folder.is_dir():
        raise InputError(
            f"{folder} does not exist (looking for {pattern.relative_to(folder)} in it)"
        )
    below = pattern.relative_to(folder).as_posix()
    if _NUMBER.search(below):
        form = re.compile("".join(_expression(piece) for piece in _split(below)))
        # Brackets are themselves beside numbers, and a choice of characters in a glob.
        glob = _NUMBER.sub("*", re.sub(r"\[", "[[]", below))
        paths = [p for p in folder.glob(glob) if form.fullmatch(p.relative_to(folder).as_posix())]
    else:
        paths = list(folder.glob(below))
    paths = [p for p in paths if p.is_file() and not _is_hidden(p.relative_to(folder))]
    if not paths:
        raise InputError(f"no file is named like {pattern}")
    return sorted(paths, key=natural)


def _split(pattern: str) -> list[str]:
    return re.split(r"(%0?\d*d|\*|\?)", pattern)


def _expression(piece: str) -> str:
    number = _NUMBER.fullmatch(piece)
    if number is not None:
        return rf"\d{{{int(number[1] or 1)},}}"
    return {"*": "[^/]*", "?": "[^/]"}.get(piece, re.escape(piece))


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def natural(path: Path) -> list[tuple[list[tuple[str, int]], str]]:
    """frame2 before frame10, folder by folder: text as text and digits as numbers.

    The name itself settles what is then equal.
    """
    named = []
    for part in path.parts:
        pieces = re.findall(r"(\D*)(\d*)", part.lower())
        named.append(([(text, int(digits or -1)) for text, digits in pieces], part))
    return named
