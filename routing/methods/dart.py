"""DART: keep what resembles a few pivots least, without any attention (https://arxiv.org/abs/2502.11494).

Once, early in the decoder. Pivots are the four image tokens and the four later text tokens whose keys (with
positions, all key heads together) have the largest L1 norms. Pivot after pivot takes, of the image tokens
that are left, those whose hidden state (through the decoder's final norm) has the lowest cosine with its own;
the image pivots are kept themselves.

Layer 5 of 32 and the eight pivots are those of LightCompress (9701d035), in the absence of the authors' code;
the paper's own default is layer 2 (`cuts`). Three things are ours. The release visits its pivots in the order
of a Python set, here the largest norm comes first. It keeps 4 + 8 * floor(budget / 8) tokens, here exactly K:
each pivot takes (K - 4) / 8 of them, and what is left over goes one each to the first pivots; a prompt with
less text, or a K below 4, has fewer pivots. It takes the keys that layer 4 has cached for a removal at layer
5, here they are the deciding layer's own, of the same input as the hidden states (as FastV's default).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from routing.methods.fastv import uniform_stages
from routing.methods.method import Method, Request, Scorer, Shape, Sight
from routing.schedule import Action, Schedule

if TYPE_CHECKING:
    from torch import Tensor

SCORER = "unlike_pivots"
PIVOTS = 4  # of the image, and of the text behind it
ROOM = 2.0  # every chosen token scores this or more, all others at most 1


def rank(sight: Sight) -> Tensor:
    """Scores (B, S): the chosen in their order, then the others, most unlike their nearest pivot first."""
    import torch

    assert sight.keys is not None
    assert sight.states is not None
    norms = sight.keys.float().abs().sum(dim=(1, 3))
    kept = torch.tensor(sight.counts, device="cpu").to(norms.device, non_blocking=True)[:, None]
    most = min(PIVOTS, norms.shape[1])
    place = torch.arange(most, device=norms.device)
    images, image_norms = _largest(norms, sight.candidates, most)
    texts, text_norms = _largest(norms, sight.behind, most)
    image_norms = image_norms.masked_fill(place >= kept, -torch.inf)
    strongest = torch.cat([image_norms, text_norms], dim=1).sort(dim=1, descending=True, stable=True)
    pivots = torch.cat([images, texts], dim=1).gather(1, strongest.indices)
    there = strongest.values > -torch.inf

    order = torch.full_like(norms, -1, dtype=torch.long)
    order = order.scatter(1, images, place.where(image_norms > -torch.inf, -1))
    own = (order >= 0).sum(dim=1, keepdim=True)
    number = there.sum(dim=1, keepdim=True).clamp(min=1)
    each, over = (kept - own) // number, (kept - own) % number
    shares = (each + (torch.arange(2 * most, device=norms.device) < over)) * there
    alike = cosines(sight.states, pivots)
    order = peel(alike, shares, sight.candidates, order)
    nearest = alike.masked_fill(~there[..., None], -1).amax(dim=1)
    return (ROOM + kept - 1 - order).where(order >= 0, -nearest)


def _largest(norms: Tensor, among: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Rows (B, count) of the largest norms, and these norms; -inf where there are no more."""
    import torch

    found = norms.masked_fill(~among, -torch.inf).sort(dim=1, descending=True, stable=True)
    return found.indices[:, :count], found.values[:, :count]


def cosines(states: Tensor, pivots: Tensor) -> Tensor:
    """Cosine (B, P, S) float32 of the states (B, S, d) at rows `pivots` (B, P) with all; 2 B P S d FLOPs."""
    import torch
    import torch.nn.functional as F

    unit = F.normalize(states.float(), dim=-1)
    batch = torch.arange(len(unit), device=unit.device)[:, None]
    return unit[batch, pivots] @ unit.transpose(1, 2)


def peel(alike: Tensor, shares: Tensor, among: Tensor, order: Tensor) -> Tensor:
    """Pivot after pivot takes its share of the least similar tokens that nobody has taken yet.

    alike: (B, P, S). shares: (B, P), whole numbers. among: (B, S) bool. order: (B, S), 0, 1, ... for what is
    taken already, -1 for all else. Returns the same with the others; equal ones go to the lower row.
    """
    import torch

    done = (order >= 0).sum(dim=1, keepdim=True)
    places = torch.arange(order.shape[1], device=order.device).expand_as(order)
    for similarity, share in zip(alike.unbind(1), shares.unbind(1), strict=True):
        left = among & (order < 0)
        least = similarity.masked_fill(~left, torch.inf).argsort(dim=1, stable=True)
        place = torch.empty_like(least).scatter_(1, least, places)
        order = (done + place).where(left & (place < share[:, None]), order)
        done = done + share[:, None]
    return order


def _solve(request: Request) -> Schedule:
    stages = uniform_stages(request, METHOD)
    return Schedule(stages, action=request.action, scorer=SCORER, rounding=request.rounding)


METHOD = Method(
    name="dart",
    title="DART",
    paper="https://arxiv.org/abs/2502.11494",
    year=2025,
    summary="early in the decoder, the tokens that resemble a few pivots least, without attention",
    scored="language",
    published={Action.PRUNE: (5,), Action.REROUTE: (5, 7, 15, 23)},
    solver=_solve,
    options={"cuts": "cut layers in place of the published ones"},
    shape=Shape("by a ranking of its own"),
    scorers={SCORER: Scorer(rank=rank, flops=lambda length, width: 4 * min(PIVOTS, length) * length * width)},
)
