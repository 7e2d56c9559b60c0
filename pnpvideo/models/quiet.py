"""Libraries that tell things for developers are kept quiet."""

import logging
import warnings

import diffusers
import transformers


def quiet_libraries() -> None:
    """The package itself logs, so that no warning is its own."""
    for library in (diffusers, transformers):
        library.utils.logging.set_verbosity(logging.CRITICAL)
        library.utils.logging.disable_progress_bar()
    for name in ("huggingface_hub", "tifffile", "PIL"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore")


def hide_torchvision_notice() -> None:
    """diffusers' imports make transformers tell that image processors, which nobody here uses, have
    no torchvision.
    """
    logging.getLogger("transformers.utils.import_utils").addFilter(_is_no_torchvision_notice)


def _is_no_torchvision_notice(record: logging.LogRecord) -> bool:
    return "requires torchvision (not installed)" not in record.getMessage()
