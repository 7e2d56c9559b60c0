"""The options of the method as they are given for a run."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from pnpvideo.options.declared import Lifetime
from pnpvideo.options.fit import check_dials
from pnpvideo.options.method import MethodOptions, PnPOptions, Preset


class MethodSettings(MethodOptions, title="method (defaults: the model's own, or the paper's)"):
    """The options of the method as given for a run; the model decides the others."""

    preset: Annotated[Preset | None, Lifetime.INVERSION] = Field(
        default=None,
        description="speed: fast and balanced use fewer steps (best); steps and other options "
        "override it",
        json_schema_extra={"brief": "speed: fast and balanced use fewer steps (best)"},
    )

    @model_validator(mode="after")
    def _one_dial(self) -> Self:
        check_dials(self.__dict__, self.model_fields_set)
        return self

    @model_validator(mode="before")
    @classmethod
    def _drop_none(cls, values: dict[str, object]) -> dict[str, object]:
        own = MethodOptions.model_fields
        return {k: v for k, v in values.items() if v is not None or k not in own}

    def affecting(self, part: Lifetime) -> dict[str, object]:
        """Return the options that change this part of a run or an earlier one, as JSON values.

        Options of the method that are not given are left out: they are the model's own.
        """
        left_open = MethodOptions.model_fields.keys() - self.model_fields_set
        values = super().affecting(part)
        return {name: value for name, value in values.items() if name not in left_open}

    def resolve(self, own: PnPOptions) -> PnPOptions:
        """Return the options of a run. own: the defaults of its model."""
        given = self.model_fields_set & set(MethodOptions.model_fields)
        return own.at(self.preset).override({name: getattr(self, name) for name in given})
