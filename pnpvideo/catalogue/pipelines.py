"""The pipelines of diffusers that a model's folder may name, and which of them can be run."""

from collections.abc import Mapping

FLOW: Mapping[str, str] = {
    "StableDiffusion3Pipeline": "Stable Diffusion 3",
    "FluxPipeline": "FLUX.1",
    "QwenImagePipeline": "Qwen-Image",
    "ZImagePipeline": "Z-Image",
    "Flux2Pipeline": "FLUX.2",
    "Flux2KleinPipeline": "FLUX.2 klein",
    "WanPipeline": "Wan",
}
"""The pipelines of flow-matching transformers that can be run, with the names of their models."""

SUPPORTED = "a Stable Diffusion, FLUX, Qwen-Image, Z-Image or Wan model (docs/which-model.md)"
"""The models that messages suggest in place of another one."""

OTHERS: Mapping[str, str] = {
    "FluxKontextPipeline": "an editor that reads the source picture beside the prompt (Kontext)",
    "FluxKontextInpaintPipeline": "an editor that reads the source picture (Kontext)",
    "FluxFillPipeline": "a model that fills holes in pictures (Fill)",
    "FluxControlPipeline": "a model that follows edges or depth (Control)",
    "FluxControlImg2ImgPipeline": "a model that follows edges or depth (Control)",
    "FluxControlInpaintPipeline": "a model that follows edges or depth (Control)",
    "FluxControlNetPipeline": "a pipeline with a ControlNet",
    "FluxControlNetImg2ImgPipeline": "a pipeline with a ControlNet",
    "FluxControlNetInpaintPipeline": "a pipeline with a ControlNet",
    "FluxPriorReduxPipeline": "an adapter that reads pictures (Redux), without a transformer",
    "StableDiffusion3ControlNetPipeline": "a pipeline with a ControlNet",
    "StableDiffusion3ControlNetInpaintingPipeline": "a pipeline with a ControlNet",
    "QwenImageEditPipeline": "an editor that reads the source picture beside the prompt",
    "QwenImageEditPlusPipeline": "an editor that reads source pictures beside the prompt",
    "QwenImageEditInpaintPipeline": "an editor that reads the source picture beside the prompt",
    "QwenImageLayeredPipeline": "a model that takes pictures apart into layers",
    "QwenImageControlNetPipeline": "a pipeline with a ControlNet",
    "QwenImageControlNetInpaintPipeline": "a pipeline with a ControlNet",
    "ZImageControlNetPipeline": "a pipeline with a ControlNet",
    "ZImageControlNetInpaintPipeline": "a pipeline with a ControlNet",
    "ZImageOmniPipeline": "an editor that reads source pictures beside the prompt",
    "Flux2KleinKVPipeline": "an editor that keeps what it reads of reference pictures",
    "WanImageToVideoPipeline": "a model of videos that reads a first frame (I2V)",
    "WanVACEPipeline": "an editor of videos that reads the source beside the prompt (VACE)",
    "WanAnimatePipeline": "a model that moves a person's picture as a video shows (Animate)",
    "LTXPipeline": "another model of videos",
    "LTXConditionPipeline": "another model of videos, which reads frames",
    "LTXImageToVideoPipeline": "another model of videos, which reads a first frame",
    "LTX2Pipeline": "another model of videos",
    "HunyuanVideoPipeline": "another model of videos",
    "HunyuanVideoImageToVideoPipeline": "another model of videos, which reads a first frame",
    "HunyuanVideo15Pipeline": "another model of videos",
    "SkyReelsV2Pipeline": "another model of videos",
    "CogVideoXPipeline": "another model of videos",
    "MochiPipeline": "another model of videos",
}
"""Descriptions of the pipelines that cannot be run, by class name."""

_SAME_PARTS = ("Img2ImgPipeline", "InpaintPipeline", "VideoToVideoPipeline")
"""Ends of the names of pipelines that have the same parts as the one for texts alone."""


def text_pipeline(class_name: str) -> str:
    """Return the class of the pipeline for texts alone that has the same parts as this one."""
    for end in _SAME_PARTS:
        if class_name.endswith(end) and class_name not in OTHERS:
            return class_name.removesuffix(end) + "Pipeline"
    return class_name
