"""Options of `words`, which lists what a model knows."""

from typing import Annotated

from pydantic import BeforeValidator, Field

from pnpvideo.options.declared import Lifetime, Options, by_title
from pnpvideo.options.paths import plain_text
from pnpvideo.options.values import EMBEDDED_MODEL


class WordsOptions(Options, title="words"):
    """The words to list."""

    filter: Annotated[str | None, Lifetime.NOTHING] = Field(
        default=None,
        description="list only entries that contain this text, or one kind: things, looks, "
        "grounds, lights or styles (all)",
        json_schema_extra={"positional": True},
    )
    model: Annotated[str, BeforeValidator(plain_text), Lifetime.NOTHING] = Field(
        default=EMBEDDED_MODEL,
        description="the model, as in translate; its folder must hold a list, words.json",
        json_schema_extra={"format": "path or name", "metavar": "MODEL"},
    )


GROUPS = by_title(WordsOptions)
"""The options of `words` by title."""
