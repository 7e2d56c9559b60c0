"""Whether a picture fits in the memory while it is decoded."""

from pathlib import Path

from pnpvideo.errors import InputError
from pnpvideo.files.available_memory import available_memory


def check_memory(size: tuple[int, int], path: Path, *, bytes_a_pixel: int = 20) -> None:
    """InputError unless the memory holds a picture of this width and height.

    bytes_a_pixel: taken until it is converted and laid on a background; measured for 8 bits: 15 to
    17.
    """
    width, height = size
    needed, free = width * height * bytes_a_pixel, available_memory()
    if needed > free:
        raise InputError(
            f"{path} has {width}x{height} pixels; to read it takes {needed / 2**30:.1f} GiB, and "
            f"{free / 2**30:.1f} GiB are free: make it smaller"
        )
