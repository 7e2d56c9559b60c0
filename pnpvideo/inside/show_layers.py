"""Show the activations of decoder layers as colours: figures 3 and 6 of Tumanyan et al. 2022."""

from collections.abc import Iterator, Sequence

import numpy as np

from pnpvideo.errors import InputError
from pnpvideo.inside.components import Projections, Tokens, coloured
from pnpvideo.inside.subject import Strip, Subject
from pnpvideo.inside.watch import Seen, Watch, look, watch_attention, watch_features
from pnpvideo.models.network import DecoderLayer, as_unet

# The paper's layers 1, 4, 7 and 11 of 12.
_LAYERS = (1 / 11, 4 / 11, 7 / 11, 1.0)
_SHARES = (0.2, 0.5, 0.8)


def show_features(
    subject: Subject, layers: Sequence[str], shares: tuple[float, ...]
) -> list[Strip]:
    """Show the residual features, which are injected up to tau_f."""
    known = {str(number): layer.feature for number, layer in enumerate(_decoder(subject))}
    injected = set(subject.model.layers.features)
    modules = _chosen(known, layers, sorted(injected))
    return _show(subject, modules, shares, watch_features, injected)


def show_attention(
    subject: Subject, layers: Sequence[str], shares: tuple[float, ...]
) -> list[Strip]:
    """Show the self-attention, whose queries and keys are injected up to tau_a."""
    if len({source.size for source in subject.sources}) > 1:
        raise InputError(
            "attention is compared place by place, and the sources have several shapes; give --size"
        )
    known = {
        str(number): layer.attention
        for number, layer in enumerate(_decoder(subject))
        if layer.attention is not None
    }
    injected = {name for name in known.values() if _is_injected(subject, name)}
    return _show(subject, _chosen(known, layers), shares, watch_attention, injected)


def _decoder(subject: Subject) -> Sequence[DecoderLayer]:
    with subject.network() as network:
        return as_unet(network, "showing decoder layers").decoder


def _is_injected(subject: Subject, name: str) -> bool:
    places = subject.model.layers.attentions
    return any(f"{name}.".startswith(f"{place}.") for place in places)


def _chosen(
    known: dict[str, str], layers: Sequence[str], always: Sequence[str] = ()
) -> dict[str, str]:
    """Return modules by layer number or name. If none are chosen, return some, and `always`."""
    if not layers:
        numbers = list(known)
        some = {numbers[round(share * (len(numbers) - 1))] for share in _LAYERS}
        layers = [x for x in numbers if x in some or known[x] in always]
    for layer in layers:
        if layer.isdecimal() and layer not in known:
            raise InputError(
                f"layer is {layer}; give one of {', '.join(known)}, or a module's name"
            )
    return {f"layer {x}" if x in known else x: known.get(x, x) for x in layers}


def _show(
    subject: Subject,
    modules: dict[str, str],
    shares: tuple[float, ...],
    watch: Watch,
    injected: set[str],
) -> list[Strip]:
    strips = []
    names = list(modules.values())
    for step in subject.steps(shares or _SHARES):
        # All frames pass twice, once for the basis: features of a clip are more than fit in memory.
        gathered = {name: Tokens() for name in names}
        for _, seen in _seen(subject, step, watch, names):
            for name, tokens in seen.items():
                gathered[name].add(tokens)
        bases = {name: tokens.basis() for name, tokens in gathered.items()}
        found: dict[str, list[list[Projections]]] = {
            name: [[] for _ in subject.sources] for name in names
        }
        for number, seen in _seen(subject, step, watch, names):
            for name, tokens in seen.items():
                found[name][number].append(bases[name].project(tokens))
        for title, name in modules.items():
            mark = " (injected)" if name in injected else ""
            strips.append(
                Strip(
                    row=subject.level_name(step),
                    column=f"{title}{mark}",
                    pictures=tuple(coloured([np.concatenate(parts) for parts in found[name]])),
                )
            )
    return strips


def _seen(
    subject: Subject, step: int, watch: Watch, names: Sequence[str]
) -> Iterator[tuple[int, Seen]]:
    """Yield the number of each source, and the activations of modules for some of its frames."""
    text = subject.text
    for number, opened in enumerate(subject.edits):
        trajectory, size = opened.source.trajectory, subject.batch_size
        with subject.network_of(opened) as network:
            for seen in look(network, trajectory, text, step, watch, names, batch_size=size):
                yield number, seen
