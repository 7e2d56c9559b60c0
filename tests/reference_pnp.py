# ruff: noqa: N803 - x_T is the paper's name
"""A naive reference of Plug-and-Play sampling, to which the tests compare the package.

Written from the equations and importing nothing of `pnpvideo`. It is slow on purpose: one frame
and one branch at a time, loops over attention heads, and no hooks or processors: the UNet is
walked by hand and only its weights are used, so whatever is installed on its modules has no
effect here.

    PnP   Tumanyan et al. 2022, "Plug-and-Play Diffusion Features", arXiv 2211.12572
    DDIM  Song et al. 2021, "Denoising Diffusion Implicit Models", arXiv 2010.02502
    v     Salimans and Ho 2022, "Progressive Distillation", arXiv 2202.00512

Shapes: latents (1, 4, h, w), text (1, tokens, channels), all float64.
Names follow section 2 of the design: z_t source, x_t target, T steps, a = alphas_cumprod.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor
from torch.nn import functional

Prediction = Literal["epsilon", "v_prediction"]
Schedule = Literal["constant", "linear", "exp"]
Features = dict[str, Tensor]
Trajectory = dict[int, Tensor]
Added = dict[str, Tensor]
Text = Tensor | tuple[Tensor, Added]  # SDXL: the embedding with its added conditions
Residuals = tuple[Sequence[Tensor], Tensor]
Control = Callable[[Tensor, int, Text], Residuals | None]  # A ControlNet's at (latents, t, text).

# The paper's decoder layers, counted over the resnets of the up blocks from 0. SD 1.x and 2.x
# (four levels): 4, so up_blocks[1].resnets[1]. SDXL (three levels): up_blocks[0].resnets[1].
FIRST_INJECTED_LAYER = {4: 4, 3: 1}
FIRST_WITH_A_LAYER_LESS = {4: 3}


# 1. Small models with the topology of the large ones


def tiny_unet(
    prediction: Prediction = "epsilon", seed: int = 0, layers_per_block: int = 2
) -> UNet2DConditionModel:
    """SD 1.5 in small (epsilon) or SD 2.1 in small (v: linear projections, heads by level).

    Latents' sides are multiples of 8; text has 12 channels. layers_per_block: of theirs, or 1 to
    take half the time.
    """
    second = prediction == "v_prediction"
    return _random_unet(
        seed,
        sample_size=16,
        block_out_channels=(8, 16, 16, 16),
        down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
        attention_head_dim=(1, 2, 2, 2) if second else 4,  # diffusers: the number of heads
        use_linear_projection=second,
        layers_per_block=layers_per_block,
    )


def tiny_sdxl_unet(seed: int = 0) -> UNet2DConditionModel:
    """SDXL in small. Latents' sides are multiples of 4; text has 12 channels.

    Its added conditions: {"text_embeds": (1, 12), "time_ids": (1, 6)}.
    """
    return _random_unet(
        seed,
        sample_size=16,
        block_out_channels=(8, 16, 32),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=[1, 2, 3],
        attention_head_dim=(1, 2, 4),
        use_linear_projection=True,
        layers_per_block=2,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=12 + 6 * 8,
    )


def _random_unet(seed: int, **config: Any) -> UNet2DConditionModel:
    """Draw every weight, the norms' too, so that no part is an identity and attention is sharp."""
    with torch.random.fork_rng(devices=[]):
        unet = UNet2DConditionModel(norm_num_groups=4, cross_attention_dim=12, **config)
    unet = unet.to(torch.float64).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in unet.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        if parameter.ndim > 1:
            gain = 2.0 if "to_q" in name or "to_k" in name or "conv2" in name else 1.4
            parameter.copy_(gain * noise / math.sqrt(parameter[0].numel()))
        elif "norm" in name and name.endswith("weight"):
            parameter.copy_(1.0 + 0.2 * noise)
        else:
            parameter.copy_(0.2 * noise)
    return unet


# 2. The UNet by hand


def unet_forward(
    unet: UNet2DConditionModel, z: Tensor, t: int, text: Tensor,
    inject: Features | None = None, record: Features | None = None, added: Added | None = None,
    *, inject_f: bool = True, inject_qk: bool = True, residuals: Residuals | None = None,
) -> Tensor:  # fmt: skip
    """The network's output for one frame (PnP section 4.1 and figure 2 for what is injected).

    `record` receives "f", the residual branch of the first injected decoder layer before the
    sum, and "<module>.q" and "<module>.k", (1, tokens, channels), of each self-attention from
    that layer on. The entries of `inject` stand in for the same in this pass. `residuals` are
    added to what the encoder hands to the decoder, and to what comes out of the middle.
    """
    entries = inject or {}
    f_in = {k: v for k, v in entries.items() if k == "f" and inject_f}
    qk_in = {k: v for k, v in entries.items() if k != "f" and inject_qk}
    less = len(unet.up_blocks[0].resnets) == 2
    first = (FIRST_WITH_A_LAYER_LESS if less else FIRST_INJECTED_LAYER)[len(unet.up_blocks)]

    time = _time_embedding(unet, t, added)
    x = _conv(unet.conv_in, z)
    skips = [x]
    for block in unet.down_blocks:
        for i in range(len(block.resnets)):
            x = _resnet(block.resnets[i], x, time)
            if hasattr(block, "attentions"):
                x = _transformer(block.attentions[i], x, text)
            skips.append(x)
        if block.downsamplers is not None:
            x = _conv(block.downsamplers[0].conv, x)
            skips.append(x)

    x = _resnet(unet.mid_block.resnets[0], x, time)
    x = _transformer(unet.mid_block.attentions[0], x, text)
    x = _resnet(unet.mid_block.resnets[1], x, time)

    if residuals is not None:
        skips = [skip + residual for skip, residual in zip(skips, residuals[0], strict=True)]
        x = x + residuals[1]

    layer = 0
    for b, block in enumerate(unet.up_blocks):
        for i in range(len(block.resnets)):
            x = torch.cat([x, skips.pop()], dim=1)
            f_features = (f_in, record) if layer == first else ()
            x = _resnet(block.resnets[i], x, time, *f_features)
            if hasattr(block, "attentions"):
                name = f"up_blocks.{b}.attentions.{i}"
                qk_features = (name, qk_in, record) if layer >= first else ()
                x = _transformer(block.attentions[i], x, text, *qk_features)
            layer += 1
        if block.upsamplers is not None:
            x = x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
            x = _conv(block.upsamplers[0].conv, x)

    return _conv(unet.conv_out, _silu(_group_norm(unet.conv_norm_out, x)))


def _sinusoid(values: Tensor, width: int) -> Tensor:
    """(n) -> (n, width): cosines, then sines. float32, as in every Stable Diffusion model."""
    half = width // 2
    exponent = -math.log(10000) * torch.arange(half, dtype=torch.float32) / half
    angle = values.to(torch.float32)[:, None] * torch.exp(exponent)[None, :]
    return torch.cat([torch.cos(angle), torch.sin(angle)], dim=1).to(torch.float64)


def _time_embedding(unet: UNet2DConditionModel, t: int, added: Added | None) -> Tensor:
    e = _sinusoid(torch.tensor([t]), unet.config.block_out_channels[0])
    e = _linear(unet.time_embedding.linear_2, _silu(_linear(unet.time_embedding.linear_1, e)))
    if unet.config.addition_embed_type == "text_time":
        assert added is not None, "SDXL needs added conditions: text_embeds and time_ids"
        ids = _sinusoid(added["time_ids"].flatten(), unet.config.addition_time_embed_dim)
        a = torch.cat([added["text_embeds"], ids.reshape(1, -1)], dim=1)
        e = e + _linear(unet.add_embedding.linear_2, _silu(_linear(unet.add_embedding.linear_1, a)))
    return e


def _resnet(
    m: Any, x: Tensor, time: Tensor, inject: Features | None = None, record: Features | None = None
) -> Tensor:
    f = _conv(m.conv1, _silu(_group_norm(m.norm1, x)))
    f = f + _linear(m.time_emb_proj, _silu(time))[:, :, None, None]
    f = _conv(m.conv2, _silu(_group_norm(m.norm2, f)))
    if record is not None:
        record["f"] = f
    if inject is not None:
        f = inject.get("f", f)
    shortcut = x if m.conv_shortcut is None else _conv(m.conv_shortcut, x)
    return shortcut + f


def _transformer(
    m: Any, x: Tensor, text: Tensor,
    name: str = "", inject: Features | None = None, record: Features | None = None,
) -> Tensor:  # fmt: skip
    """Self-attention, cross-attention and GEGLU, each on its layer norm and added (PnP eq. 3)."""
    _, _, h, w = x.shape
    y = _group_norm(m.norm, x)
    linear = isinstance(m.proj_in, torch.nn.Linear)
    y = _linear(m.proj_in, _tokens(y)) if linear else _tokens(_conv(m.proj_in, y))

    for n, block in enumerate(m.transformer_blocks):
        u = _layer_norm(block.norm1, y)
        q, k, v = (_linear(p, u) for p in (block.attn1.to_q, block.attn1.to_k, block.attn1.to_v))
        here = f"{name}.transformer_blocks.{n}.attn1"
        if record is not None:
            record[f"{here}.q"], record[f"{here}.k"] = q, k
        if inject is not None:
            q, k = inject.get(f"{here}.q", q), inject.get(f"{here}.k", k)
        y = y + _linear(block.attn1.to_out[0], _attention(q, k, v, block.attn1.heads))

        q = _linear(block.attn2.to_q, _layer_norm(block.norm2, y))
        k, v = _linear(block.attn2.to_k, text), _linear(block.attn2.to_v, text)
        y = y + _linear(block.attn2.to_out[0], _attention(q, k, v, block.attn2.heads))

        value, gate = _linear(block.ff.net[0].proj, _layer_norm(block.norm3, y)).chunk(2, dim=-1)
        gate = 0.5 * gate * (1.0 + torch.erf(gate / math.sqrt(2.0)))
        y = y + _linear(block.ff.net[2], value * gate)

    if linear:
        return x + _image(_linear(m.proj_out, y), h, w)
    return x + _conv(m.proj_out, _image(y, h, w))


def _attention(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """softmax(q k^T / sqrt(d)) v for every head (PnP eq. 3)."""
    d = q.shape[-1] // heads
    outputs = []
    for head in range(heads):
        part = slice(head * d, (head + 1) * d)
        scores = q[0, :, part] @ k[0, :, part].T / math.sqrt(d)
        weights = torch.exp(scores - scores.max(dim=1, keepdim=True).values)
        weights = weights / weights.sum(dim=1, keepdim=True)
        outputs.append(weights @ v[0, :, part])
    return torch.cat(outputs, dim=1)[None]


def _tokens(x: Tensor) -> Tensor:
    """(1, c, h, w) -> (1, h w, c)."""
    return x.flatten(2).transpose(1, 2)


def _image(x: Tensor, h: int, w: int) -> Tensor:
    """(1, h w, c) -> (1, c, h, w)."""
    return x.transpose(1, 2).reshape(1, -1, h, w)


def _silu(x: Tensor) -> Tensor:
    return x * torch.sigmoid(x)


def _conv(m: Any, x: Tensor) -> Tensor:
    return functional.conv2d(x, m.weight, m.bias, m.stride, m.padding)


def _linear(m: Any, x: Tensor) -> Tensor:
    return functional.linear(x, m.weight, m.bias)


def _group_norm(m: Any, x: Tensor) -> Tensor:
    return functional.group_norm(x, m.num_groups, m.weight, m.bias, m.eps)


def _layer_norm(m: Any, x: Tensor) -> Tensor:
    return functional.layer_norm(x, m.normalized_shape, m.weight, m.bias, m.eps)


# 3. The noise schedule


def alphas_cumprod(train_steps: int = 1000) -> Tensor:
    """Products of 1 - beta, sqrt(beta) running linearly from sqrt(0.00085) to sqrt(0.012).

    float64; diffusers' schedulers hold the same table in float32.
    """
    low, high, product, table = math.sqrt(0.00085), math.sqrt(0.012), 1.0, []
    for i in range(train_steps):
        root = low + (high - low) * i / (train_steps - 1)
        product *= 1.0 - root**2
        table.append(product)
    return torch.tensor(table, dtype=torch.float64)


def timesteps(steps: int, train_steps: int = 1000) -> list[int]:
    """Sampling timesteps from noise to image, "leading" with offset 1: 981, 961 ... 1 for 50."""
    return [i * (train_steps // steps) + 1 for i in reversed(range(steps))]


def _levels(steps: int, alphas: Tensor | None) -> list[tuple[int, float, float]]:
    """(t, a_t, a_prev) of every step, from noise to image; a_prev of the last is alphas[0]."""
    table = alphas_cumprod() if alphas is None else alphas.to(torch.float64)
    ts = timesteps(steps, len(table))
    a = [float(table[t]) for t in ts] + [float(table[0])]
    return [(t, a[i], a[i + 1]) for i, t in enumerate(ts)]


# 4. Inversion and sampling


def _x0_and_eps(z: Tensor, out: Tensor, a: float, prediction: Prediction) -> tuple[Tensor, Tensor]:
    """The image and noise that the output stands for, at the level of z (DDIM eq. 9; v app. D)."""
    if prediction == "epsilon":
        return (z - math.sqrt(1 - a) * out) / math.sqrt(a), out
    if prediction == "v_prediction":
        x0 = math.sqrt(a) * z - math.sqrt(1 - a) * out
        return x0, math.sqrt(a) * out + math.sqrt(1 - a) * z
    raise ValueError(f"prediction is {prediction!r}, not 'epsilon' or 'v_prediction'")


def _ddim_step(
    x: Tensor, eps_or_v: Tensor, a: float, a_prev: float, prediction: Prediction, eta: float,
    noise: Tensor | None,
) -> Tensor:  # fmt: skip
    """DDIM eq. 12 with sigma of eq. 16."""
    x0, eps = _x0_and_eps(x, eps_or_v, a, prediction)
    sigma = eta * math.sqrt((1 - a_prev) / (1 - a)) * math.sqrt(1 - a / a_prev)
    x = math.sqrt(a_prev) * x0 + math.sqrt(1 - a_prev - sigma**2) * eps
    if sigma > 0 and noise is None:
        raise ValueError("eta > 0 needs step_noise")
    return x if noise is None else x + sigma * noise


def _predict(
    unet: UNet2DConditionModel, z: Tensor, t: int, text: Text, control: Control | None = None,
    **features: Any,
) -> Tensor:  # fmt: skip
    embedding, added = text if isinstance(text, tuple) else (text, None)
    residuals = None if control is None else control(z, t, text)
    return unet_forward(unet, z, t, embedding, added=added, residuals=residuals, **features)


def ddim_invert(
    unet: UNet2DConditionModel, z0: Tensor, text: Text, steps: int, prediction: Prediction,
    *, iterations: int = 1, alphas: Tensor | None = None, control: Control | None = None,
) -> Trajectory:  # fmt: skip
    """z_t of one frame at every sampling timestep: DDIM with the roles reversed (PnP section 3).

    From level t_prev to t the network sees (z_{t_prev}, t); x0 and eps are read at t_prev.
    More iterations see the z_t found so far, and find z_t anew from z_{t_prev} and what they
    predict: eps, which is the same at both levels, or v, where sampling turns z by the angle
    between the levels (Salimans and Ho appendix D: z_t = cos(phi) x0 + sin(phi) eps). They start
    from the last step's prediction, and each goes on from the point between the last two z_t whose
    residual, were it linear, would be the smallest.
    """
    z, trajectory, out = z0, {}, None
    for t, a, a_prev in reversed(_levels(steps, alphas)):
        z_prev, tried, passes = z, [], iterations
        if out is None or iterations == 1:
            out = _predict(unet, z_prev, t, text, control)
            passes -= 1
        x0, eps = _x0_and_eps(z_prev, out, a_prev, prediction)
        z = math.sqrt(a) * x0 + math.sqrt(1 - a) * eps
        for _ in range(passes):
            seen = z
            out = _predict(unet, z, t, text, control)
            if prediction == "v_prediction":
                turn = math.acos(math.sqrt(a)) - math.acos(math.sqrt(a_prev))
                z = (z_prev + math.sin(turn) * out) / math.cos(turn)
            else:
                x0 = (z_prev - math.sqrt(1 - a_prev) * out) / math.sqrt(a_prev)
                z = math.sqrt(a) * x0 + math.sqrt(1 - a) * out
            tried.append((z, (z - seen).flatten()))
            if len(tried) > 1:
                (z1, r1), (z2, r2) = tried[-2:]
                share = float(torch.linalg.lstsq((r2 - r1)[:, None], r2[:, None]).solution)
                z = share * z1 + (1 - share) * z2
        trajectory[t] = z
    return trajectory


def plain_ddim(
    unet: UNet2DConditionModel, x_T: Tensor, text: Text, *, steps: int, prediction: Prediction,
    eta: float = 0.0, step_noise: Sequence[Tensor] | None = None, alphas: Tensor | None = None,
) -> list[Tensor]:  # fmt: skip
    """x after every step of DDIM without guidance (DDIM eq. 12)."""
    x, xs = x_T, []
    for i, (t, a, a_prev) in enumerate(_levels(steps, alphas)):
        noise = None if step_noise is None else step_noise[i]
        x = _ddim_step(x, _predict(unet, x, t, text), a, a_prev, prediction, eta, noise)
        xs.append(x)
    return xs


def injected_steps(tau: float, steps: int) -> int:
    """How many first steps inject: tau T, rounded down (0.29 of 100 are 29 for any floats)."""
    return math.floor(round(tau * steps, 9))


def negative_weight(i: int, steps: int, alpha: float, schedule: Schedule) -> float:
    """a_i = alpha c_i, the part of the empty prompt in the negative one (PnP's original code)."""
    share = 0.0 if steps == 1 else i / (steps - 1)
    return alpha * {"constant": 1.0, "linear": 1.0 - share, "exp": math.exp(-6.0 * share)}[schedule]


def pnp_sample(
    unet: UNet2DConditionModel, trajectory: Trajectory, x_T: Tensor,
    source_text: Text, target_text: Text, negative_text: Text, uncond_text: Text | None = None,
    *, steps: int, guidance_scale: float | Sequence[float], tau_f: float, tau_a: float,
    alpha: float = 1.0, schedule: Schedule = "constant", prediction: Prediction,
    eta: float = 0.0, step_noise: Sequence[Tensor] | None = None, alphas: Tensor | None = None,
    control: Control | None = None, feature_step: int = 0, first: int = 0,
    tau_by_place: dict[str, float] | None = None,
) -> list[Tensor]:  # fmt: skip
    """x of one frame after every step (PnP section 4.2, algorithm 1).

    Every target branch is injected. With `uncond_text` the negative prompt has its schedule
    (section 4.3, eq. 5 and the original code); without it `alpha` and `schedule` do nothing.
    guidance_scale: one for all steps, or one for each. control: acts in every branch, the source's
    too. feature_step: up to this step, all read the source at its level. first: the step that
    starts from x_T. tau_by_place: in place of tau_f and tau_a, by the beginning of a feature's
    name; 0 for others.
    """
    x, xs = x_T, []
    levels = _levels(steps, alphas)
    for i, (t, a, a_prev) in list(enumerate(levels))[first:]:
        features: Features = {}
        read = levels[max(i, feature_step)][0]
        _predict(unet, trajectory[read], read, source_text, control, record=features)
        if tau_by_place is not None:
            until = {k: [v for p, v in tau_by_place.items() if k.startswith(p)] for k in features}
            features = {
                name: feature
                for name, feature in features.items()
                if i < injected_steps(max(until[name], default=0.0), steps)
            }
        f_on, qk_on = i < injected_steps(tau_f, steps), i < injected_steps(tau_a, steps)
        injection = {"inject": features, "inject_f": f_on, "inject_qk": qk_on, "control": control}
        e = _predict(unet, x, t, negative_text, **injection)
        if uncond_text is not None:
            a_i = negative_weight(i, steps, alpha, schedule)
            e = a_i * _predict(unet, x, t, uncond_text, **injection) + (1 - a_i) * e
        scale = guidance_scale if isinstance(guidance_scale, float) else guidance_scale[i]
        e = e + scale * (_predict(unet, x, t, target_text, **injection) - e)
        noise = None if step_noise is None else step_noise[i]
        x = _ddim_step(x, e, a, a_prev, prediction, eta, noise)
        xs.append(x)
    return xs


def pnp_sample_clip(
    unet: UNet2DConditionModel, trajectories: Sequence[Trajectory], x_T: Sequence[Tensor],
    *texts: Text | None, step_noise: Sequence[Sequence[Tensor]] | None = None, **settings: Any,
) -> list[list[Tensor]]:  # fmt: skip
    """`pnp_sample` of every frame on its own: result[frame][step]; step_noise[frame][step]."""
    results = []
    for i, trajectory in enumerate(trajectories):
        settings["step_noise"] = None if step_noise is None else step_noise[i]
        results.append(pnp_sample(unet, trajectory, x_T[i], *texts, **settings))
    return results
