"""`pnpvideo web`: serves the page until it is stopped."""

import threading

from pnpvideo.commands.command import Command
from pnpvideo.commands.notices import NoticeOptions
from pnpvideo.errors import needs
from pnpvideo.options.web import GROUPS, WebOptions

_INTRODUCTION = """\
Serve a web page for translating clips: upload, watch, compare, download. Runs wait in one queue and
are kept in folders, so they are still there when the page is reloaded or the server restarts."""

_EXAMPLES = """\
examples:
  pnpvideo web
  pnpvideo web --model ./stable-diffusion --model embedded --port 8080
  pnpvideo web --host 0.0.0.0 --login users.txt --max-frames 60"""


def _work(options: WebOptions, _: NoticeOptions) -> None:
    with needs("web", "the page"):
        from pnpvideo.web.serve import serving
    with serving(options) as server:
        print(f"the page is at {server.url} (Ctrl-C ends it)", flush=True)
        threading.Event().wait()


COMMAND = Command(
    name="web",
    summary="serve a web page for translating clips",
    usage="[OPTION ...]",
    introduction=_INTRODUCTION,
    examples=_EXAMPLES,
    groups=GROUPS,
    call=NoticeOptions,
    read=lambda given, _: WebOptions.of(given),
    work=_work,
)
