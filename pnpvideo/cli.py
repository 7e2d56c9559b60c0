"""The command line: options to settings, errors to one line and an exit code."""

import argparse
import logging
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn, get_args

import diffusers
import transformers

from pnpvideo.errors import InputError, RunError
from pnpvideo.options.method import PRESETS, AttentionSharing, KeyframeStrategy, NoiseSource
from pnpvideo.options.settings import (
    DEFAULT_PRECISION,
    Place,
    Precision,
    make_settings,
    read_settings,
)
from pnpvideo.run import DTYPES, run
from pnpvideo.storage.allocate import MEMORY_SHARE

_INTRO = """\
Translate a video, a frame sequence or an image to what a text prompt says, keeping its layout and
motion. No training, no upload: the source is inverted and its features guide the new picture."""

_EXAMPLES = """\
examples:
  pnpvideo translate drawing.mp4 --prompt "a photo of a red ball on grass" -o real.mp4
  pnpvideo translate frames/ --prompt "a photo of a moon" -o result/ --model ./stable-diffusion
  pnpvideo translate cat.jpg --prompt "an oil painting of a cat" --prompt "a stone cat" -o cat.png
  pnpvideo translate --guidance-prompt "a photo of a horse" --prompt "a bronze horse" -o horse.png
  pnpvideo translate --config real.mp4.yaml --seed 2 --overwrite

Exit codes: 0 done, 1 the work failed, 2 what was given cannot be used, 130 stopped by Ctrl-C."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message} (see {self.prog} --help)")


def make_parser() -> argparse.ArgumentParser:
    """The parser. Options that are not given are absent, so that a config file can give them."""
    parser = _Parser(
        prog="pnpvideo",
        description=_INTRO,
        epilog="'pnpvideo translate --help' describes its options.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    translate = commands.add_parser(
        "translate",
        help="translate a video, a frame sequence or an image",
        description=_INTRO,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    _add_source(translate.add_argument_group("source"))
    _add_text(translate.add_argument_group("text"))
    _add_result(translate.add_argument_group("result"))
    _add_method(translate.add_argument_group("method (defaults: the model's own, or the paper's)"))
    _add_frames(translate.add_argument_group("what frames share"))
    _add_model(translate.add_argument_group("model and machine"))
    return parser


def _add_source(group: Any) -> None:
    group.add_argument(
        "source",
        metavar="SOURCE",
        nargs="?",
        help="video, image, animated image, folder of images, or pattern such as frames/%%04d.png",
    )
    group.add_argument(
        "--guidance-prompt",
        metavar="TEXT",
        help="instead of SOURCE: let the model make the source from this text",
    )
    group.add_argument("--start", type=int, metavar="N", help="number of the first frame (0)")
    group.add_argument("--frames", type=int, metavar="N", help="how many frames at most (all)")
    group.add_argument("--stride", type=int, metavar="N", help="take every N-th frame (1)")
    group.add_argument(
        "--frame-rate",
        metavar="RATE",
        help="frames a second of a folder of images, such as 12 or 24000/1001 (24)",
    )
    _add_switch(group, "--allow-truncated", "use what can be read of a cut or damaged file")


def _add_text(group: Any) -> None:
    group.add_argument(
        "--prompt",
        action="append",
        metavar="TEXT",
        help="what the result shows; repeat it for several results from one inversion",
    )
    group.add_argument(
        "--negative-prompt",
        action="append",
        metavar="TEXT",
        help="what the result must not show; once, or once for each prompt",
    )
    group.add_argument(
        "--inversion-prompt", metavar="TEXT", help="what the source shows (empty, as in the paper)"
    )


def _add_result(group: Any) -> None:
    group.add_argument(
        "-o",
        "--output",
        metavar="OUT",
        help="video, image or animation by suffix, or a folder for frames (SOURCE-translated)",
    )
    group.add_argument("--overwrite", action="store_true", help="replace a result that exists")
    _add_switch(group, "--compare", "also write OUT-compare: source and result side by side")
    _add_switch(
        group,
        "--original-size",
        "bring the result to the source's size (otherwise it has the working size)",
    )
    group.add_argument("--quality", type=int, metavar="N", help="1 to 100, of lossy formats (80)")
    group.add_argument(
        "--config",
        metavar="FILE",
        help="read settings from a YAML file; the command line wins (--no-compare and the like "
        "switch off). Every run writes such a file, OUT.yaml, that repeats it",
    )
    _add_switch(
        group,
        "--check-inversion",
        "report how near the source comes when it is sampled back (PSNR)",
    )
    group.add_argument("--quiet", action="store_true", help="no progress bars and notices")


def _add_switch(group: Any, option: str, text: str) -> None:
    """A switch of the settings, with its opposite for what a config file has switched on."""
    name = option.removeprefix("--").replace("-", "_")
    group.add_argument(option, action="store_true", help=text)
    group.add_argument(
        option.replace("--", "--no-", 1), dest=name, action="store_false", help=argparse.SUPPRESS
    )


def _add_method(group: Any) -> None:
    group.add_argument(
        "--preset",
        choices=tuple(PRESETS),
        help="how fast, by fewer steps (best); --steps and the others here win over it",
    )
    group.add_argument("--steps", type=int, metavar="N", help="sampling steps (50)")
    group.add_argument(
        "--inversion-steps", type=int, metavar="N", help="a multiple of --steps (the same)"
    )
    group.add_argument(
        "--inversion-iterations",
        type=int,
        metavar="N",
        help="passes for each step of inversion (1); 2 bring the source back, 1 may lose it",
    )
    group.add_argument(
        "--guidance-scale",
        type=float,
        metavar="S",
        help="how strongly the prompt is followed (7.5)",
    )
    group.add_argument(
        "--guidance-start",
        type=float,
        metavar="T",
        help="part of the steps that go by without guidance first (0); they are faster",
    )
    group.add_argument(
        "--guidance-end", type=float, metavar="T", help="part of the steps after which it ends (1)"
    )
    group.add_argument(
        "--tau-f", type=float, metavar="T", help="part of the steps that inject features (0.8)"
    )
    group.add_argument(
        "--tau-a",
        type=float,
        metavar="T",
        help="part of the steps that inject self-attention queries and keys (0.5)",
    )
    group.add_argument(
        "--negative-schedule",
        choices=("constant", "linear", "exp"),
        help="let the negative prompt grow stronger over the steps, as in the paper (off)",
    )
    group.add_argument(
        "--negative-alpha",
        type=float,
        metavar="A",
        help="of the schedule: 1 starts with no negative prompt, 0 has it fully always (1)",
    )
    group.add_argument(
        "--noise-share",
        type=float,
        metavar="S",
        help="share of fresh noise, the same for all frames, in the inverted noise (0); "
        "more frees the result from the source's brightness and colours",
    )
    group.add_argument(
        "--eta", type=float, metavar="E", help="randomness of DDIM sampling, 0 to 1 (0)"
    )
    group.add_argument("--seed", type=int, metavar="N", help="of all that is drawn (0)")


def _add_frames(group: Any) -> None:
    group.add_argument(
        "--attention-sharing",
        choices=get_args(AttentionSharing),
        help="extended: frames also attend to the keyframes around them; propagate: they take the "
        "keyframes' attention where the source shows the same (none: frame by frame)",
    )
    group.add_argument(
        "--keyframes",
        choices=get_args(KeyframeStrategy),
        help="every n-th; one drawn of each n, or every n-th moving on, anew at each step; or by "
        "change of the source (random)",
    )
    group.add_argument(
        "--keyframe-every", type=int, metavar="N", help="frames from keyframe to keyframe (8)"
    )
    group.add_argument(
        "--keyframe-window",
        type=int,
        metavar="N",
        help="keyframes that attend to one another; more takes more memory (4)",
    )
    group.add_argument(
        "--noise-source",
        choices=get_args(NoiseSource),
        help="of --noise-share: fresh noise, or that of each scene's first frame (gaussian)",
    )
    _add_switch(group, "--noise-motion", "carry shared noise along the source's motion")
    group.add_argument(
        "--blend-radius",
        type=int,
        metavar="N",
        help="frames on either side that a result's frame is averaged with along the source's "
        "motion, against flicker; 0: none (2)",
    )


def _add_model(group: Any) -> None:
    group.add_argument(
        "--model",
        metavar="MODEL",
        help="embedded (the default: small, offline, simple shapes), a diffusers folder, a hub id "
        "such as owner/name, or a .safetensors checkpoint; Stable Diffusion 1.x, 2.x or XL",
    )
    group.add_argument(
        "--model-config",
        metavar="FOLDER",
        help="for a checkpoint, where there is no network: a diffusers folder of the same kind of "
        "model, for its configuration and tokenizer",
    )
    group.add_argument(
        "--lora", action="append", metavar="FILE", help="LoRA .safetensors file; repeatable"
    )
    group.add_argument(
        "--size", metavar="WxH", help="working size in pixels (the model's own area)"
    )
    group.add_argument("--device", metavar="NAME", help="cuda, cuda:1, mps or cpu (the best one)")
    group.add_argument(
        "--dtype", choices=tuple(DTYPES), help="of the model (what suits the device)"
    )
    _add_switch(
        group, "--offload", "for a small GPU: keep only the part of the model at work on it; slower"
    )
    group.add_argument(
        "--job",
        metavar="FOLDER",
        help="keep what is finished in FOLDER: the same command goes on from there after a break, "
        "and other prompts reuse the inversion, which stays",
    )
    group.add_argument(
        "--trajectory",
        choices=get_args(Place),
        help="where the inverted source is kept during a run without --job (auto: in memory where "
        f"it takes at most {MEMORY_SHARE * 100:.0f} %% of what is free)",
    )
    group.add_argument(
        "--trajectory-precision",
        choices=get_args(Precision),
        help=f"of the inverted source: float16, or that of the latents ({DEFAULT_PRECISION})",
    )
    group.add_argument(
        "--batch-size",
        type=int,
        metavar="N",
        help="frames in one pass of sampling, three times as many in one of inversion (4); halved "
        "where the memory is not enough",
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    _silence_libraries()
    try:
        given = vars(make_parser().parse_args(arguments))
        given.pop("command")
        overwrite, quiet = given.pop("overwrite", False), given.pop("quiet", False)
        _show_notices(quiet)
        config = given.pop("config", None)
        values = read_settings(Path(config)) if config else {}
        if "preset" in given:  # The file's steps are those of its own preset.
            values = {k: v for k, v in values.items() if k not in ("steps", "inversion_steps")}
        values |= given
        # A source on the command line replaces whichever kind of source the file has.
        for name, other in (("source", "guidance_prompt"), ("guidance_prompt", "source")):
            if name in given and other not in given:
                values.pop(other, None)
        result = run(make_settings(values), overwrite=overwrite, quiet=quiet)
    except InputError as error:
        return _fail(error, 2)
    except RunError as error:
        return _fail(error, 1)
    except OSError as error:
        return _fail(f"{error.filename}: {error.strerror}" if error.filename else error, 1)
    except KeyboardInterrupt:
        print("pnpvideo: stopped", file=sys.stderr)
        return 130
    if result.inversion is not None:
        print(
            f"inversion: the source comes back at {result.inversion.reconstruction:.1f} dB "
            f"(the autoencoder alone reaches {result.inversion.autoencoder:.1f} dB)"
        )
    for path in (*result.outputs, *result.compares):
        print(path)
    return 0


def _fail(error: object, code: int) -> int:
    print(f"pnpvideo: {' '.join(str(error).split())}", file=sys.stderr)
    return code


def _show_notices(quiet: bool) -> None:
    """What the package tells of a run, such as what it reuses, goes to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("pnpvideo: %(message)s"))
    log = logging.getLogger("pnpvideo")
    log.handlers = [handler]
    log.setLevel(logging.WARNING if quiet else logging.INFO)


def _silence_libraries() -> None:
    """Errors reach the user as one line of ours; the libraries' notices are for developers."""
    diffusers.utils.logging.set_verbosity(logging.CRITICAL)
    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity(logging.CRITICAL)
    transformers.utils.logging.disable_progress_bar()
    logging.getLogger("huggingface_hub").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore")
    warnings.filterwarnings("default", module=r"pnpvideo\.")
    warnings.showwarning = lambda message, *_, **__: print(f"pnpvideo: {message}", file=sys.stderr)
