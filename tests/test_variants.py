"""Models of which there is only a variant of the weights: folders, shards, and the hub's."""

import hashlib
import json
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file, save_file

from pnpvideo.loading.hub import find_variant
from pnpvideo.loading.load import LoadedModel, load_model

pytestmark = pytest.mark.filterwarnings("ignore:`torch_dtype` is deprecated:FutureWarning")

PARTS = ("unet", "vae", "text_encoder")


def renamed(folder: Path, variant: str, *parts: str) -> None:
    for part in parts:
        (path,) = (folder / part).glob("*.safetensors")
        path.rename(path.with_suffix(f".{variant}.safetensors"))


def sharded(folder: Path, variant: str, old_names: bool = False) -> None:
    """As diffusers and transformers write shards, now or in earlier years."""
    loaded = load_model(folder).components
    for part in PARTS:
        for path in (folder / part).glob("*.safetensors"):
            path.unlink()
        size = loaded[part].get_memory_footprint() // 2
        loaded[part].save_pretrained(folder / part, variant=variant, max_shard_size=size)
        assert len(list((folder / part).glob("*.safetensors"))) > 1
        if not old_names:
            continue
        for path in (folder / part).glob("*.safetensors"):
            name = re.sub(rf"\.{variant}(-\d+-of-\d+)", rf"\1.{variant}", path.name)
            path.rename(path.with_name(name))
        for path in (folder / part).glob("*.index*json"):
            text = re.sub(rf"\.{variant}(-\d+-of-\d+)", rf"\1.{variant}", path.read_text())
            path.write_text(text)


def halved(folder: Path, variant: str) -> None:
    """Beside the plain weights their variant, with other values."""
    for part in PARTS:
        (path,) = (folder / part).glob("*.safetensors")
        half = {name: value / 2 for name, value in load_file(path).items()}
        save_file(half, path.with_suffix(f".{variant}.safetensors"), {"format": "pt"})


def assert_whole(loaded: LoadedModel, model: Path) -> None:
    """All weights are those in a model's files."""
    for part in PARTS:
        (path,) = (model / part).glob("*.safetensors")
        state = loaded.components[part].state_dict()
        for key, value in load_file(path).items():
            assert torch.equal(state[key], value), key


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: renamed(folder, "fp16", *PARTS),
        lambda folder: renamed(folder, "non_ema", "unet"),
        lambda folder: sharded(folder, "fp16"),
        lambda folder: sharded(folder, "bf16", old_names=True),
        lambda folder: halved(folder, "fp16"),
    ],
)
def test_what_a_folder_has_is_taken(
    tiny_model: Path, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    change(folder)
    assert_whole(load_model(folder), tiny_model)


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: sharded(folder, "fp16"),
        lambda folder: renamed(folder, "fp16", "unet"),
        lambda folder: halved(folder, "fp16"),
    ],
)
def test_what_the_hub_has_is_taken(
    tiny_model: Path, tmp_path: Path, hub: Path, change: Callable[[Path], None]
) -> None:
    change(shutil.copytree(tiny_model, hub, dirs_exist_ok=True))
    cache = tmp_path / "cache"
    assert_whole(load_model("owner/name", cache_dir=cache), tiny_model)
    assert_whole(load_model("owner/name", cache_dir=cache, local_files_only=True), tiny_model)


@pytest.mark.parametrize(
    ("files", "variant"),
    [
        (["unet/a.safetensors", "vae/b.safetensors"], None),
        (["unet/a.safetensors", "unet/a.fp16.safetensors"], None),
        (["unet/a.bin", "unet/a.fp16.safetensors", "vae/a.bf16.safetensors"], "fp16"),
        (["unet/a.ema.safetensors", "unet/a.fp16.safetensors", "vae/a.ema.safetensors"], "ema"),
        (["unet/a-00001-of-00002.safetensors", "x.fp16.safetensors"], None),
        (["unet/a.fp16-00001-of-00002.safetensors"], "fp16"),
        (["unet/a-00001-of-00002.fp16.safetensors"], "fp16"),
        ([], None),
    ],
)
def test_the_variant_of_files(files: list[str], variant: str | None) -> None:
    assert find_variant(files) == variant


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that a server of this machine shows as the repository owner/name of the hub."""
    folder = tmp_path / "hub"
    folder.mkdir()

    def names() -> list[str]:
        paths = (path for path in folder.rglob("*") if path.is_file())
        return [path.relative_to(folder).as_posix() for path in paths]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            commit, content, status = "0" * 40, b"", 200
            file = folder / path.partition("/owner/name/resolve/")[2].partition("/")[2]
            if "/tree/" in path:
                entries = [{"type": "file", "path": n, "size": 1, "oid": commit} for n in names()]
                content = json.dumps(entries).encode()
            elif path.startswith("/api/models/owner/name"):
                siblings = [{"rfilename": name} for name in names()]
                content = json.dumps(
                    {"id": "owner/name", "sha": commit, "siblings": siblings}
                ).encode()
            elif "/resolve/" in path and file.is_file():
                content = file.read_bytes()
            elif path != "/":
                status = 404
            self.send_response(status)
            if status == 404:
                self.send_header("X-Error-Code", "EntryNotFound")
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("X-Repo-Commit", commit)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    constants = huggingface_hub.constants
    monkeypatch.setattr(constants, "ENDPOINT", url)
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + template[template.index("/{repo_id}") :]
    )
    monkeypatch.setattr(huggingface_hub.hf_api.api, "endpoint", url)
    yield folder
    server.shutdown()
    server.server_close()
