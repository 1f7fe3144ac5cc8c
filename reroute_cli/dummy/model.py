"""A model of the right shapes with random weights, made without a file.

Built on the meta device, weighed against what is free, and only then allocated where it will run. Matrices
are filled from one pool of small normal numbers, which is as fast as copying. The library's initialisation
does the rest: norms of one, biases of zero, and every buffer (rotary frequencies, position ids) anew, since
allocating leaves garbage in them. Knows no processor.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reroute_cli.console.errors import Failure
from reroute_cli.missing import lacks
from reroute_cli.room import check_room

_POOL = 1_299_709  # numbers; a prime, so that no two rows and no two matrices start alike
_STD = 0.02
_SEEN = 64  # numbers of a matrix that tell whether it was filled anew
_UNSET = -(2**30)  # no position and no index is this


def build_config(numbers: Mapping[str, Any]) -> Any:
    """The library's full config of what a config.json says, with the library's defaults for the rest."""
    from transformers import AutoConfig

    return AutoConfig.for_model(**numbers)


def build_model(name: str, config: Any, settings: dict[str, Any], device: str, seed: int) -> Any:
    """The model of a transformers config in eval mode on its device (raises Failure where it has no room).

    settings: dtype and attn_implementation, as from_config takes them.
    """
    import torch
    from transformers import AutoModelForImageTextToText

    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(config, **settings)
    model.tie_weights()
    check_room(name, _bytes(model), device, str(model.dtype).removeprefix("torch."))
    model.to_empty(device=device)
    model.tie_weights()  # allocating gave each of two tied tensors its own memory
    torch.manual_seed(seed)
    with torch.no_grad():
        _fill_matrices(model)
        _spoil_buffers(model)
        first = next(weight for weight in model.parameters() if weight.dim() > 1)
        before = first.view(-1)[:_SEEN].clone()
        model.initialize_weights()
    if not torch.equal(before, first.view(-1)[:_SEEN]):  # then the seed does not say what the weights are
        raise Failure(lacks("transformers", "_is_hf_initialized", "initialize_weights"))
    _check_buffers(model)
    return model.eval()


def _bytes(model: Any) -> int:
    """Bytes of parameters and buffers, tied ones once."""
    held = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    return sum(tensor.nbytes for tensor in held.values())


def _fill_matrices(model: Any) -> None:
    """Write the pool over and over through all matrices, and tell the library that they are done."""
    import torch

    matrices = [weight for weight in model.parameters() if weight.dim() > 1]
    pools: dict[Any, Any] = {}
    start = 0
    for weight in matrices:
        if weight.dtype not in pools:
            pool = torch.empty(_POOL, device=weight.device).normal_(0.0, _STD)
            pools[weight.dtype] = pool.repeat(2).to(weight.dtype)
        turned = pools[weight.dtype][start : start + _POOL]
        for part in weight.view(-1).split(_POOL):
            part.copy_(turned[: len(part)])
        start = (start + weight.numel()) % _POOL
        weight._is_hf_initialized = True


def _spoil_buffers(model: Any) -> None:
    """Mark every buffer, so that one which initialisation forgets is found and not used as it is."""
    for buffer in model.buffers():
        buffer.fill_(float("nan") if buffer.is_floating_point() else _UNSET)


def _check_buffers(model: Any) -> None:
    """Our own bug, or a new family's: a buffer that nothing has computed."""
    forgotten = [
        name
        for name, buffer in model.named_buffers()
        if (buffer.isnan() if buffer.is_floating_point() else buffer == _UNSET).any()
    ]
    assert not forgotten, f"these buffers of {type(model).__name__} were not initialised: {forgotten}"
