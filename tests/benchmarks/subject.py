"""LLaVA-shaped random models, their prompt, and the calls that the benchmark times.

What is timed of the model is its own forward without vision tower, projector and vocabulary head: token
embedding, merging of given picture features, mask and position tables, all decoder layers with their KV
cache, the last norm. Knows no clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import CONFIG_MAPPING, CLIPVisionConfig, DynamicCache, LlavaConfig
from transformers import LlavaForConditionalGeneration as Llava
from transformers.modeling_outputs import BaseModelOutputWithPooling

from routing import route
from routing.checks.runs import holding
from routing.cost import ModelShape
from routing.families import describe_config
from routing.host import NAMES, Role
from routing.schedule import Schedule
from tests.benchmarks.limits import Workload, lengths, scored, stage_starts
from tests.benchmarks.rounds import Timed

HIDDEN, LAYERS, HEADS, MLP, VOCABULARY = 1024, 16, 16, 2752, 1000
TEXT, VISUAL, IMAGE = 64, 576, 999


@dataclass(frozen=True)
class Decoder:
    """A decoder to measure: its type, its sizes, and what kind of layer stands where.

    every: the kinds of layers, repeated over the depth. settings: what the type has beside.
    """

    model_type: str = "llama"
    every: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    hidden: int = HIDDEN
    layers: int = LAYERS
    heads: int = HEADS
    mlp: int = MLP
    text: int = TEXT
    visual: int = VISUAL


DECODERS = {
    "plain": Decoder(),
    "hybrid": Decoder(  # three gated delta nets to one layer of attention, of Qwen3.5's make
        "qwen3_5_text",
        every=("linear_attention",) * 3 + ("full_attention",),
        settings={
            "linear_num_key_heads": HEADS,
            "linear_num_value_heads": HEADS,
            "linear_key_head_dim": HIDDEN // HEADS,
            "linear_value_head_dim": HIDDEN // HEADS,
        },
    ),
    "window": Decoder(  # three windows to one layer that sees all, of Gemma 3's make
        "gemma3_text",
        every=("sliding_attention",) * 3 + ("full_attention",),
        settings={"sliding_window": 256},
    ),
}


class Subject:
    """The model with one prompt: half of the text, an image, the other half."""

    def __init__(self, dtype: torch.dtype, device: str, decoder: Decoder = DECODERS["plain"]) -> None:
        text, visual, self.hidden = decoder.text, decoder.visual, decoder.hidden
        torch.manual_seed(0)
        with torch.device(device):
            self.model = Llava(benchmark_config(decoder)).to(dtype).eval()
            self.features = torch.randn(1, visual, decoder.hidden).to(dtype)
            half = torch.randint(3, IMAGE, (text // 2,)), torch.randint(3, IMAGE, (text - text // 2,))
            self.ids = torch.cat([half[0], torch.full((visual,), IMAGE), half[1]])[None]
        self.info = describe_config(self.model.config)
        self.work = Workload(ModelShape.from_config(self.model.config.to_dict()), text, visual)
        self.decoder = self.model.model.language_model

    def run(self) -> object:
        """The prefill, dense or under the route that is open."""
        pictures = {"image": BaseModelOutputWithPooling(pooler_output=list(self.features))}
        return self.model.model(
            input_ids=self.ids,
            attention_mask=torch.ones_like(self.ids),
            mm_encoder_outputs=pictures,
            use_cache=True,
        )

    def routed(self, schedule: Schedule) -> Timed:
        """The prefill under a schedule, entering and leaving the route not included."""
        return Timed(self.run, lambda: route(self.model, schedule))

    def compact(self, schedule: Schedule) -> Timed:
        """Limit B: the same layers on the lengths of the schedule, with nothing chosen and nothing moved.

        At the start of each stage the layer gets hidden states that the routed model had there, with the
        positions and masks that they had; keys and values go into a fresh cache.
        """
        widths = lengths(self.work, schedule)
        given = self._inputs_of_layers(schedule)
        assert [hidden.shape[1] for hidden, _ in given] == list(widths)
        starts = {0, *stage_starts(widths, self.work.length)}
        config = self.model.config

        def run() -> object:
            cache = DynamicCache(config=config)
            hidden = given[0][0]
            for index, layer in enumerate(self.decoder.layers):
                if index in starts:
                    hidden = given[index][0]
                hidden = layer(hidden, **holding(cache), **given[index][1])
            return self.decoder.norm(hidden), cache

        return Timed(run)

    def _inputs_of_layers(self, schedule: Schedule) -> list[tuple[Tensor, dict[str, Any]]]:
        """Hidden states and arguments of every layer in a routed run, without the cache."""
        given: list[tuple[Tensor, dict[str, Any]]] = []

        def note(_layer: object, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            plain = {name: value for name, value in kwargs.items() if name not in NAMES[Role.CACHE]}
            given.append((args[0].clone(), plain))

        with route(self.model, schedule):
            handles = [
                layer.register_forward_pre_hook(note, with_kwargs=True) for layer in self.decoder.layers
            ]
            self.run()
            for handle in handles:
                handle.remove()
        return given

    def floor(self, schedule: Schedule) -> Timed:
        """What ranking can't do without: keys of all candidates and one row of attention a decision."""
        return self._ranking([(layer, width, width) for layer, width in scored(self.work, schedule)])

    def extra(self, schedule: Schedule) -> Timed:
        """The same, less the keys that limit B projects as well: those of tokens that stay."""
        widths = lengths(self.work, schedule)
        return self._ranking(
            [(layer, width, width - widths[layer]) for layer, width in scored(self.work, schedule)]
        )

    def _ranking(self, decisions: list[tuple[int, int, int]]) -> Timed:
        """(layer, positions ranked, positions projected) of each decision, as one call.

        The projections are those of the layer that ranks: the next one that has attention.
        """
        given = [
            (
                self.decoder.layers[self.info.ranking(layer)].self_attn,
                self._noise(projected, self.hidden),
                self._noise(width, self.hidden),
            )
            for layer, width, projected in decisions
        ]
        return Timed(lambda: [_keys_and_one_row(*each) for each in given])

    def _noise(self, *shape: int) -> Tensor:
        return torch.randn(1, *shape, device=self.features.device).to(self.features.dtype)


def _keys_and_one_row(attention: Any, hidden: Tensor, every: Tensor) -> Tensor:
    """Keys of `hidden`, one query, its product with as many keys as `every` has rows, added up in float32."""
    attention.k_proj(hidden)
    query = attention.q_proj(every[:, -1:])[..., : every.shape[-1]]  # without its gate
    heads = [rows.unflatten(-1, (-1, attention.head_dim)).transpose(1, 2).float() for rows in (query, every)]
    return heads[0] @ heads[1].transpose(-1, -2)


def benchmark_config(decoder: Decoder = DECODERS["plain"]) -> LlavaConfig:
    """A decoder, LLaMA-like or another, behind a vision tower that costs next to nothing."""
    kinds = (
        [decoder.every[at % len(decoder.every)] for at in range(decoder.layers)] if decoder.every else None
    )
    head = {"head_dim": decoder.hidden // decoder.heads, "layer_types": kinds} if kinds else {}
    text = CONFIG_MAPPING[decoder.model_type](
        hidden_size=decoder.hidden,
        intermediate_size=decoder.mlp,
        num_hidden_layers=decoder.layers,
        num_attention_heads=decoder.heads,
        num_key_value_heads=decoder.heads,
        vocab_size=VOCABULARY,
        max_position_embeddings=4096,
        **head,
        **decoder.settings,
    )
    tower = CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=1,
        image_size=48,
        patch_size=2,
    )
    return LlavaConfig(text_config=text, vision_config=tower, image_token_index=IMAGE)
