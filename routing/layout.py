"""Where the visual tokens of each sample stand in one prefill.

Built once per prefill from input_ids and the 2-D attention mask, on the host, so that every later count is a
plain int and nothing waits for the device. Knows no model, no schedule and no scores.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from routing.errors import UnsupportedInputError
from routing.select import uploaded


@dataclass(frozen=True)
class VisualLayout:
    """Positions of text and visual tokens in a batch of B prompts, L columns wide.

    visual, text: (B, L) bool, on the device of the prompt; padding is in neither.
    positions: for each sample, (V_b,) LongTensor on the CPU: columns of its visual tokens, ascending.
    question: (B, L) bool, on the device: the text behind the last visual token, no guesses; none without one.
    behind: for each sample, (T_b,) LongTensor on the CPU: the columns of its question, ascending.
    text_counts: real text tokens of each sample.
    query: (B,) LongTensor on the device: column of the token whose attention ranks the others.
    length: L. speculated: trailing columns that are guesses beyond the prompt (assisted decoding).
    padded: some column of some sample is padding.
    ends_in_text: in every sample the asking token stands behind all visual tokens.
    flush: every sample ends in the last column, with no padding behind it.
    """

    visual: Tensor
    text: Tensor
    positions: tuple[Tensor, ...]
    question: Tensor
    behind: tuple[Tensor, ...]
    text_counts: tuple[int, ...]
    query: Tensor
    length: int
    speculated: int
    padded: bool
    ends_in_text: bool
    flush: bool

    @property
    def visual_counts(self) -> tuple[int, ...]:
        """Visual tokens of each sample."""
        return tuple(len(columns) for columns in self.positions)

    @property
    def prompt_counts(self) -> tuple[int, ...]:
        """Real tokens of each sample, text and visual."""
        return tuple(t + v for t, v in zip(self.text_counts, self.visual_counts, strict=True))


def build_layout(
    ids: Tensor, attention_mask: Tensor | None, visual: Tensor, device: torch.device, speculated: int = 0
) -> VisualLayout:
    """The layout of one prefill, whose mask alone is read from the device.

    ids: (B, L) on the CPU. attention_mask: (B, L) of 0/1, or None for no padding. visual: (B, L) bool on the
    CPU, which ids stand for visual tokens. device: of the prompt. Raises UnsupportedInputError for masks that
    are not 2-D or do not match.
    """
    if attention_mask is None:
        real = torch.ones_like(ids, dtype=torch.bool)
    elif isinstance(attention_mask, Tensor) and attention_mask.shape == ids.shape:
        real = attention_mask.cpu().bool()
    else:
        given = getattr(attention_mask, "shape", type(attention_mask).__name__)
        raise UnsupportedInputError(
            f"a routed prefill needs a 2-D attention mask of the shape of input_ids, {ids.shape}; got {given}"
        )
    visual = visual & real
    text = real & ~visual
    length, padded = ids.shape[1], not bool(real.all())
    columns = torch.arange(length, device="cpu")
    query = length - 1 - real.flip(1).int().argmax(dim=1) - speculated  # the last real token, unless guessed
    last = (visual * (columns + 1)).amax(dim=1, keepdim=True) - 1  # -1: there is no visual token
    question = text & (last >= 0) & (columns > last) & (columns <= query[:, None])
    return VisualLayout(
        visual=uploaded(visual, device),
        text=uploaded(text, device),
        positions=tuple(columns[row] for row in visual),
        question=uploaded(question, device),
        behind=tuple(columns[row] for row in question),
        text_counts=tuple(text.sum(dim=1).tolist()),
        query=uploaded(query, device),
        length=length,
        speculated=speculated,
        padded=padded,
        ends_in_text=not bool((visual & (columns >= query[:, None])).any()),
        flush=not padded or bool(real[:, -1].all()),
    )
