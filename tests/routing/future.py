"""Decoder layers of a release of transformers that is not there yet: one argument has another name."""

import inspect

from torch import nn

from routing.host import LAYER_ROLES, NAMES, Role

ROLES = tuple(role for role in LAYER_ROLES if role is not Role.LAYER_INPUTS)  # what each layer is told

RENAMED = {
    Role.CACHE: "kv_store",
    Role.POSITION_EMBEDDINGS: "rotary",
    Role.ATTENTION_MASK: "visibility",
    Role.HIDDEN_STATES: "residual_stream",
    Role.POSITION_IDS: "places",
}


def future(role):
    """The class of a decoder layer of a future release, in which the argument of `role` has another name."""
    names = {each: RENAMED[each] if each is role else NAMES[each][0] for each in ROLES}

    class Future(nn.Module):
        def __init__(self, layer):
            super().__init__()
            self.inner = layer

        def forward(self, *args, **kwargs):
            old = dict(inspect.signature(type(self.inner).forward).parameters)
            given = {}
            for name, value in kwargs.items():
                meant = next((each for each in ROLES if names[each] == name), None)
                known = [n for n in NAMES[meant] if n in old] if meant else [name]
                given[known[0]] = value
            return self.inner(*args, **given)

    parameters = [inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)]
    parameters += [
        inspect.Parameter(names[each], inspect.Parameter.POSITIONAL_OR_KEYWORD, default=None)
        for each in ROLES
    ]
    parameters.append(inspect.Parameter("kwargs", inspect.Parameter.VAR_KEYWORD))
    Future.forward.__signature__ = inspect.Signature(parameters)
    return Future
