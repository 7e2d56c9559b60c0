"""What a model is asked before a run: whether it knows the words of the prompts."""

import contextlib
import logging
from collections.abc import Iterable, Iterator
from contextvars import ContextVar

from pnpvideo.catalogue.known_words import KnownWords, words_of_model
from pnpvideo.catalogue.unknown_words import notice_of_unknown, unknown_words
from pnpvideo.errors import InputError
from pnpvideo.options.declared import Options
from pnpvideo.options.mask import MaskOptions
from pnpvideo.options.model import ModelSettings
from pnpvideo.options.settings import SourceSettings, TextSettings

_log = logging.getLogger(__name__)


_is_warned: ContextVar[bool] = ContextVar("is_warned", default=False)


def words_for(settings: ModelSettings) -> KnownWords | None:
    """Return the words that the model of some settings knows; None if that is not listed.

    LoRA and textual inversions teach a model words that its list does not have.
    """
    if settings.lora or settings.embedding:
        return None
    return words_of_model(settings.model)


def texts_of(settings: Options) -> tuple[str, ...]:
    """Return all texts of a run that its model reads."""
    texts: list[str] = []
    if isinstance(settings, TextSettings):
        texts += [*settings.prompt, *settings.negative_prompt]
    if isinstance(settings, SourceSettings):
        texts += [settings.guidance_prompt or "", settings.inversion_prompt]
    if isinstance(settings, MaskOptions):
        texts.append(settings.mask_from_prompt or "")
    return tuple(texts)


def warn_of_unknown(texts: Iterable[str], known: KnownWords | None) -> None:
    """Log one warning about the words of texts that a model does not know.

    known: None for a model that does not list its words, which is not asked.
    """
    if known is None or _is_warned.get():
        return
    texts = tuple(texts)
    notice = notice_of_unknown(texts, known)
    if notice is not None:
        found = {one.word: one.nearest for text in texts for one in unknown_words(text, known)}
        _log.warning("%s", notice, extra={"details": {"unknown_words": found}})


@contextlib.contextmanager
def warned_before() -> Iterator[None]:
    """Log no such warnings within a context, since they have been logged for its texts."""
    token = _is_warned.set(True)
    try:
        yield
    finally:
        _is_warned.reset(token)


def notice_for(settings: ModelSettings) -> str | None:
    """Return the line that a run with these settings logs about unknown words; None: none."""
    return notice_of_unknown(texts_of(settings), words_for(settings))


def warn_of_sources(guidance_prompt: str | None, known: KnownWords | None) -> None:
    """Log a warning where `check_makes_sources` would refuse a run."""
    try:
        check_makes_sources(guidance_prompt, known)
    except InputError as error:
        _log.warning("%s", error)


def check_makes_sources(guidance_prompt: str | None, known: KnownWords | None) -> None:
    """Raise InputError for a text to make a source from, if the model's file says it cannot."""
    if guidance_prompt is not None and known is not None and not known.makes_sources:
        raise InputError(
            "this model cannot make a source from words; give a source instead of "
            "guidance_prompt, or a model that can, such as sd15"
        )
