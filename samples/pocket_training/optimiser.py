"""Optimiser and learning-rate schedule of both training stages.

Muon (K. Jordan et al., 2024, https://kellerjordan.github.io/posts/muon) for the matrices inside the blocks,
AdamW for everything else. Kept in float32, unlike torch.optim.Muon, whose bfloat16 iterations are slow on
CPUs without bfloat16 arithmetic. Knows nothing of the models.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
NEWTON_SCHULZ_STEPS = 5


@dataclass
class Clock:
    """How far a stage is: the larger of steps done / steps and time gone / minutes."""

    steps: int
    minutes: float
    step: int = 0
    started: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    @property
    def progress(self) -> float:
        return max(self.step / self.steps, self.seconds / 60 / self.minutes)


def rate_factor(
    step: int, progress: float, *, warmup: int, decay_from: float = 0.6, final: float = 0.03
) -> float:
    """Linear warm-up over `warmup` steps, constant until `decay_from`, then linear down to `final`."""
    factor = min(1.0, (step + 1) / warmup)
    if progress > decay_from:
        factor *= max(final, 1 - (1 - final) * (progress - decay_from) / (1 - decay_from))
    return factor


class Optimiser:
    """Muon for the matrices that `is_hidden` picks, AdamW for the rest, one factor for both rates."""

    def __init__(
        self,
        named: Iterable[tuple[str, nn.Parameter]],
        is_hidden: Callable[[str, nn.Parameter], bool],
        *,
        rate: float,
        adam_rate: float,
        clip: float = 1.0,
    ) -> None:
        parameters = dict(named)
        hidden = [p for name, p in parameters.items() if is_hidden(name, p)]
        others = [p for name, p in parameters.items() if not is_hidden(name, p)]
        self._all = list(parameters.values())
        self._clip = clip
        self._parts = (
            (Muon(hidden, rate=rate), rate),
            (torch.optim.AdamW(others, lr=adam_rate, betas=(0.9, 0.98), weight_decay=0.01), adam_rate),
        )

    def step(self, factor: float) -> float:
        """One update at `factor` times the base rates; returns the gradient norm before clipping."""
        norm = float(nn.utils.clip_grad_norm_(self._all, self._clip))
        if norm == norm and norm != float("inf"):
            for part, rate in self._parts:
                for group in part.param_groups:
                    group["lr"] = rate * factor
                part.step()
        for parameter in self._all:
            parameter.grad = None
        return norm


class Muon(torch.optim.Optimizer):
    """Momentum whose update is orthogonalised; matrices of one shape are orthogonalised together."""

    def __init__(self, parameters: list[nn.Parameter], *, rate: float, momentum: float = 0.95) -> None:
        shapes = sorted({tuple(p.shape) for p in parameters})
        groups = [{"params": [p for p in parameters if tuple(p.shape) == shape]} for shape in shapes]
        super().__init__(groups, {"lr": rate, "momentum": momentum, "decay": 0.01})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            present = [p for p in group["params"] if p.grad is not None]
            if present:
                self._update(present, group["lr"], group["momentum"], group["decay"])

    def _update(self, parameters: list[nn.Parameter], rate: float, momentum: float, decay: float) -> None:
        updates = []
        for parameter in parameters:
            assert parameter.grad is not None
            state = self.state[parameter]
            average = state.setdefault("momentum", torch.zeros_like(parameter))
            average.lerp_(parameter.grad, 1 - momentum)
            updates.append(parameter.grad.lerp(average, momentum))
        orthogonal = orthogonalise(torch.stack(updates))
        scale = rate * 0.2 * max(orthogonal.shape[-2:]) ** 0.5
        for parameter, update in zip(parameters, orthogonal, strict=True):
            parameter.mul_(1 - rate * decay).add_(update, alpha=-scale)


def orthogonalise(matrices: Tensor) -> Tensor:
    """Newton-Schulz: (n, rows, columns) -> matrices of the same shape with singular values near 1."""
    a, b, c = COEFFICIENTS
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(NEWTON_SCHULZ_STEPS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    result: Tensor = x.mT if tall else x
    return result
