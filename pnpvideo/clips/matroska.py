"""Frames with their times -> a Matroska stream of raw pictures, as ffmpeg can read from a pipe.

ffmpeg's own way of taking raw frames knows only a constant rate. This one gives each frame its
time and duration, to the nanosecond, in a stream that needs no seeking and no list beforehand.
"""

from fractions import Fraction

# Element numbers of Matroska (RFC 9559).
_EBML, _DOC_TYPE, _DOC_TYPE_VERSION = 0x1A45DFA3, 0x4282, 0x4287
_SEGMENT, _INFO, _TIMESTAMP_SCALE = 0x18538067, 0x1549A966, 0x2AD7B1
_MUXING_APP, _WRITING_APP = 0x4D80, 0x5741
_TRACKS, _TRACK_ENTRY, _TRACK_NUMBER, _TRACK_UID = 0x1654AE6B, 0xAE, 0xD7, 0x73C5
_TRACK_TYPE, _CODEC_ID, _VIDEO, _WIDTH, _HEIGHT = 0x83, 0x86, 0xE0, 0xB0, 0xBA
_COLOUR_SPACE, _CLUSTER, _TIMESTAMP = 0x2EB524, 0x1F43B675, 0xE7
_BLOCK_GROUP, _BLOCK, _BLOCK_DURATION = 0xA0, 0xA1, 0x9B

_UNKNOWN_SIZE = b"\x01\xff\xff\xff\xff\xff\xff\xff"


def stream_head(width: int, height: int) -> bytes:
    """What comes before the first frame. Pictures are RGB24."""
    return (
        _element(_EBML, _element(_DOC_TYPE, b"matroska") + _element(_DOC_TYPE_VERSION, _uint(4)))
        + _number(_SEGMENT)
        + _UNKNOWN_SIZE
        + _element(
            _INFO,
            _element(_TIMESTAMP_SCALE, _uint(1))  # Times are in nanoseconds.
            + _element(_MUXING_APP, b"pnpvideo")
            + _element(_WRITING_APP, b"pnpvideo"),
        )
        + _element(
            _TRACKS,
            _element(
                _TRACK_ENTRY,
                _element(_TRACK_NUMBER, _uint(1))
                + _element(_TRACK_UID, _uint(1))
                + _element(_TRACK_TYPE, _uint(1))
                + _element(_CODEC_ID, b"V_UNCOMPRESSED")
                + _element(
                    _VIDEO,
                    _element(_WIDTH, _uint(width))
                    + _element(_HEIGHT, _uint(height))
                    + _element(_COLOUR_SPACE, b"RGB\x18"),
                ),
            ),
        )
    )


def frame_head(time: Fraction, duration: Fraction, size: int) -> bytes:
    """What comes before each frame: its time and duration in seconds, its size in bytes.

    Each frame is a cluster of its own, as times within a cluster have 16 bits only.
    """
    after = _element(_BLOCK_DURATION, _uint(round(duration * 10**9)))
    timestamp = _element(_TIMESTAMP, _uint(round(time * 10**9)))
    # The block: track 1, 0 ns after the cluster's time, no flags; then the picture itself.
    block = _number(_BLOCK) + _size(4 + size) + b"\x81\x00\x00\x00"
    group = _number(_BLOCK_GROUP) + _size(len(after) + len(block) + size) + after + block
    return _number(_CLUSTER) + _size(len(timestamp) + len(group) + size) + timestamp + group


def _element(number: int, content: bytes) -> bytes:
    return _number(number) + _size(len(content)) + content


def _number(number: int) -> bytes:
    return number.to_bytes((number.bit_length() + 7) // 8, "big")


def _size(size: int) -> bytes:
    """A length of 7 bytes after the byte that says so."""
    return b"\x01" + size.to_bytes(7, "big")


def _uint(value: int) -> bytes:
    return value.to_bytes(8, "big")
