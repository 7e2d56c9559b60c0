"""The pipeline of flow-matching transformers: diffusers' own, with a call that takes frames."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import torch
from torch import Tensor

from pnpvideo.catalogue.pipelines import text_pipeline
from pnpvideo.clips.as_clip import Video
from pnpvideo.errors import InputError
from pnpvideo.loading.families import FAMILIES
from pnpvideo.loading.load_flow import load_flow
from pnpvideo.loading.quantize import check_layer_offload, check_quantization, quantize_weights
from pnpvideo.loading.recommended import Recommended
from pnpvideo.models.device import default_device, default_dtype
from pnpvideo.models.flow.model import FlowModel
from pnpvideo.options.method import DEFAULT_BATCH_SIZE, PnPOptions, Preset
from pnpvideo.options.values import Quantization
from pnpvideo.pipelines.call import (
    PnPVideoPipelineOutput,
    area_of,
    bars_of_pipe,
    check_call,
    one_of,
    one_source,
    options_of,
    output_of,
)
from pnpvideo.pipelines.call_values import (
    Generators,
    check_drawn,
    check_types,
    generators_of,
    size_of_call,
    whole_count,
)
from pnpvideo.pipelines.step_callback import TENSORS, step_callback
from pnpvideo.stages.callbacks import Callbacks
from pnpvideo.stages.edit import OpenEdit
from pnpvideo.stages.request import Edit
from pnpvideo.storage.allocate import Storage
from pnpvideo.storage.job_folder import JobFolder
from pnpvideo.storage.trajectory import Trajectory


class PnPFlowPipeline:
    """Plug-and-Play Diffusion Features with Stable Diffusion 3, FLUX, Wan and their like.

    pipe: diffusers' pipeline of the model, to be changed as diffusers' users do: LoRA, tiles,
    groups of layers that are offloaded. model: the same as the stages see it.
    """

    _callback_tensor_inputs = TENSORS
    _interrupt = False
    _quantization: Quantization | None = None

    def __init__(self, pipe: Any, recommended: Recommended | None = None) -> None:
        """Take a pipeline of diffusers. InputError if it is not of a known family."""
        kind = type(pipe).__name__
        family = FAMILIES.get(text_pipeline(kind))
        if family is None:
            raise InputError(
                f"a {kind} is not known here; give one of {', '.join(FAMILIES)}, or load the model "
                "with load_pipeline"
            )
        own = recommended
        self.pipe = pipe
        self.model = FlowModel(
            pipe,
            family,
            options=None if own is None else own.options,
            blocks=None if own is None else own.blocks,
        )
        self._guidance_scale = self.model.defaults.guidance_scale
        self._guidance_scale_2 = self.model.defaults.guidance_scale_2

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path,
        *,
        dtype: torch.dtype | None = None,
        torch_dtype: torch.dtype | None = None,
        loras: Sequence[str | Path] = (),
        quantize: Quantization | None = None,
        **options: Any,
    ) -> Self:
        """Load a diffusers folder or a hub id (see `load_flow`).

        Args:
            model: Its folder or its hub id.
            dtype: By default what suits this machine's best device; or torch_dtype, its older name.
            loras: Files or folders to merge, each perhaps with a weight: "style.safetensors:0.8".
            quantize: "fp8" or "int8" keeps the transformers' weights in 8 bits, "nf4" in 4.
            options: Go to diffusers.

        Returns:
            The pipeline. Raises InputError or RunError.
        """
        dtype = dtype or torch_dtype or default_dtype(default_device())
        if quantize is not None:
            check_quantization(quantize, dtype)
        loaded = load_flow(model, dtype=dtype, loras=loras, **options)
        if quantize is not None:
            for transformer in loaded.family.experts(loaded.pipe).present:
                quantize_weights(transformer, quantize, dtype)
        pipeline = cls(loaded.pipe, loaded.recommended)
        pipeline._quantization = quantize
        return pipeline

    @property
    def device(self) -> torch.device:
        return self.model.device

    @property
    def _execution_device(self) -> torch.device:
        device: torch.device = self.pipe._execution_device
        return device

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Move the pipeline's parts as `DiffusionPipeline.to` does."""
        self.pipe.to(*args, **kwargs)
        return self

    def enable_model_cpu_offload(self, **options: Any) -> None:
        """Keep on the device only the part that is working."""
        self.pipe.enable_model_cpu_offload(**options)

    def enable_layer_offload(self, device: torch.device) -> None:
        """Keep on the device only the layers that are working, and the autoencoder.

        The next layers are loaded meanwhile, on devices that can do that. InputError for weights
        of 4 bits.
        """
        check_layer_offload(self._quantization)
        self.pipe.enable_group_offload(
            onload_device=device,
            offload_type="leaf_level",
            use_stream=device.type == "cuda",
            exclude_modules=["vae"],
        )

    def set_progress_bar_config(self, **options: Any) -> None:
        """Set the keywords of progress bars, such as disable."""
        self.pipe.set_progress_bar_config(**options)

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | Sequence[str] | None = None,
        video: Video | None = None,
        *,
        image: Video | None = None,
        mask: Video | None = None,
        guidance_prompt: str | None = None,
        negative_prompt: str | Sequence[str] | None = None,
        inversion_prompt: str | None = "",
        options: PnPOptions | None = None,
        preset: Preset | None = None,
        height: int | None = None,
        width: int | None = None,
        num_images_per_prompt: int = 1,
        generator: Generators | None = None,
        prompt_embeds: Tensor | None = None,
        pooled_prompt_embeds: Tensor | None = None,
        negative_prompt_embeds: Tensor | None = None,
        negative_pooled_prompt_embeds: Tensor | None = None,
        trajectory: Trajectory | None = None,
        batch_size: int = DEFAULT_BATCH_SIZE,
        storage: Storage | None = None,
        job: JobFolder | None = None,
        output_type: Literal["pil", "np", "pt", "latent"] = "pil",
        return_dict: bool = True,
        callback_on_step_end: Callable[..., Mapping[str, Any] | None] | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
        **changes: object,
    ) -> PnPVideoPipelineOutput | tuple[Any, Trajectory]:
        """Translate a video to what a prompt says, keeping its layout and motion.

        All keywords are those of `PnPVideoPipeline`, without those for a ControlNet or an
        IP-Adapter. Raises InputError (a ValueError) for what cannot be used, before any work.
        """
        check_types(locals())
        check_call(output_type, batch_size)
        images = whole_count("num_images_per_prompt", num_images_per_prompt)
        area, changes = area_of(mask, changes)
        options = options_of(options or self.model.defaults, preset, changes, self.__call__)
        check_drawn(images, options)
        texts = one_of("prompt", prompt, prompt_embeds, pooled_prompt_embeds)
        if texts is None:
            raise InputError("give either a prompt or prompt_embeds")
        negatives = negative_prompt_embeds, negative_pooled_prompt_embeds
        request = Edit(
            source=one_source(video, image, guidance_prompt, trajectory),
            guidance_prompt=guidance_prompt,
            inversion_prompt=inversion_prompt or "",
            size=size_of_call(height, width),
            area=area,
            prompt=texts,
            negative_prompt=one_of("negative_prompt", negative_prompt, *negatives),
            options=options,
            results_per_prompt=images,
            generators=generators_of(generator, texts, images),
            batch_size=int(batch_size),
            storage=storage or Storage(),
            job=job,
        )
        names = callback_on_step_end_tensor_inputs
        callbacks = Callbacks(
            bars=bars_of_pipe(self.pipe),
            stopped=lambda: self._interrupt,
            after_step=step_callback(self, callback_on_step_end, names, job),
        )
        self._guidance_scale, self._interrupt = options.guidance_scale, False
        self._guidance_scale_2 = options.guidance_scale_2
        with self.model.turn():
            output = self._run(request, callbacks, output_type)
        return output if return_dict else (output.frames, output.trajectory)

    def _run(self, request: Edit, callbacks: Callbacks, output_type: str) -> PnPVideoPipelineOutput:
        """Run an edit to its frames. The trajectory stays open."""
        opened = OpenEdit(self.model, request, callbacks)
        try:
            frames = output_of(opened.sample(), output_type)
        finally:
            opened.close_frames()
        self.pipe.maybe_free_model_hooks()
        return PnPVideoPipelineOutput(frames=frames, trajectory=opened.source.trajectory)
