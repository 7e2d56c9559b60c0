"""What a command tells a person, all of it on stderr and one line each."""

import logging
import sys
import warnings


def show_notices(quiet: bool) -> None:
    """Show what the package tells of a run, such as what it reuses, and no library's notices."""
    # Their own notices are for developers; they are set before torch and they are imported.
    import diffusers
    import transformers

    for library in (diffusers, transformers):
        library.utils.logging.set_verbosity(logging.CRITICAL)
        library.utils.logging.disable_progress_bar()
    logging.getLogger("huggingface_hub").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore")
    warnings.filterwarnings("default", module=r"pnpvideo\.")
    warnings.showwarning = lambda message, *_, **__: print(f"pnpvideo: {message}", file=sys.stderr)

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("pnpvideo: %(message)s"))
    log = logging.getLogger("pnpvideo")
    log.handlers = [handler]
    log.setLevel(logging.WARNING if quiet else logging.INFO)
