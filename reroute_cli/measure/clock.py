"""Latency of one generation: a mark where the decoder starts, and one for every new token.

On a GPU the marks are CUDA events, so nothing waits inside the timed region; elsewhere they are readings of
perf_counter (the CPU has nothing to wait for). Does not know prompts or schedules, and of the model only
where its decoder is.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from time import perf_counter
from types import TracebackType
from typing import Any, TypeVar

import torch
from transformers import StoppingCriteria

Made = TypeVar("Made")


class TokenClock(StoppingCriteria):
    """Times a generate() call: enter it around the call and pass it in `stopping_criteria`; it never stops.

    device: where the model is. model: with one, the decoder's first start is marked too, by a hook that goes
    when the clock stops. Afterwards `ttft`, `gaps`, `tpot`, `end_to_end`, `vision`, `prefill` and `decode`
    are in seconds, with vision + prefill = ttft and ttft + decode = end_to_end. What was not marked, or ended
    in an exception, raises RuntimeError when read.
    """

    def __init__(self, device: str, model: Any = None) -> None:
        self._cuda = device.startswith("cuda")
        self._device, self._model = device, model
        self._start: Any = None
        self._decoder: Any = None
        self._marks: list[Any] = []
        self._seconds: tuple[float, ...] = ()
        self._until_decoder: float | None = None

    def __enter__(self) -> TokenClock:
        self._decoder, self._marks, self._seconds, self._until_decoder = None, [], (), None
        with ExitStack() as undo:
            undo.enter_context(alone("time"))
            if self._model is not None:
                decoder = self._model.get_decoder()
                undo.callback(decoder.register_forward_pre_hook(self._mark_decoder).remove)
            if self._cuda:
                torch.cuda.synchronize(self._device)
            self._undo = undo.pop_all()
        self._start = self._now()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._marks.append(self._now())
        with self._undo:
            if error is not None:
                return
            if self._cuda:
                torch.cuda.synchronize(self._device)
            self._seconds = tuple(self._since_start(mark) for mark in self._marks)
            if self._decoder is not None:
                self._until_decoder = self._since_start(self._decoder)

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        """Mark that one more token is there; (B,) of False: never stop."""
        self._marks.append(self._now())
        return torch.zeros(input_ids.shape[0], dtype=torch.bool, device=input_ids.device)

    @property
    def tokens(self) -> int:
        """How many tokens were marked."""
        return max(0, len(self._seconds) - 1)

    @property
    def ttft(self) -> float:
        """Seconds to the first token: vision tower, prefill and the choice of the token."""
        if not self.tokens:
            raise RuntimeError("no token was timed: pass the clock in stopping_criteria and let the call end")
        return self._seconds[0]

    @property
    def end_to_end(self) -> float:
        """Seconds of the whole generate() call."""
        if not self._seconds:
            raise RuntimeError(
                "nothing was timed: the clock was not entered, or an exception ended its block"
            )
        return self._seconds[-1]

    def until(self, tokens: int) -> float:
        """Seconds until an answer of so many tokens was there; until the call's end for the longest."""
        if not 0 < tokens <= self.tokens:
            raise RuntimeError(f"{self.tokens} tokens were timed, not {tokens}")
        return self._seconds[tokens - 1] if tokens < self.tokens else self.end_to_end

    @property
    def gaps(self) -> tuple[float, ...]:
        """Seconds from each token to the next: one fewer than there are tokens."""
        return tuple(later - mark for mark, later in pairwise(self._seconds[: self.tokens]))

    @property
    def tpot(self) -> float | None:
        """Seconds per token after the first: (end to end - TTFT) / (tokens - 1); None for one token."""
        return self.decode / (self.tokens - 1) if self.tokens > 1 else None

    @property
    def vision(self) -> float:
        """Seconds until the decoder starts: tower, projector, embedding and generate()'s own set-up."""
        if self._until_decoder is None:
            raise RuntimeError("the decoder's start was not timed: make the clock with the model that runs")
        return self._until_decoder

    @property
    def prefill(self) -> float:
        """Seconds from the decoder's start to the first token."""
        return self.ttft - self.vision

    @property
    def decode(self) -> float:
        """Seconds from the first token to the end."""
        return self.end_to_end - self.ttft

    def _mark_decoder(self, _decoder: Any, _args: Any) -> None:
        if self._decoder is None:
            self._decoder = self._now()

    def _now(self) -> Any:
        if not self._cuda:
            return perf_counter()
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(self._device))
        return event

    def _since_start(self, mark: Any) -> float:
        return float(self._start.elapsed_time(mark)) / 1e3 if self._cuda else float(mark - self._start)


def seconds_of(work: Callable[[], Made], device: str) -> tuple[Made, float]:
    """What `work` makes and how long the device is busy with it; on a GPU waits for what came before it."""
    cuda = device.startswith("cuda")
    if cuda:
        torch.cuda.synchronize(device)
    start = perf_counter()
    made = work()
    if cuda:
        torch.cuda.synchronize(device)
    return made, perf_counter() - start


_LOCK = threading.Lock()
_OPEN: list[str] = []


@contextmanager
def alone(kind: str) -> Iterator[None]:
    """Hold the right to measure; RuntimeError where it is held already, in this thread or another.

    kind: what is measured, as the message names it.
    """
    if not _LOCK.acquire(blocking=False):
        raise RuntimeError(
            f"{kind} can't be measured while {' and '.join(_OPEN) or 'something'} is being measured: each "
            "would falsify the other; give each kind of number a pass of its own"
        )
    _OPEN.append(kind)
    try:
        yield
    finally:
        _OPEN.clear()
        _LOCK.release()
