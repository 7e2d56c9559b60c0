"""Hiding of library messages that are meant for developers."""

import contextlib
import logging
import threading
import warnings
from collections.abc import Iterator

import diffusers
import transformers
from huggingface_hub.utils.tqdm import (
    are_progress_bars_disabled,
    disable_progress_bars,
    enable_progress_bars,
)

_EXPECTED = {
    # The autoencoders that we accept beside AutoencoderKL.
    "diffusers.pipelines.pipeline_utils": "Expected types for vae: ",
    # diffusers saves this entry of an AutoencoderTiny itself, and does not expect it back.
    "diffusers.configuration_utils": "The config attributes {'block_out_channels': ",
}
"""By logger: the start of a warning that even a flawless model gives when it is loaded."""

_AT_IMPORT = {
    # transformers' image processors, which are not used.
    "transformers.utils.import_utils": "requires torchvision (not installed)",
    # torchao's kernels for GPUs, without one; its int8 needs none of them.
    "torchao": "Failed to load ",
    "torch.utils._pytree": "is an Enum subclass and is now natively supported",
    # bitsandbytes' kernel for some CPUs, from the hub; its nf4 goes without.
    "bitsandbytes.backends.cpu.ops": "Failed to load CPU gemm_4bit_forward",
    # Other kinds of torchao's, for files of quantized weights.
    "diffusers.quantizers.torchao.torchao_quantizer": "Unable to import `torchao` Tensor objects",
}
"""By logger: a part of a warning at the import of a library."""

_loading = threading.RLock()


def quiet_libraries() -> None:
    """Silence all libraries for the rest of the process, Python's warnings included.

    For the command line and its workers only: the package's own messages are logged, so none of
    them is a Python warning.
    """
    for library in (diffusers, transformers):
        library.utils.logging.set_verbosity(logging.CRITICAL)
        library.utils.logging.disable_progress_bar()
    for name in ("huggingface_hub", "tifffile", "PIL"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore")


@contextlib.contextmanager
def quiet_loading() -> Iterator[None]:
    """Hide the progress bars of loading and the warnings that a sound model gives.

    All other warnings are printed, and so are the bars of downloads. On leaving, everything is as
    it was. One thread loads at a time, as the libraries change settings of the whole process
    meanwhile, such as PyTorch's default precision.
    """
    with _loading, contextlib.ExitStack() as restored:
        for name, text in _EXPECTED.items():
            logger, hidden = logging.getLogger(name), _Without(text)
            logger.addFilter(hidden)
            restored.callback(logger.removeFilter, hidden)
        restored.enter_context(_no_progress_bars())
        yield


def hide_notices_of_imports() -> None:
    """Hide what libraries print when they are imported here, and that changes nothing.

    Importing diffusers' pipelines imports them.
    """
    for name, text in _AT_IMPORT.items():
        logging.getLogger(name).addFilter(_Without(text))


class _Without(logging.Filter):
    """A filter that drops the records whose message contains a text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = text

    def filter(self, record: logging.LogRecord) -> bool:
        return self._text not in record.getMessage()


@contextlib.contextmanager
def _no_progress_bars() -> Iterator[None]:
    """Disable the progress bars of diffusers and transformers, but not those of downloads."""
    libraries = [lib.utils.logging for lib in (diffusers, transformers)]
    shown = [library for library in libraries if library.is_progress_bar_enabled()]
    downloads_shown = not are_progress_bars_disabled()
    for library in shown:
        library.disable_progress_bar()
    _show_downloads(downloads_shown)  # transformers switches these too.
    try:
        yield
    finally:
        for library in shown:
            library.enable_progress_bar()
        _show_downloads(downloads_shown)


def _show_downloads(shown: bool) -> None:
    if shown == are_progress_bars_disabled():
        (enable_progress_bars if shown else disable_progress_bars)()
