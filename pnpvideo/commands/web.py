"""`pnpvideo web`: serves the page until it is stopped."""

import shlex
import threading

from pnpvideo.commands.command import Command
from pnpvideo.commands.notices import NoticeOptions
from pnpvideo.commands.printing import say
from pnpvideo.errors import needs
from pnpvideo.importing import without_collection
from pnpvideo.options.paths import expanded
from pnpvideo.options.web import GROUPS, WebOptions
from pnpvideo.web.environment import own_environment

_INTRODUCTION = """\
Serve a web page for translating clips: upload, watch, compare, download. Runs wait in one queue and
are kept in folders, so they are still there when the page is reloaded or the server restarts."""

_EXAMPLES = """\
examples:
  pnpvideo web
  pnpvideo web --model ./stable-diffusion --model embedded --port 8080
  pnpvideo web --host 0.0.0.0 --allowed-host pnp.example.org --login users.txt
  pnpvideo web --root-path https://example.org/pnp --trusted-proxy 127.0.0.1
  pnpvideo web --stop all"""


def _work(options: WebOptions, _: NoticeOptions) -> None:
    folder = expanded(options.folder).resolve()
    if options.stop is not None:
        from pnpvideo.web.housekeeping import ask_to_stop

        for name in ask_to_stop(folder, options.stop):
            say(f"stopped {name}")
        return
    paused = without_collection(freeze=True)
    with needs("web", "the page"), own_environment(proxies=False), paused:
        from pnpvideo.web.serve import serving
    with serving(options, say) as server:
        say(f"the page is at {server.url} (Ctrl-C ends it)")
        say(f"to stop a job: pnpvideo web --folder {shlex.quote(options.folder)} --stop JOB")
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
