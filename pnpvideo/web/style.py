"""The page's style sheet, and its script, which refuses uploads before they are sent."""

import gradio as gr

STYLE = """
.gradio-container { max-width: 1400px !important; }
.state { padding: 10px 14px; border-radius: 8px; background: var(--block-background-fill);
  border-left: 4px solid var(--border-color-primary); overflow-wrap: anywhere; }
.state.running, .state.waiting { border-left-color: var(--primary-500); }
.state.done { border-left-color: #16a34a; }
.state.failed { border-left-color: #dc2626; }
.state .of { opacity: .7; font-size: var(--text-sm); }
.state .bar { height: 6px; margin-top: 8px; border-radius: 3px; overflow: hidden;
  background: var(--border-color-primary); }
.state .bar div { height: 100%; background: var(--primary-500); transition: width .5s; }
#title p { margin: 0; opacity: .75; }
#upload .icon-wrap { display: none; }
#refusal:not(:has(.state)) { display: none; }
.options .form { display: grid; grid-template-columns: repeat(auto-fill, minmax(230px, 1fr));
  background: var(--block-background-fill); }
.options .head { position: relative; }
.options .head > div { position: absolute; top: -4px; right: 0; }
#samples .grid-wrap { min-height: 0; }
#samples .grid-container { grid-template-columns: repeat(auto-fill, minmax(66px, 1fr));
  grid-auto-rows: min-content; height: auto; }
#samples .thumbnail-item { aspect-ratio: 1; height: auto; }
#samples .caption-label { display: none; }
#history .caption-label, #cells .caption-label { font-size: 11px; }
#history .grid-wrap, #cells .grid-wrap { padding-top: 36px; }
#history .grid-wrap { min-height: 0; max-height: 300px; }
#cells .caption-label { left: 4px; right: 4px; max-width: none;
  padding: 1px 4px; white-space: normal; }
#cells .grid-wrap { min-height: 0; max-height: none; }
#cells .grid-container { grid-template-columns: repeat(var(--grid-cols), minmax(0, 1fr)); }
#history .grid-container { grid-template-columns: repeat(auto-fill, minmax(100px, 1fr)); }
#preview img { max-height: 300px; object-fit: contain; }
#files .label-clear-button { display: none; }
"""

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
        block_title_padding="0",
        checkbox_border_color="*neutral_400",
        layout_gap="12px",
    )
