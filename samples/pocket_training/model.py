"""The embedded model's architecture and its random start. Knows nothing of data, training or files."""

import torch
from torch import nn
from transformers import LlamaConfig, LlavaConfig, LlavaForConditionalGeneration, PreTrainedTokenizerFast

from samples.pocket_training.packing import PATCHES
from samples.pocket_training.tower import WIDTH, vision_config

LAYERS = 12
HEADS = 3
HEAD = WIDTH // HEADS
MATCHED_LAYERS = range(4, 9)
"""Layers one head of which starts with equal query and key matrices, so it attends to what is alike."""
LOOKUP_LAYERS = range(5, 9)
"""Layers one head of which is taught to look at what the answer is about."""
SPREAD = 0.07


def lookup_head(layer: int) -> int:
    """The head that is matched and taught in a layer."""
    return layer % HEADS


def new_model(tokenizer: PreTrainedTokenizerFast) -> LlavaForConditionalGeneration:
    """A LLaVA with 12 decoder layers of width 192 and random weights (7.8 million, tied embeddings)."""
    text = LlamaConfig(
        hidden_size=WIDTH, intermediate_size=512, num_hidden_layers=LAYERS, num_attention_heads=HEADS,
        num_key_value_heads=HEADS, vocab_size=len(tokenizer), max_position_embeddings=1024,
        tie_word_embeddings=True, rope_theta=10000.0, pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    config = LlavaConfig(
        vision_config=vision_config(), text_config=text, vision_feature_layer=-1,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"), vision_feature_select_strategy="default",
        image_seq_length=PATCHES, tie_word_embeddings=True,
    )  # fmt: skip
    model = LlavaForConditionalGeneration(config)
    _spread(model)
    _match(model)
    return model


def _spread(model: LlavaForConditionalGeneration) -> None:
    """Normal start of the projector and the decoder, smaller where a matrix writes to the residual stream."""
    for part in (model.model.multi_modal_projector, model.model.language_model):
        for name, parameter in part.named_parameters():
            if parameter.ndim == 2:
                writes = "o_proj" in name or "down_proj" in name
                nn.init.normal_(parameter, std=SPREAD * (2 / LAYERS) ** 0.5 if writes else SPREAD)


@torch.no_grad()
def _match(model: LlavaForConditionalGeneration) -> None:
    """One head of each matched layer: query and key project on the same random orthonormal directions."""
    for layer in MATCHED_LAYERS:
        attention = model.model.language_model.layers[layer].self_attn
        directions = torch.linalg.qr(torch.randn(WIDTH, WIDTH))[0][:HEAD] * 1.2
        rows = slice(lookup_head(layer) * HEAD, (lookup_head(layer) + 1) * HEAD)
        attention.q_proj.weight[rows] = directions
        attention.k_proj.weight[rows] = directions
