"""The page's layout, and what belongs together in it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import gradio as gr

from pnpvideo.options.method import PRESETS
from pnpvideo.web.actions import Service
from pnpvideo.web.controls import MAIN, Controls, offered
from pnpvideo.web.tell import IDLE
from pnpvideo.web.thresholds import TAU_A

STYLE = """
.gradio-container { max-width: 1360px !important; }
.state { padding: 10px 14px; border-radius: 8px; background: var(--background-fill-secondary);
  border-left: 4px solid var(--border-color-primary); overflow-wrap: anywhere; }
.state.running, .state.waiting { border-left-color: var(--primary-500); }
.state.done { border-left-color: #16a34a; }
.state.failed { border-left-color: #dc2626; }
.state .bar { height: 6px; margin-top: 8px; border-radius: 3px; overflow: hidden;
  background: var(--border-color-primary); }
.state .bar div { height: 100%; background: var(--primary-500); transition: width .5s; }
#title p { margin: 0; opacity: .75; }
#history .caption-label, #samples .caption-label { font-size: 11px; }
@media (max-width: 700px) { #samples { max-height: 180px; } }
"""

# The server refuses these too, and the upload's component then says no more than "Error".
REFUSE = """<script>
for (const kind of ["change", "drop"]) document.addEventListener(kind, (event) => {
  if (!event.target.closest?.("#upload")) return;
  document.querySelector("#refused")?.remove();
  const file = (event.dataTransfer ?? event.target).files?.[0];
  if (!file) return;
  let why = "";
  if (/[\\\\/]/.test(file.name)) why = "%(leads_away)s";
  else if (file.size > %(limit)d * 2 ** 20)
    why = `has ${(file.size / 2 ** 20).toFixed(1)} MiB, and the limit here is %(limit)d; ` +
      "give a smaller one";
  if (!why) return;
  event.stopImmediatePropagation();
  event.preventDefault();
  const words = document.createElement("div");
  words.id = "refused";
  words.className = "state failed";
  words.textContent = `${file.name} ${why}`;
  document.querySelector("#facts").before(words);
}, true);
</script>"""


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The components that events read and write."""

    upload: gr.File
    first: gr.Image
    facts: gr.HTML
    samples: gr.Gallery
    editor: gr.ImageEditor
    move: gr.Button
    prompt: gr.Textbox
    negative: gr.Textbox
    preset: gr.Radio
    model: gr.Dropdown
    controls: Controls
    translate: gr.Button
    thresholds: gr.Button
    stop: gr.Button
    state: gr.HTML
    preview: gr.Image
    cells: gr.Gallery
    which: gr.Radio
    slider: gr.ImageSlider
    video: gr.Video
    files: gr.File
    history: gr.Gallery
    again: gr.Button


def lay_out(service: Service) -> Parts:
    """All of the page's parts, within the Blocks that are open."""
    gr.Markdown(
        "# pnpvideo\nTranslate a picture or a clip to what a text says, keeping its layout and "
        "motion.",
        elem_id="title",
    )
    with gr.Row():
        with gr.Column(scale=5, min_width=320):
            source = _source(service)
            texts = _texts(service)
            controls, part = _options(service)
        with gr.Column(scale=6, min_width=320):
            result = _result()
    return Parts(**source, **texts, **part, **result, controls=controls)


def _source(service: Service) -> dict[str, gr.components.Component]:
    with gr.Row():
        upload = gr.File(
            label=f"Picture or clip, up to {service.limits.frames} frames",
            file_types=["image", "video", ".heic", ".heif", ".mkv", ".ts", ".tif", ".tiff"],
            height=150,
            min_width=200,
            elem_id="upload",
        )
        first = gr.Image(
            label="its first frame",
            interactive=False,
            visible=False,
            height=150,
            min_width=120,
            buttons=[],
            elem_id="first",
        )
    facts = gr.HTML(elem_id="facts")
    samples = gr.Gallery(
        [(each.first, each.source.stem) for each in service.samples],
        label="or pick a sample",
        show_label=False,
        columns=7,
        fit_columns=False,
        height=150,
        allow_preview=False,
        object_fit="cover",
        visible=bool(service.samples),
        interactive=False,
        buttons=[],
        elem_id="samples",
    )
    return {"upload": upload, "facts": facts, "first": first, "samples": samples}


def _texts(service: Service) -> dict[str, gr.components.Component]:
    prompt = gr.Textbox(
        label="What the result shows",
        info="each line gives a result of its own",
        placeholder="a photo of a blue flower on snow",
        lines=2,
        elem_id="prompt",
    )
    negative = gr.Textbox(label="What it must not show", lines=1, elem_id="negative")
    with gr.Row():
        translate = gr.Button("Translate", variant="primary", scale=2, elem_id="translate")
        thresholds = gr.Button("Thresholds", scale=1, min_width=120, elem_id="thresholds")
        stop = gr.Button(
            "Stop", variant="stop", scale=1, min_width=90, interactive=False, elem_id="stop"
        )
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
    return parts | {"translate": translate, "thresholds": thresholds, "stop": stop}


def _options(service: Service) -> tuple[Controls, dict[str, gr.components.Component]]:
    models = service.models
    controlled = models.controlnet is not None
    controls = Controls(models.options[models.names[0]], controlled=controlled)
    with _pairs():
        for name in MAIN:
            controls.add(name)
    with gr.Accordion("Edit a part alone", open=False, elem_id="part"):
        gr.Markdown("Draw on the first frame what is to be edited; it moves with a clip.")
        editor = gr.ImageEditor(
            show_label=False,
            sources=(),
            transforms=(),
            layers=False,
            image_mode="RGBA",
            brush=gr.Brush(colors=["#ff4040"], color_mode="fixed"),
            height=360,
            elem_id="editor",
        )
        move = gr.Button("Show how it moves", size="sm", elem_id="move")
        with _pairs():
            for name in offered()["local edit"]:
                if name != "mask_motion":  # It comes with what is drawn.
                    controls.add(name)
    with gr.Accordion("More", open=False, elem_id="more"):
        for title, names in offered(controlled=controlled).items():
            rest = [] if title == "local edit" else [name for name in names if name not in MAIN]
            if rest:
                gr.Markdown(f"#### {title}")
                with _pairs():
                    for name in rest:
                        controls.add(name)
    return controls, {"editor": editor, "move": move}


@contextmanager
def _pairs() -> Iterator[None]:
    """Controls beside one another, as many as there is room for."""
    with gr.Row(equal_height=False, elem_classes="options"):
        yield


def _result() -> dict[str, gr.components.Component]:
    state = gr.HTML(IDLE, elem_id="state")
    preview = gr.Image(
        label="what it looks like so far", interactive=False, visible=False, height=280,
        buttons=[], elem_id="preview",
    )  # fmt: skip
    cells = gr.Gallery(
        label="tau_f (f) and tau_a (a): click to choose",
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
        label="Download: results, and the settings that repeat them", file_count="multiple",
        interactive=False, visible=False, elem_id="files",
    )  # fmt: skip
    history = gr.Gallery(
        label="Your runs", columns=5, fit_columns=False, height=200,
        allow_preview=False, object_fit="cover",
        interactive=False, visible=False, buttons=[], elem_id="history",
    )  # fmt: skip
    again = gr.Button("Again with these settings", visible=False, elem_id="again")
    shown = {"state": state, "preview": preview, "cells": cells, "which": which, "slider": slider}
    return shown | {"video": video, "files": files, "history": history, "again": again}
