"""The state of a training stage, its safetensors files, and its precision."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn


class TrainingState:
    """A model in training, and an exponential moving average (EMA) of its weights.

    hidden: the weights that Muon trains (Jordan et al. 2024), of linear layers and of convolutions
    in the memory format `channels_last`; AdamW trains all others. `step` counts updates; the
    average's decay grows with it up to `decay`, so that an early average forgets the random start.
    The learning rate rises over `warmup` steps from `began`, when the optimisers knew nothing.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        learning_rate: float,
        warmup: int,
        decay: float,
        hidden: Sequence[nn.Parameter] = (),
    ):
        self.model = model
        self.learning_rate = learning_rate
        self.warmup = warmup
        self.decay = decay
        self.step = 0
        self.began = 0
        self.images = 0
        self.seconds = 0.0
        self.average = {name: value.detach().clone() for name, value in model.named_parameters()}
        # Muon takes matrices alone. These share their memory with the weights.
        self.matrices = [(value, nn.Parameter(_as_matrix(value.detach()))) for value in hidden]
        assert all(value.data_ptr() == matrix.data_ptr() for value, matrix in self.matrices)
        apart = set(hidden)
        rest = [value for value in model.parameters() if value not in apart]
        self.optimizers: dict[str, torch.optim.Optimizer] = {
            "adamw": torch.optim.AdamW(
                rest, lr=learning_rate, betas=(0.9, 0.99), weight_decay=0.01, fused=True
            )
        }
        if hidden:
            matrices = [matrix for _, matrix in self.matrices]
            # With this scale, a learning rate that suits AdamW suits Muon (Liu et al. 2025).
            self.optimizers["muon"] = torch.optim.Muon(
                matrices, lr=learning_rate, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"
            )

    def update(self, loss: Tensor, *, factor: float = 1.0) -> None:
        """Make one optimiser step on `loss`, with the learning rate times `factor`."""
        risen = min(1.0, (self.step - self.began + 1) / self.warmup)
        rate = self.learning_rate * factor * risen
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for value, matrix in self.matrices:
            matrix.grad = None if value.grad is None else _as_matrix(value.grad)
        for optimizer in self.optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
        self.model.zero_grad(set_to_none=True)
        self.step += 1
        keep = min(self.decay, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            weights = [value.detach() for value in self.model.parameters()]
            torch._foreach_lerp_(list(self.average.values()), weights, 1 - keep)

    def load_average(self, model: nn.Module) -> None:
        """Copy the averaged weights into another model of the same kind."""
        model.load_state_dict(self.average, strict=False)

    def restart_average(self) -> None:
        """Restart the average from the current weights."""
        for name, value in self.model.named_parameters():
            self.average[name].copy_(value.detach())

    def save(self, folder: Path, stage: str, *, keep: int = 2) -> Path:
        """Write a checkpoint named by stage and step, and remove all but the newest `keep`."""
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        tensors |= {f"average.{name}": value for name, value in self.average.items()}
        for kind, optimizer in self.optimizers.items():
            for index, slots in optimizer.state_dict()["state"].items():
                tensors |= {f"{kind}.{index}.{slot}": value for slot, value in slots.items()}
        counters = {
            "step": str(self.step),
            "began": str(self.began),
            "images": str(self.images),
            "seconds": str(self.seconds),
        }
        path = folder / f"{stage}-{self.step:08d}.safetensors"
        partial = path.with_suffix(".partial")
        save_file({name: value.contiguous() for name, value in tensors.items()}, partial, counters)
        partial.rename(path)
        for old in checkpoints(folder, stage)[:-keep]:
            old.unlink()
        return path

    def load(self, path: Path) -> None:
        """Continue from a checkpoint of `save`."""
        model: dict[str, Tensor] = {}
        slots: dict[str, dict[int, dict[str, Tensor]]] = {kind: {} for kind in self.optimizers}
        with safe_open(path, framework="pt") as file:
            for key in file.keys():  # noqa: SIM118 - the file is not a mapping
                kind, name = key.split(".", 1)
                value = file.get_tensor(key)
                if kind == "model":
                    model[name] = value
                elif kind == "average":
                    self.average[name].copy_(value)
                else:
                    index, slot = name.split(".")
                    slots[kind].setdefault(int(index), {})[slot] = value
            counters = file.metadata()
        self.model.load_state_dict(model)
        for kind, optimizer in self.optimizers.items():
            groups = optimizer.state_dict()["param_groups"]
            optimizer.load_state_dict({"state": slots[kind], "param_groups": groups})
            for value, known in optimizer.state.items():
                for slot, tensor in known.items():
                    if tensor.shape == value.shape:  # Fused kernels go by the order in memory.
                        known[slot] = torch.empty_like(value).copy_(tensor)
        self.step = int(counters["step"])
        self.began = int(counters["began"])
        self.images = int(counters["images"])
        self.seconds = float(counters["seconds"])


def _as_matrix(value: Tensor) -> Tensor:
    """Return a linear layer's weight, or a convolution's as (outputs, inputs at all places)."""
    return value.movedim(1, -1).reshape(len(value), -1)


def checkpoints(folder: Path, stage: str) -> list[Path]:
    """Return the checkpoints of a stage, oldest first."""
    return sorted(folder.glob(f"{stage}-????????.safetensors"))


def autocast(device: torch.device | str) -> torch.autocast:
    """Return autocast to bfloat16, disabled on a CPU that only emulates it (10 times slower)."""
    kind = torch.device(device).type
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.autocast(kind, torch.bfloat16, enabled=kind != "cpu" or native)
