"""Any text gives a value or an error of one line: in files, options, headers and names."""

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from test_job_folder import ALL, LATENTS, RUN, interrupted, state, trajectory

from pnpvideo.clips.find_images import images_like
from pnpvideo.errors import InputError
from pnpvideo.files.read_text import parse_json, parse_yaml
from pnpvideo.files.shared_folder import SharedFolder
from pnpvideo.options.declared import Options, declared
from pnpvideo.options.evaluation import EvaluationSettings
from pnpvideo.options.grid import read_axes
from pnpvideo.options.settings import Settings
from pnpvideo.options.settings_file import read_settings
from pnpvideo.storage.job_files import JOURNAL, STATE, TRAJECTORY
from pnpvideo.storage.job_folder import JobFolder, how_far, read_state
from pnpvideo.storage.trajectory import Trajectory

DEEP = 100_000
NINES = "9" * 5000


@pytest.mark.parametrize(
    "text",
    [
        "[" * DEEP,
        "[" * 60 + "]" * 60,
        '{"a":' * DEEP,
        '{"a":' * 300 + "1" + "}" * 300,
        NINES,
        f"[{NINES}]",
        "",
        "\x00",
        "{'a': 1}",
        "[1,]",
        '"\x1b"',
        "nul",
    ],
)
def test_json(text: str) -> None:
    with pytest.raises(InputError, match=r"^here is (not JSON|nested too deeply)"):
        parse_json(text, "here")


@pytest.mark.parametrize(
    "text",
    [
        "[" * 3000,
        "- " * 3000 + "a",
        "[" * 60 + "]" * 60,
        "{a: " * 3000,
        NINES,
        "2024-13-45",
        "2024-02-30 25:61:61",
        "2001-01-01 00:00:00 +99:99",
        "!!int ''",
        "!!int x",
        "!!float ''",
        "!!bool x",
        "!!timestamp x",
        "!!binary é",
        "!!python/object/apply:os.getcwd []",
        "? [a]\n: b",
        "? {a: b}\n: c",
        "&a [*a]",
        "&a {b: *a}",
        "a: *b",
        "\x00",
        "\ud800",
        "a: b: c",
        "%YAML 9.9\n---\na",
        "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
        + "".join(
            f"{chr(98 + n)}: &{chr(98 + n)} [{', '.join(['*' + chr(97 + n)] * 10)}]\n"
            for n in range(9)
        ),
    ],
)
def test_yaml(text: str) -> None:
    with pytest.raises(InputError, match=r"^here (is not YAML|is nested too deeply|has more than)"):
        parse_yaml(text, "here")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prompt: &a [*a]", "nested too deeply"),
        ("prompt: &a {b: *a}", "nested too deeply"),
        ("seed: 0x" + "f" * 5000, "seed is a number of thousands of digits; give a whole number"),
        (f"seed: {NINES}", "is not YAML"),
        ("source: 2024-13-45", "is not YAML: month must be in 1..12"),
        ('source: "a\\0b"', "has a character that is not text"),
        ('prompt: "\\uD800"', "has a character that is not text"),
        ("prompt: [a, [b]]", "prompt is "),
        ("? 1\n: 2", "there is no option 1"),
        ("frame_rate: 1e999999999", "frame_rate is '1e999999999'; give frames per second"),
        ("size: " + NINES + "x1", "size is "),
    ],
)
def test_settings_files(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "run.yaml").write_text(f"{text}\n")
    with pytest.raises(InputError, match=message) as told:
        Settings.of({"source": "a", "prompt": "b"} | read_settings(tmp_path / "run.yaml"))
    assert len(str(told.value)) < 400


def nasty_values() -> list[Any]:
    contains_itself: list[Any] = []
    contains_itself.append(contains_itself)
    deep: Any = "a"
    for _ in range(5000):
        deep = [deep]
    texts = [
        "",
        "\0",
        "\ud800",
        "\udcff",
        "a" * 10**5,
        "~x/y",
        "-",
        "s3://u:pass@h/x",
        "%",
        "\x1b[2J",
    ]
    numbers = [10**5000, -(10**400), float("nan"), float("inf"), 1e308, -0.0, 2**63, 2**64, True]
    return [
        *texts, *numbers, *([text] for text in texts), contains_itself, deep, {}, {"a": 1}, [],
        [[]], None, b"x", object(), {1, 2}, 1j, "1e999999999", "1/0", "9" * 5000, "1_0",
    ]  # fmt: skip


def refusal(work: Callable[[], object]) -> str:
    """Return the message of an InputError; '' if there is none."""
    try:
        work()
    except InputError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("options", [Settings, EvaluationSettings])
def test_every_option(options: type[Options]) -> None:
    """Each with values that no one means: taken, or refused in a line that can be printed."""
    required: dict[str, object] = {"source": "a", "prompt": "b"}
    if options is EvaluationSettings:
        required = {"benchmark": "manifest", "data": "a", "output": "b"}
    for name in declared(options):
        for value in nasty_values():
            message = refusal(lambda: options.of(required | {name: value}))  # noqa: B023
            assert len(message) < 500
            assert "pass@" not in message


@pytest.mark.parametrize("text", ["[" * 3000, "&a [*a]", NINES, "\0", "2024-13-45", "!!int ''"])
def test_values_of_a_grid(text: str) -> None:
    with pytest.raises(InputError):
        read_axes([f"tau_f={text}"])


@pytest.mark.parametrize(
    "name", ["%099999999999d.png", "%0" + NINES + "d", "a**b*.png", "***", "**%04d", "[*", "%d[!*"]
)
def test_patterns(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="no file is named like"):
        images_like(tmp_path / name)
    (tmp_path / "axxb1.png").touch()
    if name.startswith("a"):
        assert images_like(tmp_path / name) == [tmp_path / "axxb1.png"]


@pytest.mark.parametrize("text", ["[" * DEEP, "{", "[1]", "7", "\0", NINES, ""])
def test_what_others_wrote_into_a_shared_folder(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(InputError, match=r"run\.json"):
        SharedFolder(tmp_path).check_settings({"a": 1})


# Headers of kept work


def with_header(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    change(header["__metadata__"])
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + size :])


HEADERS: list[Callable[[dict[str, Any]], object]] = [
    lambda h: h.clear(),
    lambda h: h.update(identity="[" * DEEP),
    lambda h: h.update(identity="7"),
    lambda h: h.update(identity="[1]"),
    lambda h: h.update(identity=NINES),
    lambda h: h.update(identity=""),
    lambda h: h.update(format="x"),
    lambda h: h.update(steps="-1", timesteps="501 2"),
    lambda h: h.update(steps=NINES, timesteps="a b"),
    lambda h: h.update(steps="9", timesteps="501"),
    lambda h: h.update(first="3", kept="0 0 1"),
    lambda h: h.update(first="x", kept="0 1 7"),
    lambda h: h.update(checksum="x", kept=NINES),
    lambda h: h.update(checksum="", levels=NINES),
    lambda h: h.update(header="x", levels="-3"),
    lambda h: h.update(header="", prompt="another"),
]


@pytest.mark.parametrize("change", HEADERS)
def test_damaged_headers(tmp_path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """The work is done again, and is then right."""
    interrupted(tmp_path, ALL, steps=1)
    for name in (TRAJECTORY, STATE):
        with_header(tmp_path / name, change)
    how_far(tmp_path)
    with pytest.raises(InputError):
        read_state(tmp_path / STATE)
    refusal(lambda: Trajectory.load(tmp_path / TRAJECTORY).close())
    with JobFolder(tmp_path) as job:
        kept = trajectory(job)
        assert kept.unfinished(8) == [slice(0, 5)]
        kept.write(0, LATENTS)
        assert torch.equal(kept.latents[0, :], LATENTS[0])
        assert job.state(RUN) is None
        job.save(state(1))
        assert job.state(RUN) is not None


def test_damaged_journals(tmp_path: Path) -> None:
    interrupted(tmp_path, ALL)
    line = (tmp_path / JOURNAL).read_text().splitlines(keepends=True)[0]
    for text in (
        f"0 {NINES} 1\n",
        f"{NINES} 1 1\n",
        "0 99999999999999999999 1\n",
        "\0\n",
    ):
        (tmp_path / JOURNAL).write_text(text + line)
        assert how_far(tmp_path)[0] == 2
        with JobFolder(tmp_path) as job:
            assert trajectory(job).unfinished(8) == [slice(2, 5)]


def test_changed_bytes_of_headers(tmp_path: Path) -> None:
    """Bytes anywhere in the headers: work that counts is that of the run."""
    interrupted(tmp_path, ALL, steps=1)
    kinds = random.Random(1)
    for name in (TRAJECTORY, STATE):
        content = (tmp_path / name).read_bytes()
        size = 8 + int.from_bytes(content[:8], "little")
        for _ in range(30):
            changed = bytearray(content)
            changed[kinds.randrange(8, size)] = kinds.randrange(256)
            (tmp_path / name).write_bytes(changed)
            with JobFolder(tmp_path, keep_state=True) as job:
                kept = trajectory(job)
                if not kept.unfinished(8):
                    assert kept.timesteps == (501.0, 1.0)
                    assert torch.equal(kept.latents[1, :], LATENTS[1])
                kept.close()
                if (found := job.state(RUN)) is not None:
                    assert (found.steps, found.first) == (1, 0)
        interrupted(tmp_path / "new", ALL, steps=1)
        for one in (TRAJECTORY, STATE, JOURNAL):
            (tmp_path / "new" / one).replace(tmp_path / one)


# Ctrl-C

INTERRUPTED = """
import builtins, os, signal, sys
name, *arguments = sys.argv[1:]
real = builtins.__import__
def interrupting(asked, *more):
    if asked == name:
        builtins.__import__ = real
        os.kill(os.getpid(), signal.SIGINT)
    return real(asked, *more)
builtins.__import__ = interrupting
sys.argv = ["pnpvideo", *arguments]
from pnpvideo.__main__ import main
sys.exit(main())
"""


@pytest.mark.parametrize("module", ["pydantic", "yaml", "shtab", "torch"])
def test_ctrl_c_while_python_imports(tmp_path: Path, module: str) -> None:
    (tmp_path / "a.png").touch()
    call = ("translate", "a.png", "--prompt", "b")
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, module, *call],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "pnpvideo: stopped\n")
