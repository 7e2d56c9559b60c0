"""The output of loading a model; afterwards the libraries' logging is as it was."""

import json
import logging
import subprocess
import sys
import warnings
from pathlib import Path

import diffusers
import huggingface_hub
import pytest
import transformers
from test_load import copy_of

from pnpvideo.loading.load import load_model
from pnpvideo.models.quiet import quiet_loading

LOAD = "from pnpvideo import PnPVideoPipeline\nPnPVideoPipeline.from_pretrained('embedded')\n"


def test_loading_the_embedded_model_prints_nothing() -> None:
    done = subprocess.run([sys.executable, "-c", LOAD], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def libraries_state() -> list[object]:
    names = ("diffusers", "transformers", "huggingface_hub")
    names += ("diffusers.pipelines.pipeline_utils", "diffusers.configuration_utils")
    loggers = [logging.getLogger(name) for name in names]
    return [
        *((each.level, each.disabled, list(each.filters), list(each.handlers)) for each in loggers),
        diffusers.utils.logging.is_progress_bar_enabled(),
        transformers.utils.logging.is_progress_bar_enabled(),
        huggingface_hub.utils.are_progress_bars_disabled(),
        list(warnings.filters),
    ]


@pytest.mark.parametrize("shown", [True, False])
def test_the_libraries_are_left_as_they_were(tiny_model: Path, shown: bool) -> None:
    before = libraries_state()
    libraries = (diffusers.utils.logging, transformers.utils.logging)
    try:
        for library in libraries:
            (library.enable_progress_bar if shown else library.disable_progress_bar)()
        own = libraries_state()
        load_model(tiny_model)
        assert libraries_state() == own
        with pytest.raises(KeyError), quiet_loading():
            raise KeyError
        assert libraries_state() == own
    finally:
        for library, enabled in zip(libraries, before[-4:-2], strict=True):
            (library.enable_progress_bar if enabled else library.disable_progress_bar)()
        hub = huggingface_hub.utils
        (hub.disable_progress_bars if before[-2] else hub.enable_progress_bars)()


def test_downloads_keep_their_bars() -> None:
    before = huggingface_hub.utils.are_progress_bars_disabled()
    with quiet_loading():
        assert huggingface_hub.utils.are_progress_bars_disabled() == before


def test_other_warnings_are_printed(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A configuration with an entry that its class does not know is no longer the usual one."""
    folder = copy_of(tiny_model, tmp_path / "model")
    path = folder / "unet" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"no_such_option": 1}))
    texts: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            texts.append(record.getMessage())

    monkeypatch.setattr(logging.getLogger("diffusers"), "handlers", [Collector()])
    verbosity = diffusers.utils.logging.get_verbosity()
    diffusers.utils.logging.set_verbosity_warning()
    try:
        load_model(folder)
    finally:
        diffusers.utils.logging.set_verbosity(verbosity)
    assert any("no_such_option" in text for text in texts)
