"""The fixtures that several tests share: small real models and the reading of command-line runs."""

import gc
import logging
import os

# Each worker of pytest-xdist has a core; more threads than cores would only wait for each other,
# those of the processes that tests start and of NumPy too.
os.environ["OMP_NUM_THREADS"] = "1"

from collections.abc import Callable, Generator, Iterator
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from command import Cli, save_frames
from models import save_tiny_model
from page import CHROMIUM

from pnpvideo import PnPVideoPipeline
from pnpvideo.cli import main

torch.set_num_threads(1)
# A collection goes through all objects; most are those of the imported libraries.
gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Escape what pytest-xdist cannot send: file names that are not UTF-8, in what is logged."""
    report = yield
    report.sections = [
        (name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections
    ]
    return report


@pytest.fixture(autouse=True)
def _repeatable() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@pytest.fixture(autouse=True)
def _own_notices() -> Iterator[None]:
    """Leave no handler behind that prints to the captured stderr of a test that is over."""
    logger = logging.getLogger("pnpvideo")
    before = list(logger.handlers)
    yield
    logger.handlers = before


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random model of SD 1.5's kind: working side 32, factor 4."""
    return save_tiny_model(tmp_path_factory.mktemp("model"))


@cache
def _load(model: str, dtype: torch.dtype) -> PnPVideoPipeline:
    pipeline = PnPVideoPipeline.from_pretrained(model, dtype=dtype)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(scope="session")
def load() -> Callable[..., PnPVideoPipeline]:
    """Load a model from the disk once for all tests; each call returns a copy."""

    def copy(model: str | Path, dtype: torch.dtype = torch.float32) -> PnPVideoPipeline:
        loaded = _load(str(model), dtype)
        # A tokenizer's copy decodes otherwise; nothing changes the tokenizer but new words.
        shared = [loaded.tokenizer, loaded.tokenizer_2]
        return deepcopy(loaded, {id(part): part for part in shared if part is not None})

    return copy


@pytest.fixture(scope="module")
def pipeline(load: Callable[..., PnPVideoPipeline], tiny_model: Path) -> PnPVideoPipeline:
    """The tiny model in float32, one copy for a module."""
    return load(tiny_model)


@pytest.fixture
def exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the class compute in float64 what it computes in float32 in every precision."""
    real = torch.Tensor.float
    monkeypatch.setattr(
        torch.Tensor, "float", lambda self: self if self.dtype == torch.float64 else real(self)
    )


@pytest.fixture
def cli(
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Cli:
    """Runs `pnpvideo translate` in this process, in tmp_path: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, model: str | None = str(tiny_model)) -> tuple[int, str, str]:
        given = ["translate", *arguments, "--quiet"]
        if model is not None:
            given += ["--model", model]
        code = main(given)
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    return save_frames(tmp_path, 1)[0]


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium without a window, which is there (see `in_a_browser`)."""
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()
