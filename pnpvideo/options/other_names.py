"""Names that other tools have for options, and that people type."""


def _named(option: str, names: str, hint: str = "") -> dict[str, tuple[str, str]]:
    return dict.fromkeys(names.split(), (option, hint))


OTHER_NAMES: dict[str, tuple[str, str]] = {
    **_named("frame_rate", "fps framerate rate"),
    **_named("frames", "num_frames n_frames nframes frame_count length video_length"),
    **_named("stride", "skip every frame_step sample_rate"),
    **_named(
        "source", "input i in infile src video image init_image init init_img input_path file"
    ),
    **_named("output", "out outfile out_dir outdir output_dir output_path output_folder save dest"),
    **_named("prompt", "text p caption instruction edit target_prompt edit_prompt description"),
    **_named("negative_prompt", "negative neg n_prompt neg_prompt uncond negative_text"),
    **_named("inversion_prompt", "source_prompt src_prompt inv_prompt source_text"),
    **_named("guidance_scale", "cfg cfg_scale guidance scale text_guidance_scale cfgscale"),
    **_named(
        "steps", "num_inference_steps num_steps n_steps inference_steps iterations ddim_steps"
    ),
    **_named("inversion_steps", "num_inversion_steps ddim_inversion_steps inv_steps"),
    **_named("strength", "denoise denoising_strength denoising image_strength n_max alpha zeta"),
    **_named("tau_f", "feature_threshold pnp_f_t feature_injection_threshold", ", and --tau-a"),
    **_named("method", "edit_method editing_method mode"),
    **_named("solver", "inversion_method inversion_solver sampler"),
    **_named("source_guidance", "src_guidance_scale src_guidance source_guidance_scale src_cfg"),
    **_named("tau_a", "pnp_attn_t attention_threshold"),
    **_named("eta", "ddim_eta"),
    **_named("size", "width height resolution res w h img_size image_size", " WIDTHxHEIGHT"),
    **_named(
        "model", "ckpt checkpoint model_id model_path model_name pretrained weights m base_model"
    ),
    **_named("lora", "lora_path lora_weights loras lora_scale", " FILE:WEIGHT"),
    **_named("embedding", "embeddings textual_inversion ti"),
    **_named("controlnet", "control_net cn controlnet_model"),
    **_named("control_image", "controlnet_image control_video"),
    **_named("control_scale", "controlnet_conditioning_scale controlnet_scale"),
    **_named("mask", "mask_image mask_path inpaint_mask"),
    **_named("mask_from_prompt", "mask_prompt segment object"),
    **_named("device", "gpu cuda cpu mps", " cuda, mps or cpu"),
    **_named(
        "dtype", "precision fp16 half float16 bf16 float32 fp32", " float16, bfloat16 or float32"
    ),
    **_named("offload", "lowvram medvram low_vram cpu_offload enable_model_cpu_offload"),
    **_named("batch_size", "batch bs"),
    **_named("overwrite", "force f y yes replace"),
    **_named("quiet", "silent q"),
    **_named("verbose", "v debug"),
    **_named("job", "resume cache_dir work_dir checkpoint_dir"),
    **_named("compare", "side_by_side comparison"),
    **_named("config", "settings yaml c config_file"),
    **_named("sound", "audio keep_audio"),
    **_named("seed", "random_seed s"),
    **_named("workers", "jobs num_workers n_jobs j processes gpus"),
    **_named("port", "server_port"),
    **_named("host", "server_name listen address ip"),
    **_named("login", "auth password user"),
}
"""By another name: ours, and how to write it or what else to know."""
