"""Latency of one generation: a mark for every new token, made without touching the model.

On a GPU the marks are CUDA events, so nothing waits inside the timed region; elsewhere they are perf_counter
readings (the CPU has nothing to wait for). Does not know models, prompts or schedules.
"""

from __future__ import annotations

from time import perf_counter
from types import TracebackType
from typing import Any

import torch
from transformers import StoppingCriteria


class TokenClock(StoppingCriteria):
    """Times a generate() call: enter it around the call and pass it in `stopping_criteria`; it never stops.

    Afterwards `ttft`, `tpot` and `end_to_end` are seconds from entering the clock.
    """

    def __init__(self, device: str) -> None:
        self._cuda = device.startswith("cuda")
        self._device = device
        self._marks: list[Any] = []
        self._seconds: tuple[float, ...] = ()

    def __enter__(self) -> TokenClock:
        if self._cuda:
            torch.cuda.synchronize(self._device)
        self._marks = [self._now()]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._marks.append(self._now())
        if self._cuda:
            torch.cuda.synchronize(self._device)
        self._seconds = tuple(self._since_start(mark) for mark in self._marks[1:])

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        """Mark that one more token is there; (B,) of False: never stop."""
        self._marks.append(self._now())
        return torch.zeros(input_ids.shape[0], dtype=torch.bool, device=input_ids.device)

    @property
    def tokens(self) -> int:
        """How many tokens were marked."""
        return len(self._seconds) - 1

    @property
    def ttft(self) -> float:
        """Seconds to the first token: vision tower, prefill and the choice of the token."""
        return self._seconds[0]

    @property
    def end_to_end(self) -> float:
        """Seconds of the whole generate() call."""
        return self._seconds[-1]

    @property
    def tpot(self) -> float | None:
        """Seconds per token after the first: (end to end - TTFT) / (tokens - 1); None for one token."""
        return (self.end_to_end - self.ttft) / (self.tokens - 1) if self.tokens > 1 else None

    def _now(self) -> Any:
        if not self._cuda:
            return perf_counter()
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(self._device))
        return event

    def _since_start(self, mark: Any) -> float:
        start = self._marks[0]
        return float(start.elapsed_time(mark)) / 1e3 if self._cuda else float(mark - start)
