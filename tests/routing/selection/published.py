"""What the published code of each method chose on seeded tensors; the README beside them says where from."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

FOLDER = Path(__file__).parent.parent.parent / "fixtures" / "parity" / "selection"
CASES = json.loads((FOLDER / "cases.json").read_text())
TENSORS = load_file(FOLDER / "selection.safetensors")


class Published:
    """One case: its parameters, its inputs and the outputs of the published code, by name."""

    def __init__(self, case: dict[str, Any]) -> None:
        self.name = f"{case['method']}.{case['name']}"
        self.params: dict[str, Any] = case["params"]
        self._names = {"in": case["inputs"], "out": case["outputs"]}

    def _tensors(self, side: str) -> dict[str, torch.Tensor]:
        return {name: TENSORS[f"{self.name}.{side}.{name}"] for name in self._names[side]}

    @property
    def given(self) -> dict[str, torch.Tensor]:
        """The inputs."""
        return self._tensors("in")

    @property
    def answer(self) -> dict[str, torch.Tensor]:
        """The outputs."""
        return self._tensors("out")


def cases(method: str) -> pytest.MarkDecorator:
    """Parametrises a test over the published cases of one method, as `case`."""
    found = [Published(case) for case in CASES if case["method"] == method]
    assert found
    return pytest.mark.parametrize("case", found, ids=[case.name for case in found])
