"""`pnpvideo web`: serves the page until it is stopped."""

import threading
from collections.abc import Sequence

from pnpvideo.commands.notices import show_notices
from pnpvideo.errors import InputError
from pnpvideo.options.arguments import Parser
from pnpvideo.options.web import WebOptions

INTRODUCTION = """\
Serve a web page that translates: upload, watch, compare, download. Runs wait in one queue, and are
kept in folders where a reload of the page or another start of the server finds them."""

_EXAMPLES = """\
examples:
  pnpvideo web
  pnpvideo web --model ./stable-diffusion --model embedded --port 8080
  pnpvideo web --host 0.0.0.0 --login users.txt --max-frames 60"""


def main(arguments: Sequence[str]) -> None:
    """Run the command with the arguments that stand after its name."""
    parser = Parser("pnpvideo web", "[OPTION ...]", INTRODUCTION, _EXAMPLES)
    parser.add_options("options", WebOptions)
    options = WebOptions.of(parser.parse(arguments))
    show_notices(quiet=False, verbose=False)
    try:
        from pnpvideo.web.serve import serving
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.startswith("pnpvideo"):
            raise
        raise InputError(
            f'the page needs {error.name}; install it with pip install "pnpvideo[web]"'
        ) from None
    with serving(options) as server:
        print(f"the page is at {server.url} (Ctrl-C ends it)", flush=True)
        threading.Event().wait()
