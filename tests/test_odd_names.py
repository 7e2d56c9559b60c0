"""Names that are not UTF-8, begin with ~ or look like patterns, here and at addresses, and printed
on terminals of any encoding.
"""

import io
import json
import os
import shutil
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
import yaml
from command import SHORT, assert_refused, names, save_frames
from fsspec.asyn import AsyncFileSystem

from pnpvideo.batch.addresses import check_free_at, fetch, put
from pnpvideo.cli import main
from pnpvideo.errors import InputError
from pnpvideo.loading.embedding import find_embedding
from pnpvideo.loading.ip_adapter import read_ip_adapter
from pnpvideo.loading.load import load_model
from pnpvideo.loading.lora import find_lora
from pnpvideo.options.paths import expanded
from pnpvideo.options.printed import printable

PATTERNS = ["Title [dQw4]", "what?", "a*b", "[x]", "a**", "{a,b} ü", "50%2525", "a#b", "~c"]


# Here


def test_names_that_are_not_utf8(tiny_model: Path, tmp_path: Path) -> None:
    """One among others; its settings repeat its job, and it is done when the batch runs again."""
    (tmp_path / "clips").mkdir()
    picture = save_frames(tmp_path / "clips", 1)[0]
    bad = os.fsdecode(b"\xff\xe9")
    shutil.copy(picture, picture.with_name(f"{bad}.png"))
    out, common = tmp_path / "out", ("--model", str(tiny_model), "--quiet", *SHORT)
    batch = ("batch", str(tmp_path / "clips"), "-o", str(out), *common)
    assert main(batch) == 0
    jobs = json.loads((out / "batch.json").read_text(encoding="utf-8"))["jobs"]
    assert {(job["name"], job["state"]) for job in jobs} == {
        ("source0.png", "done"),
        (f"{bad}.png", "done"),
    }
    result = out / f"{bad}.png"
    before = result.stat().st_mtime_ns
    assert main(batch) == 0
    assert result.stat().st_mtime_ns == before
    record = yaml.safe_load((out / f"{result.name}.yaml").read_text(encoding="utf-8"))
    assert record["source"] == str(picture.with_name(f"{bad}.png"))


def test_a_name_with_a_tilde(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no such person whose folder it could be."""
    monkeypatch.chdir(tmp_path)
    save_frames(tmp_path, 1)[0].rename("~in.png")
    given = ("~in.png", *SHORT, "-o", "~name.png", "--model", str(tiny_model), "--quiet")
    assert main(["translate", *given]) == 0
    record = yaml.safe_load(Path("~name.png.yaml").read_text())
    assert (record["source"], record["output"]) == (f"{tmp_path}/~in.png", f"{tmp_path}/~name.png")
    (tmp_path / "run.yaml").write_text("source: ~in.png\nprompt: a\nsteps: 2\noutput: ~x.png\n")
    assert main(["translate", "--config", "run.yaml", *given[4:]]) == 2  # It exists.


def test_home_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert expanded("~/a") == Path("/home/me/a")
    assert expanded("~no-such-person/a") == Path("~no-such-person/a")


def test_quoted_home_folders(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No shell has put the folder in the place of the tilde."""
    home = tmp_path / "me"
    save_frames(home, 1)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(home))
    given = ("~/source0.png", *SHORT, "-o", "~/out/", "--model", str(tiny_model), "--quiet")
    assert main(["translate", *given]) == 0
    assert [path.name for path in (home / "out").iterdir()] == ["000001.png"]
    assert not (tmp_path / "~").exists()


@pytest.mark.parametrize("find", [load_model, find_lora, find_embedding, read_ip_adapter])
def test_weights_of_nobody(find: Callable[[str], object]) -> None:
    with pytest.raises(InputError, match=r"there is no .*~no-such-person/a\.safetensors"):
        find("~no-such-person/a.safetensors")


@pytest.mark.parametrize(
    "output",
    ["../a.png", "b/../../a.png", "/tmp/a.png", "~/a.png", "~", ".", "./", "{out}/../a.png"],
)
def test_results_stay_in_their_folder(tmp_path: Path, output: str, capsys: Any) -> None:
    save_frames(tmp_path, 1)
    place = output.replace("{out}", str(tmp_path / "out"))
    job = {"source": "source0.png", "prompt": "a", "output": place}
    (tmp_path / "jobs.jsonl").write_text(json.dumps(job))
    before = names(tmp_path)
    code = main(["batch", str(tmp_path / "jobs.jsonl"), "-o", str(tmp_path / "out")])
    told = expanded(place) if place.startswith("~") else place
    message = f"jobs.jsonl line 1: the output {told} is not in the folder of results"
    assert_refused((code, *capsys.readouterr()), 2, message)
    assert names(tmp_path) == before


# At addresses


class ObjectStore(AsyncFileSystem):
    """Objects under keys, without folders, as in S3."""

    protocol = "objects"
    objects: dict[str, bytes] = {}  # noqa: RUF012 -- one store for all

    async def _info(self, path: str, **_: Any) -> dict[str, Any]:
        path = self._strip_protocol(path)
        if path in self.objects:
            content = self.objects[path]
            sizes = {"size": len(content), "ETag": zlib.crc32(content)}
            return {"name": path, "type": "file", **sizes}
        if any(key.startswith(f"{path}/") for key in self.objects):
            return {"name": path, "size": 0, "type": "directory"}
        raise FileNotFoundError(path)

    async def _ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        path = self._strip_protocol(path)
        below = [key[len(path) + 1 :] for key in self.objects if key.startswith(f"{path}/")]
        found = [await self._info(f"{path}/{name}") for name in {x.split("/")[0] for x in below}]
        return found if detail else [one["name"] for one in found]

    async def _put_file(self, lpath: str, rpath: str, **_: Any) -> None:
        self.objects[self._strip_protocol(rpath)] = Path(lpath).read_bytes()

    async def _get_file(self, rpath: str, lpath: str, **_: Any) -> None:
        Path(lpath).write_bytes(self.objects[self._strip_protocol(rpath)])

    async def _cat_file(self, path: str, **_: Any) -> bytes:
        return self.objects[self._strip_protocol(path)]

    async def _cp_file(self, path1: str, path2: str, **_: Any) -> None:
        self.objects[self._strip_protocol(path2)] = self.objects[self._strip_protocol(path1)]

    async def _rm_file(self, path: str, **_: Any) -> None:
        del self.objects[self._strip_protocol(path)]

    async def _makedirs(self, path: str, exist_ok: bool = False) -> None:
        pass


@pytest.fixture(params=["memory://at", "file://{tmp}/at", "objects://at"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An address of an empty folder, on file systems of several kinds."""
    fsspec.register_implementation("objects", ObjectStore, clobber=True)
    yield request.param.replace("{tmp}", str(tmp_path))
    ObjectStore.objects.clear()
    memory = fsspec.filesystem("memory")
    for path in memory.find("/"):
        memory.rm_file(path)


def at(address: str) -> dict[str, bytes]:
    """The files at an address, by their names below it."""
    files, path = fsspec.core.url_to_fs(address)
    files.invalidate_cache()
    return {one[len(path) :]: files.cat_file(one) for one in files.find(path)}


@pytest.mark.parametrize("name", PATTERNS)
def test_names_like_patterns(place: str, tmp_path: Path, name: str) -> None:
    """Written, replaced and read; files that the pattern would match stay as they are."""
    local = tmp_path / "local"
    (local / "frames").mkdir(parents=True)
    for other in ("Title d", "whatx", "aXb", "x"):
        (local / "picture.png").write_bytes(b"other")
        put(local / "picture.png", f"{place}/{other}.png", lambda _: None)
    others = at(place)
    for content in (b"one", b"two"):
        (local / "picture.png").write_bytes(content)
        put(local / "picture.png", f"{place}/{name}.png", lambda _: None)
        (local / "frames" / f"{name} 1.png").write_bytes(content)
        put(local / "frames", f"{place}/{name}", lambda _: None)
        expected = {f"/{name}.png": content, f"/{name}/{name} 1.png": content}
        assert at(place) == others | expected
        copies = [fetch(f"{place}/{one}", tmp_path / "copies") for one in (f"{name}.png", name)]
        assert [copy.name for copy in copies] == [f"{name}.png", name]
        assert copies[0].read_bytes() == content
        assert [(p.name, p.read_bytes()) for p in copies[1].iterdir()] == [
            (f"{name} 1.png", content)
        ]


def test_only_results_are_replaced(place: str, tmp_path: Path) -> None:
    frames, note = tmp_path / "frames", tmp_path / "note.txt"
    frames.mkdir()
    (frames / "000001.png").write_bytes(b"one")
    note.write_bytes(b"mine")
    put(frames, f"{place}/a", lambda _: None)
    put(note, f"{place}/b/note.txt", lambda _: None)
    put(note, f"{place}/c/d/000001.png", lambda _: None)
    put(note, f"{place}/e", lambda _: None)
    before = at(place)
    refusals = {
        ("a", True, False): "exists already; choose another name or give --overwrite",
        ("a", False, True): "is a folder; choose another name for the file",
        ("b", True, True): "holds note.txt, which is not a frame, so it is not replaced",
        ("c", True, True): "holds d/000001.png, which is not a frame, so it is not replaced",
        ("e", True, True): "is a file; choose another name for the folder",
    }
    for (name, folder, overwrite), message in refusals.items():
        with pytest.raises(InputError, match=message):
            check_free_at(f"{place}/{name}", folder=folder, overwrite=overwrite)
        if overwrite:
            with pytest.raises(InputError, match=message):
                put(frames if folder else note, f"{place}/{name}", lambda _: None)
        assert at(place) == before
    check_free_at(f"{place}/a", folder=True, overwrite=True)
    check_free_at(f"{place}/new", folder=True, overwrite=False)
    (frames / "000001.png").rename(frames / "000002.png")
    put(frames, f"{place}/a", lambda _: None)
    assert at(f"{place}/a") == {"/000002.png": b"one"}


# Printed


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "cp932", "latin-1", "utf-8"])
def test_terminals_of_any_encoding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    """Names that an encoding lacks are printed with escapes; a lost result would be worse."""
    monkeypatch.chdir(tmp_path)
    bad = os.fsdecode(b"\xff")
    for name in ("смотри é 茶 😀.png", f"{bad}.png"):
        shutil.copy(save_frames(tmp_path / "in", 1)[0], name)
        calls: dict[tuple[str, ...], int] = {
            ("batch", name, "-o", "out", "--prompt", "茶 é"): 2,
            ("translate", name, "--prompt", "é 茶", "-o", f"gone/{name}.xyz"): 2,
            ("translate", f"gone-{name}", "--prompt", "é", "--json"): 2,
            ("translate", name, "--prompt", "é 茶", "--model", name, "--json",
             "--log-file", f"{name}.log"): 2,
        }  # fmt: skip
        for call, code in calls.items():
            out, err = (
                io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict") for _ in "ab"
            )
            with monkeypatch.context() as patch:
                patch.setattr(sys, "stdout", out)
                patch.setattr(sys, "stderr", err)
                assert main(call) == code
                out.flush()
                err.flush()
            assert (out.errors, err.errors) == ("strict", "strict")
            assert err.buffer.getvalue().startswith(b"pnpvideo: ")  # type: ignore[attr-defined]
            for line in out.buffer.getvalue().splitlines():  # type: ignore[attr-defined]
                assert json.loads(line)["event"] == "error"
        assert b"Logging error" not in Path(f"{name}.log").read_bytes()


def test_what_a_program_reads_is_the_name_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from pnpvideo.commands.printing import any_text_printed, say

    name = os.fsdecode(b"\xff\x1b[31m")
    for is_terminal, expected in ((False, b"\xff\x1b[31m\n"), (True, b"\\udcff\\x1b[31m\n")):
        stream = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", newline="\n")
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", stream)
            patch.setattr(stream, "isatty", lambda answer=is_terminal: answer, raising=False)
            with any_text_printed():
                say(name)
                stream.flush()
        assert stream.buffer.getvalue() == expected  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a b é 茶 😀", "a b é 茶 😀"),
        ("\x1b[2J\x07", "\\x1b[2J\\x07"),
        ("\x9b31m", "\\x9b31m"),
        ("a\u202eb\u2066", "a\\u202eb\\u2066"),
        ("\r\n", "\\r\\n"),
        (os.fsdecode(b"\xff"), "\\udcff"),
    ],
)
def test_control_characters(text: str, expected: str) -> None:
    assert printable(text) == expected
