"""Lay out the page: what to make at the left, what there is to see at the right.

In a narrow window everything is in one column, with the samples right below the source, and the
result right below the button.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from typing import Literal

import gradio as gr

from pnpvideo.pixels.show_mask import TINT
from pnpvideo.web.actions import Service
from pnpvideo.web.controls import MAIN, WORDS, Controls, hint_of, label_of, offered
from pnpvideo.web.drawn_mask import drawing_editor
from pnpvideo.web.show import CELLS_LABEL, IDLE, PageParts, chosen
from pnpvideo.web.thresholds import TAU_A

_COLOUR = "#ff4040"
_CLEAR = "Clear the mask"
_MOVING = 3
"""The samples that take turns at the right before anything is made."""


@dataclass(frozen=True, kw_only=True)
class Heading:
    """The title of the page, and the text below it, in Markdown."""

    title: str = "pnpvideo"
    about: str = ""


Parts = dict[str, gr.blocks.Block]


def lay_out(service: Service, heading: Heading) -> PageParts:
    """Add all parts of the page to the Blocks that are open."""
    gr.HTML(
        f"<h1>{escape(heading.title)}</h1><p>Translate a picture or a clip into what a text says, "
        "keeping its layout and motion.</p>",
        elem_id="title",
    )
    if heading.about:
        gr.Markdown(heading.about, elem_id="about")
    with gr.Row(elem_id="main"):
        with gr.Column(elem_id="make", min_width=0):
            make = _source(service) | _texts(service)
        with gr.Column(elem_id="show", min_width=0):
            show = _result() | _samples(service)
        with gr.Column(elem_id="adjust-column", min_width=0):
            controls, options = _options(service)
            words = _words(service)
            below = {"translate_below": _translate("translate-below")}
    return PageParts(**make, **options, **words, **below, **show, controls=controls)


def _source(service: Service) -> Parts:
    with gr.Row(elem_id="source"):
        upload = gr.File(label="Picture or clip", height=130, min_width=160, elem_id="upload")
        first = gr.Image(
            show_label=False, interactive=False, visible=False, height=130, min_width=120,
            buttons=[], elem_id="first",
        )  # fmt: skip
        clip = gr.Video(
            show_label=False, interactive=False, visible=False, height=130, min_width=120,
            autoplay=True, loop=True, buttons=[], elem_id="clip",
        )  # fmt: skip
    facts = gr.HTML(chosen(None, service.limits), elem_id="facts")
    return {"upload": upload, "facts": facts, "first": first, "clip": clip}


def _texts(service: Service) -> Parts:
    chips = service.words.chips(service.models.names[0], "")
    prompt = gr.Textbox(
        label=label_of("prompt"),
        info="One result for each line",
        placeholder=chips[0][1] if chips else "",
        lines=2,
        elem_id="prompt",
    )
    examples = gr.Dataset(
        components=[gr.Textbox(visible=False)],
        samples=[[text] for _, text in chips],
        sample_labels=[label for label, _ in chips],
        show_label=False,
        visible=bool(chips),
        elem_id="chips",
    )
    hint = gr.HTML(elem_id="hint")
    translate = _translate("translate")
    refusal = gr.HTML(elem_id="refusal")
    parts = {"prompt": prompt, "chips": examples, "hint": hint}
    return parts | {"translate": translate, "refusal": refusal}


def _translate(name: str) -> gr.Button:
    return gr.Button("Translate", variant="primary", size="lg", elem_id=name)


def _options(service: Service) -> tuple[Controls, Parts]:
    models = service.models
    controlled = models.controlnet is not None
    controls = Controls(models.options[models.names[0]], controlled=controlled)
    with gr.Accordion("Adjust", open=False, elem_id="adjust"):
        parts = _main_options(service, controls)
        with gr.Accordion("All options", open=False, elem_id="more"):
            for title, names in offered(controlled=controlled).items():
                elsewhere = MAIN if title != "Local edit" else names
                rest = [name for name in names if name not in elsewhere]
                if rest:
                    gr.Markdown(f"#### {title}")
                    with _pairs():
                        for name in rest:
                            controls.add(name)
    with gr.Accordion("Edit only a part", open=False, elem_id="part") as part:
        parts |= _local_edit(controls)
    clear = gr.Button(_CLEAR, size="sm", visible=False, elem_id="clear-mask")
    return controls, parts | {"part": part, "clear_mask": clear}


def _main_options(service: Service, controls: Controls) -> Parts:
    models = service.models
    first = models.names[0]
    preset = gr.Radio(
        service.paces.choices(first, models.options[first], 1),
        value="best",
        label=label_of("preset"),
        info=hint_of("preset"),
        elem_id="preset",
    )
    with _pairs():
        for name in MAIN:
            controls.add(name)
    thresholds = gr.Button(
        "Compare shapes and outlines on the first frame", size="sm", elem_id="thresholds"
    )
    negative = gr.Textbox(
        label=label_of("negative_prompt"),
        info=hint_of("negative_prompt"),
        lines=1,
        elem_id="negative",
    )
    made = gr.Textbox(
        label=label_of("guidance_prompt"),
        info=hint_of("guidance_prompt"),
        lines=1,
        visible=service.words.makes_sources(first),
        elem_id="made",
    )
    model = gr.Dropdown(
        models.names, value=first, label="Model", visible=len(models.names) > 1, elem_id="model"
    )
    parts = {"preset": preset, "thresholds": thresholds, "negative": negative}
    return parts | {"made": made, "model": model}


def _local_edit(controls: Controls) -> Parts:
    gr.Markdown(
        "Draw on the first frame over what should be edited; the arrow undoes a stroke. "
        "In a clip, the drawing moves with the source."
    )
    editor = drawing_editor(
        show_label=False,
        sources=(),
        transforms=(),
        layers=False,
        image_mode="RGBA",
        format="png",  # What `mask_of` reads.
        brush=brush("auto"),
        height=360,
        elem_id="editor",
    )
    with _pairs():
        for name in offered()["Local edit"]:
            if name != "mask_motion":  # It is set when something is drawn.
                controls.add(name)
    hint = gr.HTML(elem_id="part-hint")
    with gr.Row():
        move = gr.Button(show_mask_label(1), size="sm", elem_id="move")
        clear = gr.Button(_CLEAR, size="sm", elem_id="clear-within")
    return {"editor": editor, "part_hint": hint, "move": move, "clear_within": clear}


def _words(service: Service) -> Parts:
    model = service.models.names[0]
    kinds = service.words.kinds(model)
    with gr.Accordion(WORDS, open=False, visible=service.words.is_of_use, elem_id="words"):
        gr.Markdown("Click a picture to add its word to the text.")
        with gr.Row():
            part = gr.Textbox(placeholder="Find a word", show_label=False, elem_id="find-word")
            kind = gr.Radio(
                [(kind.capitalize(), kind) for kind in kinds],
                value=kinds[0] if kinds else None,
                show_label=False,
                elem_id="kind",
            )
        entries = service.words.find(model, kinds[0] if kinds else "", "")
        known = gr.Gallery(
            service.words.pictures(model, entries), label="Words", show_label=False,
            height="auto", allow_preview=False, interactive=False, buttons=[], elem_id="known",
            elem_classes="captioned",
        )  # fmt: skip
    return {"word_part": part, "word_kind": kind, "known": known}


def show_mask_label(count: int) -> str:
    """Return what the button says that shows a mask. count: the source's number of frames."""
    return "Show how the mask moves" if count > 1 else "Show what will be edited"


def brush(radius: int | Literal["auto"]) -> gr.Brush:
    """Return a brush of this radius, in pixels of the picture, that lets the picture through."""
    return gr.Brush(default_size=radius, colors=[(_COLOUR, TINT)], color_mode="fixed")


@contextmanager
def _pairs() -> Iterator[None]:
    """Place the controls within side by side, as many as fit."""
    with gr.Row(elem_classes="options"):
        yield


def _result() -> Parts:
    state = gr.HTML(IDLE, elem_id="state")
    stop = gr.Button("Stop", variant="stop", size="sm", visible=False, elem_id="stop")
    preview = gr.Image(
        label="The result so far", interactive=False, visible=False, buttons=[],
        elem_id="preview",
    )  # fmt: skip
    cells = gr.Gallery(
        label=CELLS_LABEL,
        columns=len(TAU_A),
        height="auto",
        allow_preview=False,
        interactive=False,
        visible=False,
        buttons=[],
        elem_id="cells",
        elem_classes="captioned",
    )
    which = gr.Radio(label="Result", visible=False, elem_id="which")
    slider = gr.ImageSlider(
        label="Source and result", interactive=False, visible=False, max_height=560, format="png",
        elem_id="slider",
    )  # fmt: skip
    video = gr.Video(
        label="Source and result", interactive=False, visible=False, autoplay=True, loop=True,
        elem_id="video",
    )  # fmt: skip
    files = gr.File(
        label="Download the results, and the settings to repeat them", file_count="multiple",
        interactive=False, visible=False, elem_id="files",
    )  # fmt: skip
    again = gr.Button("Use these settings", size="sm", visible=False, elem_id="again")
    history = gr.Gallery(
        label="Your runs, newest first", height="auto", allow_preview=False, object_fit="contain",
        interactive=False, visible=False, buttons=[], elem_id="history", elem_classes="captioned",
    )  # fmt: skip
    shown = {"state": state, "stop": stop, "preview": preview, "cells": cells, "which": which}
    shown |= {"slider": slider}
    return shown | {"video": video, "files": files, "history": history, "again": again}


def _samples(service: Service) -> Parts:
    """Add the samples: some in turn, from source to result and back, and all as cards."""
    cards = [(sample.card, sample.prompt) for sample in service.samples if sample.card is not None]
    turns = cards[:_MOVING] if len(cards) >= _MOVING else cards[:1]
    hero = gr.Gallery(
        # Each twice: one shows the half with the source, the other the half with the result.
        [item for card, text in turns for item in ((str(card), ""), (str(card), text))],
        label="Example",
        height="auto",
        allow_preview=False,
        interactive=False,
        visible=bool(turns),
        buttons=[],
        elem_id="hero",
        elem_classes="in-turn" if len(turns) > 1 else "",
    )
    samples = gr.Gallery(
        [
            (str(sample.card) if sample.card else sample.first, sample.prompt or sample.source.stem)
            for sample in service.samples
        ],
        label="Try one of these: source and result",
        height="auto",
        allow_preview=False,
        visible=bool(service.samples),
        interactive=False,
        buttons=[],
        elem_id="samples",
        elem_classes=["captioned", *(["cards"] if cards else [])],
    )
    return {"hero": hero, "samples": samples}
