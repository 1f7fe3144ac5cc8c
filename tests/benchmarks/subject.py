"""A LLaVA-shaped random model, its prompt, and the calls that the benchmark times.

What is timed of the model is its own forward without vision tower, projector and vocabulary head: token
embedding, merging of given picture features, mask and position tables, all decoder layers with their KV
cache, the last norm. Knows no clock.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import CLIPVisionConfig, DynamicCache, LlamaConfig, LlavaConfig
from transformers import LlavaForConditionalGeneration as Llava
from transformers.modeling_outputs import BaseModelOutputWithPooling

from routing import route
from routing.checks.runs import holding
from routing.cost import ModelShape
from routing.host import NAMES, Role
from routing.schedule import Schedule
from tests.benchmarks.limits import Workload, lengths, scored, stage_starts
from tests.benchmarks.rounds import Timed

HIDDEN, LAYERS, HEADS, MLP, VOCABULARY = 1024, 16, 16, 2752, 1000
TEXT, VISUAL, IMAGE = 64, 576, 999


class Subject:
    """The model with one prompt of 32 text tokens, a picture of 576 tokens and 32 text tokens."""

    def __init__(self, dtype: torch.dtype, device: str) -> None:
        torch.manual_seed(0)
        with torch.device(device):
            self.model = Llava(benchmark_config()).to(dtype).eval()
            self.features = torch.randn(1, VISUAL, HIDDEN).to(dtype)
            half = torch.randint(3, IMAGE, (TEXT // 2,)), torch.randint(3, IMAGE, (TEXT - TEXT // 2,))
            self.ids = torch.cat([half[0], torch.full((VISUAL,), IMAGE), half[1]])[None]
        self.work = Workload(ModelShape.from_config(self.model.config.to_dict()), TEXT, VISUAL)
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
        positions that they had. No mask, as the dense model has none; keys and values go into a fresh cache.
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
        """Hidden states and arguments of every layer in a routed run, without mask and cache."""
        given: list[tuple[Tensor, dict[str, Any]]] = []

        def note(_layer: object, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            plain = {name: value for name, value in kwargs.items() if name not in NAMES[Role.CACHE]}
            given.append((args[0].clone(), {**plain, "attention_mask": None}))

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
        """(layer, positions ranked, positions projected) of each decision, as one call."""
        given = [
            (
                self.decoder.layers[layer].self_attn,
                self._noise(projected, HIDDEN),
                self._noise(width, HIDDEN),
            )
            for layer, width, projected in decisions
        ]
        return Timed(lambda: [_keys_and_one_row(*each) for each in given])

    def _noise(self, *shape: int) -> Tensor:
        return torch.randn(1, *shape, device=self.features.device).to(self.features.dtype)


def _keys_and_one_row(attention: Any, hidden: Tensor, every: Tensor) -> Tensor:
    """Keys of `hidden`, one query, its product with as many keys as `every` has rows, added up in float32."""
    attention.k_proj(hidden)
    query = attention.q_proj(every[:, -1:])
    heads = [rows.unflatten(-1, (-1, attention.head_dim)).transpose(1, 2).float() for rows in (query, every)]
    return heads[0] @ heads[1].transpose(-1, -2)


def benchmark_config() -> LlavaConfig:
    """The configuration: a LLaMA-like decoder behind a vision tower that costs next to nothing."""
    text = LlamaConfig(
        hidden_size=HIDDEN,
        intermediate_size=MLP,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        vocab_size=VOCABULARY,
        max_position_embeddings=4096,
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
