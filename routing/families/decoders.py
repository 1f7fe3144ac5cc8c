"""The language models that can be routed, with the library's own defaults for what a config leaves out.

Each is norm, attention (q_proj, k_proj, rotary), norm, MLP on a residual stream.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Decoder:
    """Default numbers of a decoder with gated MLPs; the names are those of configs.

    num_key_value_heads: None where it is the number of heads. head_dim: None where it is width over heads.
    """

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    vocab_size: int
    num_key_value_heads: int | None = None
    head_dim: int | None = None


DEFAULT = "llama"  # where neither a config nor its family names one, as in the library
DECODERS: dict[str, Decoder | None] = {  # None: a mixture of experts, whose cost is not modelled
    "llama": Decoder(4096, 11008, 32, 32, 32000),
    "mistral": Decoder(4096, 14336, 32, 32, 32000, 8),
    "ministral3": Decoder(4096, 14336, 34, 32, 131072, 8, 128),
    "qwen2": Decoder(4096, 22016, 32, 32, 151936, 32),
    "qwen3": Decoder(4096, 22016, 32, 32, 151936, 32, 128),
    "qwen3_moe": None,
    "gemma": Decoder(3072, 24576, 28, 16, 256000, 16, 256),
    "qwen2_vl_text": Decoder(8192, 29568, 80, 64, 152064, 8),
    "qwen2_5_vl_text": Decoder(8192, 29568, 80, 64, 152064, 8),
    "qwen3_vl_text": Decoder(4096, 22016, 32, 32, 151936, 32, 128),
    "qwen3_vl_moe_text": None,
    "glm4v_text": Decoder(4096, 13696, 40, 32, 151552, 2),
}
