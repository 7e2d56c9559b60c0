"""Lay out the page."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import gradio as gr

from pnpvideo.options.method import PRESETS
from pnpvideo.web.actions import Service
from pnpvideo.web.controls import MAIN, Controls, offered
from pnpvideo.web.drawn_mask import drawing_editor
from pnpvideo.web.show import IDLE, PageParts, chosen
from pnpvideo.web.thresholds import TAU_A


def lay_out(service: Service) -> PageParts:
    """Add all parts of the page to the Blocks that are open."""
    gr.Markdown(
        "# pnpvideo\nTranslate a picture or a clip to what a text says, keeping its layout and "
        "motion.",
        elem_id="title",
    )
    with gr.Row():
        with gr.Column(scale=5, min_width=320):
            source = _source(service)
            texts = _texts(service)
            controls, options = _options(service)
        with gr.Column(scale=6, min_width=320):
            result = _result()
    return PageParts(**source, **texts, **options, **result, controls=controls)


def _source(service: Service) -> dict[str, gr.components.Component]:
    with gr.Row():
        upload = gr.File(
            label="Picture or clip",
            height=140,
            min_width=180,
            elem_id="upload",
        )
        first = gr.Image(
            show_label=False,
            interactive=False,
            visible=False,
            height=140,
            min_width=120,
            buttons=[],
            elem_id="first",
        )
    facts = gr.HTML(chosen(None, service.limits), elem_id="facts")
    samples = gr.Gallery(
        [(sample.first, sample.source.stem) for sample in service.samples],
        label="or pick a sample",
        show_label=False,
        height="auto",
        allow_preview=False,
        object_fit="cover",
        visible=bool(service.samples),
        interactive=False,
        buttons=[],
        elem_id="samples",
    )
    made = gr.Textbox(
        placeholder="or describe a picture, and the model generates it",
        show_label=False,
        lines=1,
        elem_id="made",
    )
    return {"upload": upload, "facts": facts, "first": first, "samples": samples, "made": made}


def _texts(service: Service) -> dict[str, gr.components.Component]:
    prompt = gr.Textbox(
        label="What the result should show",
        info="one result for each line",
        placeholder="a photo of a blue flower on snow",
        lines=2,
        elem_id="prompt",
    )
    negative = gr.Textbox(label="What it should not show", lines=1, elem_id="negative")
    translate = gr.Button("Translate", variant="primary", elem_id="translate")
    refusal = gr.HTML(elem_id="refusal")
    with gr.Row():
        preset = gr.Radio(
            [*reversed(PRESETS)], value="best", label="Speed", scale=3, elem_id="preset"
        )
        model = gr.Dropdown(
            service.models.names,
            value=service.models.names[0],
            label="Model",
            scale=2,
            visible=len(service.models.names) > 1,
            elem_id="model",
        )
    parts = {"prompt": prompt, "negative": negative, "preset": preset, "model": model}
    return parts | {"translate": translate, "refusal": refusal}


def _options(service: Service) -> tuple[Controls, dict[str, gr.components.Component]]:
    models = service.models
    controlled = models.controlnet is not None
    controls = Controls(models.options[models.names[0]], controlled=controlled)
    with _pairs():
        for name in MAIN:
            controls.add(name)
    thresholds = gr.Button(
        "Compare values of tau_f and tau_a on the first frame", size="sm", elem_id="thresholds"
    )
    with gr.Accordion("Edit only a part", open=False, elem_id="part"):
        gr.Markdown(
            "Draw on the first frame over what should be edited. "
            "In a clip, the drawing moves along."
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
        move = gr.Button("Show how it moves", size="sm", elem_id="move")
        with _pairs():
            for name in offered()["local edit"]:
                if name != "mask_motion":  # It is set when something is drawn.
                    controls.add(name)
    with gr.Accordion("More", open=False, elem_id="more"):
        for title, names in offered(controlled=controlled).items():
            rest = [] if title == "local edit" else [name for name in names if name not in MAIN]
            if rest:
                gr.Markdown(f"#### {title}")
                with _pairs():
                    for name in rest:
                        controls.add(name)
    return controls, {"thresholds": thresholds, "editor": editor, "move": move}


def brush(radius: int | Literal["auto"]) -> gr.Brush:
    """Return a brush of this radius, in pixels of the picture."""
    return gr.Brush(default_size=radius, colors=["#ff4040"], color_mode="fixed")


@contextmanager
def _pairs() -> Iterator[None]:
    """Place the controls within side by side, as many as fit."""
    with gr.Row(elem_classes="options"):
        yield


def _result() -> dict[str, gr.components.Component]:
    state = gr.HTML(IDLE, elem_id="state")
    stop = gr.Button("Stop", variant="stop", size="sm", visible=False, elem_id="stop")
    preview = gr.Image(
        label="the result so far", interactive=False, visible=False, buttons=[],
        elem_id="preview",
    )  # fmt: skip
    cells = gr.Gallery(
        label="tau_f (f) and tau_a (a): click one to use it",
        columns=len(TAU_A),
        height="auto",
        allow_preview=False,
        interactive=False,
        visible=False,
        buttons=[],
        elem_id="cells",
    )
    which = gr.Radio(label="Result", visible=False, elem_id="which")
    slider = gr.ImageSlider(
        label="source and result", interactive=False, visible=False, max_height=560, format="png",
        elem_id="slider",
    )  # fmt: skip
    video = gr.Video(
        label="source and result", interactive=False, visible=False, autoplay=True, loop=True,
        elem_id="video",
    )  # fmt: skip
    files = gr.File(
        label="Download the results, and the settings to repeat them", file_count="multiple",
        interactive=False, visible=False, elem_id="files",
    )  # fmt: skip
    again = gr.Button("Use these settings again", size="sm", visible=False, elem_id="again")
    history = gr.Gallery(
        label="Your runs, newest first", height="auto", allow_preview=False, object_fit="cover",
        interactive=False, visible=False, buttons=[], elem_id="history",
    )  # fmt: skip
    shown = {"state": state, "stop": stop, "preview": preview, "cells": cells, "which": which}
    shown |= {"slider": slider}
    return shown | {"video": video, "files": files, "history": history, "again": again}
