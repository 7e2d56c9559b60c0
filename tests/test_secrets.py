"""User names, passwords and parameters of addresses are shown and stored nowhere."""

import json
from pathlib import Path
from typing import Any

import fsspec
import pytest
from command import save_frames
from fsspec.implementations.memory import MemoryFileSystem

from pnpvideo.batch.addresses import fetch, put
from pnpvideo.cli import main
from pnpvideo.errors import InputError, RunError
from pnpvideo.options.printed import name_at, one_line, shown_address

SECRETS = ("me-myself", "s3cr%74t", "s3crtt", "T0ken", "Sign/ature")
START = "leaky://me-myself:s3cr%74t@host"
QUERY = "?X-Amz-Signature=T0ken&sig=Sign/ature"


class Leaky(MemoryFileSystem):
    """A store that names the whole address in its errors, as drivers do."""

    protocol = "leaky"
    store: dict[str, Any] = {}  # noqa: RUF012 -- one store for all
    pseudo_dirs = [""]  # noqa: RUF012

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        path = path.removeprefix("leaky://").partition("@")[2] or path
        return MemoryFileSystem._strip_protocol(path.partition("?")[0].removeprefix("leaky://"))

    def put_file(self, lpath: str, rpath: str, *more: Any, **options: Any) -> None:
        if "refused" in rpath:
            raise ValueError(f"401 for '{START}/x{QUERY}' as me-myself with s3crtt")
        super().put_file(lpath, rpath, *more, **options)


@pytest.fixture(autouse=True)
def _registered() -> None:
    fsspec.register_implementation("leaky", Leaky, clobber=True)


def assert_hidden(text: str) -> None:
    assert not [secret for secret in SECRETS if secret in text], text


def test_a_batch(
    tiny_model: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In names, contents, what is printed and the log, also where it fails."""
    monkeypatch.chdir(tmp_path)
    picture = save_frames(tmp_path, 1)[0]
    fsspec.filesystem("leaky").pipe_file("/host/in/a.png", picture.read_bytes())
    jobs = [
        {"source": f"{START}/in/a.png{QUERY}", "prompt": "a stone"},
        {"source": f"{START}/in/a.png{QUERY}", "prompt": "b", "output": "refused.png"},
    ]
    (tmp_path / "jobs.jsonl").write_text("\n".join(map(json.dumps, jobs)))
    call = ("batch", "jobs.jsonl", "-o", f"{START}/out", "--work-dir", "work", "--verbose")
    log = ("--log-file", "work/log.txt", "--model", str(tiny_model), "--steps", "2")
    (tmp_path / "work").mkdir()
    assert main([*call, *log]) == 1
    shown = capsys.readouterr()
    assert "leaky://***@host/out/refused.png cannot be written: 401" in shown.err
    assert_hidden(shown.out + shown.err)
    for path in (tmp_path / "work").rglob("*"):
        assert_hidden(str(path))
        if path.is_file():
            assert_hidden(path.read_bytes().decode("latin-1"))
    rows = json.loads((tmp_path / "work" / "batch.json").read_text())["jobs"]
    assert [row["state"] for row in rows] == ["done", "failed"]
    source = "leaky://***@host/in/a.png?X-Amz-Signature=***&sig=***"
    assert {row["source"] for row in rows} == {source}
    for path, content in Leaky.store.items():
        assert_hidden(path)
        assert_hidden(content.getvalue().decode("latin-1"))


def test_messages(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"x")
    with pytest.raises(InputError, match="does not exist") as told:
        fetch(f"{START}/gone.png{QUERY}", tmp_path)
    assert_hidden(str(told.value))
    with pytest.raises(RunError, match="401") as failed:
        put(tmp_path / "a.png", f"{START}/refused.png{QUERY}", lambda _: None)
    assert_hidden(str(failed.value))


@pytest.mark.parametrize(
    ("address", "shown", "name"),
    [
        ("s3://key:sec/ret@bucket/a.png", "s3://***@bucket/a.png", "a.png"),
        ("https://u:p@h:8080/a@b.png", "https://***@h:8080/a@b.png", "a@b.png"),
        ("https://h:8080/a@b.png", "https://h:8080/a@b.png", "a@b.png"),
        ("https://u@h/x", "https://***@h/x", "x"),
        ("https:/u:p@h/x", "https:/***@h/x", "x"),
        ("ftp://us:p@ss@h/x", "ftp://***@h/x", "x"),
        ("https://h/a.png?sig=abc&id=3", "https://h/a.png?sig=***&id=***", "a.png"),
        ("https://h/a.png?abc", "https://h/a.png?***", "a.png"),
        ("https://h/a.png#access_token=abc", "https://h/a.png#access_token=***", "a.png"),
        ("az://c/x.png?sv=1&sig=abc%2Fd", "az://c/x.png?sv=***&sig=***", "x.png"),
        ("zip://a.png::https://u:p@h/x.zip", "zip://a.png::https://***@h/x.zip", "a.png"),
        ("memory://in/what?.png", "memory://in/what?.png", "what?.png"),
        ("memory://in/a [d#1].png", "memory://in/a [d#1].png", "a [d#1].png"),
        ("http://[::1]:80/x.png", "http://[::1]:80/x.png", "x.png"),
        ("s3://bucket/a@b.png", "s3://bucket/a@b.png", "a@b.png"),
        ("s3://bucket/walk/", "s3://bucket/walk/", "walk"),
        ("s3://bucket/..", "s3://bucket/..", "source"),
        ("C:/a@b.png", "C:/a@b.png", "a@b.png"),
    ],
)
def test_addresses(address: str, shown: str, name: str) -> None:
    assert shown_address(address) == shown
    assert name_at(address) == name
    if " " not in address:
        assert one_line(f"it failed at '{address}',\n sorry") == f"it failed at '{shown}', sorry"


def test_a_parameter_after_a_space() -> None:
    assert one_line("https://h/my clip.png?token=abc") == "https://h/my clip.png?token=***"


@pytest.mark.parametrize("text", ["a" * 10**6, "a:/" * 10**5, "?key" * 10**5, "s3://a@" * 10**5])
def test_long_texts_are_read_once(text: str) -> None:
    one_line(text)
