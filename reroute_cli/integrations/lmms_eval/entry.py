"""What lmms-eval finds under its entry point group `lmms_eval.models`: that there is a model `reroute`.

Knows the name of the class and does not load it.
"""

from __future__ import annotations

from typing import Any


def manifest() -> Any:
    """lmms-eval's ModelManifest of the model `reroute`."""
    from lmms_eval.models.registry_v2 import ModelManifest

    return ModelManifest(
        model_id="reroute", chat_class_path="reroute_cli.integrations.lmms_eval.model.Reroute"
    )
