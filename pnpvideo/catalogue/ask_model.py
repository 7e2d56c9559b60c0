"""The check before a run whether the model knows the words of the prompts."""

import contextlib
import logging
from collections.abc import Iterable, Iterator
from contextvars import ContextVar

from pnpvideo.catalogue.known_words import KnownWords, words_of_model
from pnpvideo.catalogue.unknown_words import notice_of_unknown, unknown_words
from pnpvideo.errors import InputError
from pnpvideo.options.model import ModelSettings

_log = logging.getLogger(__name__)

_TEXTS = ("prompt", "negative_prompt", "guidance_prompt", "inversion_prompt", "mask_from_prompt")
"""By the names of options: what a model reads as text."""

_is_warned: ContextVar[bool] = ContextVar("is_warned", default=False)


def words_for(settings: ModelSettings) -> KnownWords | None:
    """Return the words that the model of some settings knows; None if it has no list of words.

    LoRA and textual inversions teach a model words that its list does not have.
    """
    if settings.lora or settings.embedding:
        return None
    return words_of_model(settings.model)


def texts_of(run: object) -> tuple[str, ...]:
    """Return all texts that the model reads in a run, given as settings or as an `Edit`.

    Embeddings that are given in the place of texts are left out.
    """
    values = [getattr(run, name, None) for name in _TEXTS]
    texts = [value if isinstance(value, list | tuple) else [value] for value in values]
    return tuple(text for some in texts for text in some if isinstance(text, str))


def warn_of_unknown(texts: Iterable[str], known: KnownWords | None) -> None:
    """Log one warning about the words of texts that a model does not know, with what it draws.

    known: None for a model that does not list its words, which is not asked.
    """
    if known is None or _is_warned.get():
        return
    texts = tuple(texts)
    notice = notice_of_unknown(texts, known)
    if notice is None:
        return
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
