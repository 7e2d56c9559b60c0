"""The page's style sheet, and its scripts: what Gradio has no event for."""

from pathlib import Path

import gradio as gr

STYLE = (Path(__file__).parent / "style.css").read_text(encoding="utf-8")

# The server refuses uploads too, but then the upload's component only says "Error".
REFUSE = """<script>
const refuseUpload = (why) => {
  document.querySelector("#refused")?.remove();
  if (!why) return;
  const words = document.createElement("div");
  words.id = "refused";
  words.className = "state failed";
  words.textContent = why;
  document.querySelector("#facts").before(words);
};
const ask = window.fetch;
window.fetch = async (...given) => {
  const answer = await ask(...given);
  const upload = String(given[0]?.url ?? given[0]).includes("/gradio_api/upload?");
  if (upload && !answer.ok) answer.clone().text().then(refuseUpload);
  return answer;
};
for (const kind of ["change", "drop"]) document.addEventListener(kind, (event) => {
  if (!event.target.closest?.("#upload")) return;
  refuseUpload("");
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
  refuseUpload(`${file.name} ${why}`);
}, true);
</script>"""

# Gradio centres a drawing that the server sends within the canvas of the brush. That is of the
# picture before, or 800 x 800 at first.
PLACE_DRAWINGS = """<script>
let drawingEditor;
Object.defineProperty(window, "editor", {
  get: () => drawingEditor,
  set: (editor) => {
    drawingEditor = editor;
    const add = editor.add_layers_from_url;
    editor.add_layers_from_url = async (...given) => {
      const size = () => ({width: editor.width, height: editor.height});
      editor.image_container.getLocalBounds = size;
      await add.apply(editor, given);
      delete editor.image_container.getLocalBounds;
    };
    // The server has the picture, and Gradio sends all that is drawn whenever a part of the page
    // appears or goes.
    const whole = editor.get_blobs.bind(editor);
    editor.get_blobs = async () => ({...await whole(), background: null, composite: null});
  },
});
</script>"""

# Gradio's own events of the editor would send the drawing after each stroke and with each answer.
# What is lost with the page is asked about.
FOLLOW = """<script>
const notRun = new Set();
document.addEventListener("pointerdown", (event) => {
  if (!event.target.closest?.("#editor canvas")) return;
  notRun.add("drawing");
  // Before the end of the stroke, it would move the canvas below the pointer.
  const forget = () => document.querySelector("#refusal").classList.add("out-of-date");
  document.addEventListener("pointerup", forget, {once: true, capture: true});
}, true);
for (const kind of ["change", "drop"]) document.addEventListener(kind, (event) => {
  if (event.target.closest?.("#upload")) notRun.add("source");
});
document.addEventListener("click", (event) => {
  const clicked = (what) => event.target.closest?.(what);
  if (clicked("#upload button[aria-label='Clear']")) notRun.clear();
  if (clicked("#clear-mask, #clear-within")) notRun.delete("drawing");
  if (clicked("#clear-mask, #clear-within, #samples button, #hero button, #again")) hold();
}, true);
// Until the server has answered, a run would be given what was there before.
const disable = (disabled) => {
  const runs = "#translate, #translate-below, #thresholds, #move";
  for (const button of document.querySelectorAll(runs)) button.disabled = disabled;
};
let waiting;
const release = () => { clearTimeout(waiting); disable(false); };
const hold = () => {
  disable(true);
  // The server is not asked again if the same sample is clicked twice, so wait no longer than this.
  clearTimeout(waiting);
  waiting = setTimeout(release, 3000);
};
window.addEventListener("beforeunload", (event) => { if (notRun.size) event.preventDefault(); });
</script>"""


def theme() -> gr.themes.Base:
    """Return gradio's Soft theme with plain labels and visible boxes."""
    soft = gr.themes.Soft(
        # The default fonts come from another server, which would see every visitor.
        font=["system-ui", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
    )
    label = {
        f"block_{part}_{what}{dark}": value
        for part in ("title", "label")
        for what, value in (
            ("background_fill", "*block_background_fill"),
            ("text_color", "*body_text_color"),
        )
        for dark in ("", "_dark")
    }
    return soft.set(
        **label,
        body_background_fill="*neutral_50",
        block_info_text_color="*neutral_500",
        link_text_color_dark="*secondary_300",
        block_title_padding="0",
        checkbox_border_color="*neutral_400",
        layout_gap="12px",
    )
