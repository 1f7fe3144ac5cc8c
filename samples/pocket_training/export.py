"""Writes a trained model as an ordinary Hugging Face folder in bfloat16. Knows nothing of training."""

import copy
from pathlib import Path

from transformers import (
    GenerationConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)
from transformers.models.clip import CLIPImageProcessorPil

from samples.pocket_training.scenes import IMAGE_SIZE, PATCH

MAX_NEW_TOKENS = 16


def export(model: LlavaForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    """Write weights, configuration, tokenizer, processor and chat template to the folder `out`."""
    half = copy.deepcopy(model).bfloat16()
    half.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id, max_new_tokens=MAX_NEW_TOKENS, do_sample=False,
    )  # fmt: skip
    half.save_pretrained(out)
    sides = {"height": IMAGE_SIZE, "width": IMAGE_SIZE}
    pictures = CLIPImageProcessorPil(size={"shortest_edge": IMAGE_SIZE}, crop_size=sides)
    LlavaProcessor(
        image_processor=pictures, tokenizer=tokenizer, patch_size=PATCH,
        vision_feature_select_strategy="default", num_additional_image_tokens=1,
        image_token="<image>", chat_template=tokenizer.chat_template,
    ).save_pretrained(out)  # fmt: skip
