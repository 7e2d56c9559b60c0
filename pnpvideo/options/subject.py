"""Settings shared by `visualize` and `grid`."""

from typing import Self

from pydantic import model_validator

from pnpvideo.options.method_settings import MethodSettings
from pnpvideo.options.model import ModelSettings
from pnpvideo.options.settings import (
    MachineSettings,
    SourceSettings,
    TextSettings,
    check_followed,
    check_negatives,
    check_subject,
)


# pydantic lists the options of the last class first.
class SubjectSettings(MachineSettings, ModelSettings, MethodSettings, TextSettings, SourceSettings):
    """A source, optional prompts, a model and how the machine is used."""

    @model_validator(mode="after")
    def _has_subject(self) -> Self:
        check_subject(self.source, self.guidance_prompt)
        check_negatives(len(self.negative_prompt), max(1, len(self.prompt)))
        check_followed(self.controlnet, self.control, self.control_image)
        return self
