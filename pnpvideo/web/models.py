"""Load the models that visitors choose from, one at a time."""

import gc
import math
from collections.abc import Sequence

from pnpvideo.catalogue.known_words import KnownWords, words_of_model
from pnpvideo.errors import InputError
from pnpvideo.models.autoencoder import working_size
from pnpvideo.models.model import Model
from pnpvideo.options.method import PnPOptions
from pnpvideo.options.model import ModelSettings
from pnpvideo.options.paths import expanded
from pnpvideo.run.opening import open_model


class Models:
    """The models by their names on the page."""

    def __init__(
        self, models: Sequence[str], device: str | None, controlnet: str | None = None
    ) -> None:
        """Load each model once, so that a wrong one fails at the start, with InputError.

        controlnet: used with each of them.
        """
        self.controlnet = None if controlnet is None else _shown(controlnet)
        self._settings = {
            _shown(model): ModelSettings(model=model, device=device, controlnet=controlnet)
            for model in models
        }
        self._loaded: tuple[str, Model] | None = None
        defaults: dict[str, PnPOptions] = {}
        self._sizes: set[tuple[float, int, int]] = set()
        for name in reversed(self._settings):
            model = self.load(name)
            defaults[name] = model.defaults
            side = math.sqrt(math.prod(model.default_size))
            self._sizes.add((side, model.multiple, model.longest_side))
        self.options = {name: defaults[name] for name in self._settings}

    @property
    def names(self) -> list[str]:
        return list(self._settings)

    def settings(self, name: str) -> dict[str, object]:
        """Return the settings that choose a model."""
        return {"model": self._settings[name].model, "device": self._settings[name].device}

    def known_words(self) -> dict[str, KnownWords | None]:
        """Return the words that each model lists, by its name on the page; None without a list."""
        return {name: words_of_model(own.model) for name, own in self._settings.items()}

    def working_size(self, width: int, height: int) -> tuple[int, int] | None:
        """Return the size at which every model draws a source of (width, height).

        None if they differ, or if one cannot draw a source of these proportions.
        """
        try:
            found = {
                working_size(width, height, side, multiple, longest=longest)
                for side, multiple, longest in self._sizes
            }
        except InputError:
            return None
        return found.pop() if len(found) == 1 else None

    def load(self, name: str) -> Model:
        """Return a model, loading it if another one was used last."""
        if self._loaded is None or self._loaded[0] != name:
            self._loaded = None  # Two may be more than the memory holds.
            gc.collect()
            self._loaded = (name, open_model(self._settings[name]))
        return self._loaded[1]


def _shown(model: str) -> str:
    """Return the name of a model without its folder, which is not for visitors."""
    path = expanded(model)
    return path.resolve().name if path.exists() else model
