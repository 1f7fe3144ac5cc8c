"""The decoder's forward pass for packed training, with the weights of transformers' LlamaModel.

The picture's tokens attend causally among themselves, once for all questions; the text rows attend to the
picture and to their own block. That equals running every question alone, and costs a fraction. Knows
nothing of data or losses but the attention it is asked to report.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaModel, LlamaRMSNorm

from samples.pocket_training.packing import PREFIX

MASKED = -1e4


@dataclass(frozen=True)
class Watched:
    """(layer, head) pairs whose attention mass on targets (B, R, V) is reported for text rows (B, R)."""

    heads: Sequence[tuple[int, int]]
    rows: Tensor
    targets: Tensor


def text_bias(block: Tensor, blind: Tensor) -> Tensor:
    """Additive mask of the text rows, (B, 1, T, PREFIX + T): own block, causal; blind rows see no picture."""
    batch, length = block.shape
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    own = (block[:, :, None] == block[:, None, :]) & causal
    sees = torch.ones(batch, length, PREFIX, dtype=torch.bool)
    sees[:, :, 2:] = ~blind[:, :, None]
    return torch.where(torch.cat((sees, own), -1), 0.0, MASKED)[:, None]


def decode(
    llama: LlamaModel, states: Tensor, positions: Tensor, bias: Tensor, watched: Watched
) -> tuple[Tensor, Tensor]:
    """Final states of the text rows (B, T, d) and the watched masses (pairs, B, R).

    states: (B, PREFIX + T, d) embeddings; positions: (B, T) of the text.
    """
    angles = _angles(llama, positions)
    masses = []
    heads = dict(watched.heads)
    for number, layer in enumerate(llama.layers):
        assert isinstance(layer, LlamaDecoderLayer)
        query, key, value = _project(layer, states, angles)
        if number in heads:
            masses.append(_mass(query[:, heads[number]], key[:, heads[number]], watched))
        states = _finish(layer, states, _attend(query, key, value, bias))
    return _norm(llama.norm, states[:, PREFIX:]), torch.stack(masses)


def _angles(llama: LlamaModel, positions: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine and sine (B, 1, L, head) of the rotary embedding."""
    half = llama.config.head_dim // 2
    theta = llama.config.rope_parameters["rope_theta"]
    frequencies = theta ** (-torch.arange(half).float() / half)
    prefix = torch.arange(PREFIX).expand(positions.shape[0], -1)
    turns = torch.cat((prefix, positions), 1)[..., None].float() * frequencies
    both = torch.cat((turns, turns), -1)[:, None]
    return both.cos(), both.sin()


def _project(
    layer: LlamaDecoderLayer, states: Tensor, angles: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    attention = layer.self_attn
    hidden = _norm(layer.input_layernorm, states)
    shape = (*hidden.shape[:2], -1, attention.head_dim)
    query, key, value = (
        projection(hidden).view(shape).transpose(1, 2)
        for projection in (attention.q_proj, attention.k_proj, attention.v_proj)
    )
    return _rotate(query, angles), _rotate(key, angles), value


def _rotate(x: Tensor, angles: tuple[Tensor, Tensor]) -> Tensor:
    first, second = x.chunk(2, -1)
    return x * angles[0] + torch.cat((-second, first), -1) * angles[1]


def _attend(query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
    prefix = F.scaled_dot_product_attention(
        query[:, :, :PREFIX], key[:, :, :PREFIX], value[:, :, :PREFIX], is_causal=True
    )
    text = F.scaled_dot_product_attention(query[:, :, PREFIX:], key, value, attn_mask=bias)
    return torch.cat((prefix, text), 2)


def _mass(query: Tensor, key: Tensor, watched: Watched) -> Tensor:
    """Share of one head's attention to the picture that falls on the targets: (B, R)."""
    rows = (PREFIX + watched.rows)[..., None].expand(-1, -1, query.shape[-1])
    scores = query.gather(1, rows) @ key[:, 2:PREFIX].mT * query.shape[-1] ** -0.5
    shares: Tensor = (scores.softmax(-1) * watched.targets).sum(-1)
    return shares


def _finish(layer: LlamaDecoderLayer, states: Tensor, attended: Tensor) -> Tensor:
    states = states + layer.self_attn.o_proj(attended.transpose(1, 2).flatten(2))
    hidden, mlp = _norm(layer.post_attention_layernorm, states), layer.mlp
    changed: Tensor = states + mlp.down_proj(F.silu(mlp.gate_proj(hidden)) * mlp.up_proj(hidden))
    return changed


def _norm(norm: LlamaRMSNorm, x: Tensor) -> Tensor:
    scaled: Tensor = norm.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + norm.variance_epsilon))
    return scaled
