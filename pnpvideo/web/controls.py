"""Build the page's controls from the declarations of the options."""

import re
from collections.abc import Mapping, Sequence
from functools import cache

import gradio as gr

from pnpvideo.errors import InputError
from pnpvideo.options.adapter import AdapterSettings
from pnpvideo.options.declared import Schema, accepted, declared
from pnpvideo.options.method import PnPOptions
from pnpvideo.options.model import ModelSettings
from pnpvideo.options.settings import GROUPS, MachineSettings

MAIN = ("tau_f", "tau_a", "guidance_scale", "noise_share")
"""The options that are shown first; all others are under "All options"."""

_IN_WORDS = {
    "tau_f": ("Keep shapes", "Lower values change the shapes of the source more"),
    "tau_a": ("Keep outlines", "Lower values change the layout more"),
    "guidance_scale": (
        "Follow the text",
        "How strongly: 1 is mild, 3 to 10 is usual; colours glare above",
    ),
    "strength": (
        "Strength",
        "How far the result may go from the source, 0 to 1 (the method's own)",
    ),
    "noise_share": ("New colours", "Higher values keep less of the source's light and colours"),
    "frames": ("Frames", "At most this many (all)"),
    "stride": ("Every n-th frame", "2 uses every second frame"),
    "background": ("Background", "Behind a transparent source (white)"),
    "size": ("Working size", "Such as 512x384 (about the size that the model was trained for)"),
    "invert_mask": ("Invert", "Edit everything but the drawing"),
    "mask_feather": ("Soft edge", "Over how many pixels the edit fades in"),
    "mask_from_prompt": ("Or name the part", "Such as “the dog”, in place of a drawing"),
    "blend_radius": ("Reduce flicker", "Average each frame with this many on either side; 0: none"),
    "steps": ("Steps", "More take longer and are finer"),
    "prompt": ("What the result should show", "One result for each line"),
    "negative_prompt": ("What it should not show", "Only for models that use guidance"),
    "guidance_prompt": ("In place of a source", "Describe a picture, and the model makes it"),
    "preset": ("Quality", "Fewer steps are faster"),
}
"""By option: its name in plain words, and a hint. Others have the declared ones."""
WORDS = "What the model knows"
"""The title of the section with the words of a model."""

# Placed by hand, or not useful to a visitor.
_OTHERWISE = {
    "prompt", "negative_prompt", "preset", "guidance_prompt", "compare", "check_inversion",
    "reader", "max_pixels", "max_frames", "mask_label",
}  # fmt: skip
_SLIDER = 2
"""The largest maximum of an option that has a slider: larger ones are easier typed."""
# Only useful with a ControlNet.
_OF_CONTROL = {"control", "control_scale", "control_end"}


def offered(*, controlled: bool = False) -> dict[str, dict[str, Schema]]:
    """Return the options that visitors choose, by group: no files, models or machine settings.

    controlled: whether the models have a ControlNet.
    """
    left_out = _OTHERWISE if controlled else _OTHERWISE | _OF_CONTROL
    return {
        title.partition(" (")[0].capitalize(): {
            name: schema
            for name, schema in declared(group).items()
            if name not in left_out and not schema.get("format", "").startswith("path")
        }
        for title, group in GROUPS.items()
        if group not in (AdapterSettings, ModelSettings, MachineSettings)
    }


def in_page_words(text: str) -> str:
    """Return a message with what the page calls options, in place of their names and flags."""
    return _named().sub(lambda found: f"“{_called(found[0])}”", text)


def _called(found: str) -> str:
    return WORDS if " " in found else label_of(found.removeprefix("--").replace("-", "_"))


@cache
def _named() -> re.Pattern[str]:
    """Return a pattern of options in messages.

    Names that are also English words count where a message begins with them.
    """
    groups = offered(controlled=True).values()
    names = {name for group in groups for name in group} | {"prompt", "negative_prompt"}
    names |= {"guidance_prompt", "preset"}
    flags = "|".join(name.replace("_", "-") for name in names)
    technical = "|".join(name for name in names if "_" in name)
    plain = "|".join(name for name in names if "_" not in name)
    return re.compile(
        rf"--(?:{flags})(?![\w-])|(?<!\w)(?:{technical})(?!\w)|^(?:{plain})(?= (?:is|has)\b)"
        r"|pnpvideo words(?: --model (?:'.*'|\S+))?(?= lists)"
    )


class Controls:
    """The components by option, in the order in which they were added."""

    def __init__(self, own: PnPOptions, *, controlled: bool = False) -> None:
        """own: the options of the model that is chosen at first. controlled: as in `offered`."""
        groups = offered(controlled=controlled).values()
        self._schemas = {name: schema for group in groups for name, schema in group.items()}
        self._own = own
        self.components: dict[str, gr.components.Component] = {}

    def add(self, name: str) -> None:
        """Add the control of an option at the current place of the layout."""
        value = self.defaults(self._own)[name]
        self.components[name] = _component(name, self._schemas[name], value)

    def defaults(self, own: PnPOptions) -> dict[str, object]:
        """Return what the controls show at first: the model's own values, or the declared ones."""
        plain: dict[str, object] = {}
        for group in GROUPS.values():
            plain |= group().plain()
        plain |= own.plain()
        return {name: plain[name] for name in self._schemas}

    def shown(self, values: Mapping[str, object], own: PnPOptions) -> list[object]:
        """Return what the controls show for settings, in the order of the controls."""
        all_values = self.defaults(own) | dict(values)
        return [_to_text(all_values[name]) for name in self.components]

    def given(self, shown: Sequence[object], own: PnPOptions) -> dict[str, object]:
        """Return the options that differ from the defaults. InputError if a number is missing."""
        defaults, chosen = self.defaults(own), {}
        for (name, schema), value in zip(self._ordered(), shown, strict=True):
            if value in (None, ""):
                if schema.get("type") in ("integer", "number") and defaults[name] is not None:
                    raise InputError(f"{name} is empty; give {accepted(schema)}")
                continue
            value = _number(value, schema)
            if value != defaults[name]:
                chosen[name] = value
        return chosen

    def _ordered(self) -> list[tuple[str, Schema]]:
        return [(name, self._schemas[name]) for name in self.components]


def lines(text: object) -> list[str]:
    """Split a text into its lines, without the empty ones.

    text: what a browser sent; None for a field that nobody has written in.
    """
    return [line.strip() for line in str(text or "").splitlines() if line.strip()]


def _to_text(value: object) -> object:
    return "\n".join(map(str, value)) if isinstance(value, list | tuple) else value


def _number(value: object, schema: Schema) -> object:
    """Convert a value to the declared type of number; if that fails, leave it to the check."""
    kind = {"integer": int, "number": float}.get(schema.get("type", ""))
    try:
        number = value if kind is None else kind(str(value))
    except ValueError:
        return value
    return number


def label_of(name: str) -> str:
    """Return what an option is called on the page."""
    return _IN_WORDS[name][0] if name in _IN_WORDS else name.replace("_", " ").capitalize()


def hint_of(name: str, description: str = "") -> str:
    """Return what an option does, with its technical name for those who know it."""
    text = _IN_WORDS[name][1] if name in _IN_WORDS else description
    return f"{text[0].upper()}{text[1:]} · {name}"


def _component(name: str, schema: Schema, value: object) -> gr.components.Component:
    common: dict[str, object] = {
        "label": label_of(name),
        "info": hint_of(name, schema["description"]),
    }
    common |= {"elem_id": f"option-{name}", "value": value, "min_width": 200}
    kind = schema.get("type")
    if kind == "boolean":
        return gr.Checkbox(**common)
    if "enum" in schema:
        free = [("the model's or the paper's choice", "")] if schema["default"] is None else []
        choices = [*free, *((item, item) for item in schema["enum"])]
        return gr.Dropdown(choices, **common | {"value": "" if value is None else value})
    if kind in ("integer", "number") and value is not None:
        low, high = schema.get("minimum"), schema.get("maximum")
        if kind == "number" and low is not None and high is not None and high <= _SLIDER:
            return gr.Slider(low, high, step=0.01, **common)
        return gr.Number(precision=0 if kind == "integer" else None, **common)
    return gr.Textbox(placeholder=schema.get("form"), **common | {"value": value or ""})
