"""What a grid tries its values on."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Edit:
    """A source, None where the model makes it, and what it is translated to.

    name: what its results are called.
    """

    name: str
    source: str | None
    prompts: tuple[str, ...]
