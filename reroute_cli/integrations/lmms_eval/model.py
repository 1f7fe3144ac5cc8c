"""The model `reroute` of lmms-eval: any of its benchmarks with pictures or text, under a schedule.

    python -m lmms_eval --model reroute --batch_size 8 --tasks refcoco \
        --model_args pretrained=llava-hf/llava-1.5-7b-hf,method=pdrop,action=reroute,ratio=0.889

Knows lmms-eval's ways (0.7) and hands everything else on; only lmms-eval imports this file.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from lmms_eval import utils
from lmms_eval.api.instance import GenerationResult, TokenCounts
from lmms_eval.api.model import lmms
from lmms_eval.models.model_utils.gen_metrics import log_metrics
from loguru import logger
from tqdm import tqdm

from profiles.errors import ProfileError
from reroute_cli.console.errors import Failure, UsageError
from reroute_cli.console.output import check_writable, to_json, write_file
from reroute_cli.integrations.lmms_eval.requests import ChatAnswer, ChatEngine, TaskRequest, read_request
from reroute_cli.models.load import load, quiet_libraries
from reroute_cli.plugins.lmms_arguments import Arguments, read_arguments
from reroute_cli.plugins.lmms_words import cost_lines, warnings
from reroute_cli.records.base import EnvironmentPart, GenerationPart, ModelPart
from reroute_cli.records.lmms_costs import AnswersPart, AskedPart, LmmsCosts, TaskPart, VisualPart
from reroute_cli.run.answer import environment_part, generation_part, model_part
from reroute_cli.schedules import ScheduleChoice
from routing.errors import RoutingError
from routing.methods import DENSE

_OF_ALL = (UsageError, RoutingError, ProfileError)  # what is wrong with one request like this is so with all


NOTHING = "nothing was answered"
NO_PICTURES = "no answered request has a picture"


@dataclass
class RoutedCounts(TokenCounts):
    """Token counts of one answer, with what the schedule left of it: lmms-eval logs them with the sample."""

    visual_tokens: int = 0
    visual_tokens_per_layer: float = 0.0
    kv_end_bytes: int = 0
    dense_kv_end_bytes: int = 0

    def to_dict(self) -> dict[str, Any]:
        """The counts by name."""
        own = ("visual_tokens", "visual_tokens_per_layer", "kv_end_bytes", "dense_kv_end_bytes")
        return {**super().to_dict(), **{name: getattr(self, name) for name in own}}


class Reroute(lmms):
    """Chat messages in, greedy answers out, in the requests' order, as `reroute batch` gives them."""

    is_simple = False

    @classmethod
    def create_from_arg_string(
        cls, arg_string: str | Mapping[str, Any], additional_config: Mapping[str, Any] | None = None
    ) -> Reroute:
        """The model of `--model_args`; additional_config: lmms-eval's own options, such as --batch_size."""
        plain = arg_string if isinstance(arg_string, Mapping) else utils.simple_parse_args_string(arg_string)
        given = dict(plain)
        for name, value in (additional_config or {}).items():
            if name not in given:
                given[name] = value
            elif value is not None and str(value) not in ("1", str(given[name])):  # 1 is --batch_size untyped
                raise UsageError(f"{name} is {given[name]} in --model_args and {value} in --{name}: give one")
        return cls(**given)

    def __init__(self, **given: Any) -> None:
        super().__init__()
        self._arguments = _of_this_process(read_arguments(given))
        if reason := check_writable(self._arguments.costs):
            raise Failure(f"costs: {reason}")
        if _processes() > 1:
            self._join()
        with quiet_libraries():
            loaded = load(self._arguments.load)
        self._device, self._model_part = torch.device(loaded.device), model_part(loaded)
        self._generation = generation_part(loaded, self._arguments.max_new_tokens)
        self._environment = environment_part(loaded)
        choice = self._arguments.choice
        for remark in loaded.remarks:
            logger.warning(remark)
        if caveat := choice.caveat(loaded.family, loaded.layers):
            logger.warning(caveat)
        self._engine: ChatEngine | None = ChatEngine(loaded, choice, self._arguments.batch_size)
        self._sums: dict[str, TaskSums] = {}
        self._checked: set[str] = set()

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self._device

    @property
    def batch_size(self) -> int:
        """Requests in a pass at most."""
        return self._arguments.batch_size

    def generate_until(self, requests: Sequence[Any]) -> list[GenerationResult]:
        """An answer to each request; one that fails gets an empty one and is counted.

        Raises what is wrong with a task as such, before any answer is made, and Failure where none was made.
        """
        if self._engine is None:
            raise Failure("this model was given back after its last evaluation: make a new one")
        asked = [read_request(request) for request in requests]
        with quiet_libraries():
            self._check_tasks(self._engine, asked)
            found = [self._result(one, answer) for one, answer in self._answers(self._engine, asked)]
        failed = [sums for sums in self._sums.values() if sums.failed]
        if len(asked) > 1 and failed and all(result.token_counts is None for result in found):
            raise Failure(f"none of {len(asked)} requests was answered; the first: {failed[0].first_error}")
        return found

    def generate_until_multi_round(self, requests: Sequence[Any]) -> list[Any]:
        """Not offered."""
        raise NotImplementedError("reroute answers one turn at a time: tasks of several rounds can't be run")

    def loglikelihood(self, requests: Sequence[Any]) -> list[Any]:
        """Not offered."""
        raise NotImplementedError(
            "reroute measures answers as they are generated: tasks that need loglikelihood can't be run; "
            "take the variant of the task that generates"
        )

    def clean(self) -> None:
        """Give the model back and say what its answers cost: lmms-eval calls this once all are made."""
        self._engine = None
        sums, self._sums = merged(_gathered(self._sums)), {}
        if self.rank == 0:
            self._report(sums)
        super().clean()

    def _join(self) -> None:
        """Become one of several processes, each with its part of the requests."""
        from accelerate import Accelerator

        self.accelerator = Accelerator()
        self._rank, self._world_size = self.accelerator.process_index, self.accelerator.num_processes

    def _check_tasks(self, engine: ChatEngine, asked: Sequence[TaskRequest]) -> None:
        """Make the first request of each new task ready, to learn early what is wrong with all of them."""
        for one in asked:
            if one.task in self._checked or one.padding:
                continue
            self._checked.add(one.task)
            if one.generation.unused:
                names = ", ".join(one.generation.unused)
                logger.warning(f"{one.task}: generation_kwargs that mean nothing here: {names}")
            try:
                one.chat(self.task_dict)
                engine.prepare(one.chat_request(self.task_dict, self._arguments.max_new_tokens))
            except _OF_ALL:
                raise
            except Exception as error:  # noqa: BLE001  one request's own failure: it is met again, and counted
                logger.debug(f"{one.task}: {error}")

    def _answers(
        self, engine: ChatEngine, asked: Sequence[TaskRequest]
    ) -> Iterator[tuple[TaskRequest, ChatAnswer]]:
        """Every request with its answer, in order; those that only pad get none."""
        most = self._arguments.max_new_tokens
        chats = (one.chat_request(self.task_dict, most) for one in asked if not one.padding)
        bar = tqdm(asked, disable=self.rank != 0, desc="reroute", unit="request")
        with closing(engine.answers(chats)) as made, bar:
            for one in bar:
                yield one, ChatAnswer() if one.padding else next(made)

    def _result(self, one: TaskRequest, answer: ChatAnswer) -> GenerationResult:
        if one.padding:
            return GenerationResult(text="")
        sums = self._sums.setdefault(one.task, TaskSums())
        sums.add(answer)
        if answer.error and sums.failed == 1:
            logger.warning(f"{one.task}: no answer to document {one.document}: {answer.error}")
        self.cache_hook.add_partial("generate_until", (one.context, one.settings), answer.text)
        if answer.error:
            return GenerationResult(text=answer.text)
        counts = RoutedCounts(
            input_tokens=answer.prompt,
            output_tokens=answer.new,
            visual_tokens=answer.visual,
            visual_tokens_per_layer=answer.average,
            kv_end_bytes=answer.kv,
            dense_kv_end_bytes=answer.dense_kv,
        )
        return GenerationResult(text=answer.text, token_counts=counts)

    def _report(self, sums: Mapping[str, TaskSums]) -> None:
        """What it cost: into the log, into the results' `throughput`, and into the file of `costs`."""
        how = (self.batch_size, self._generation, self._environment)
        costs = costs_of(sums, self._model_part, self._arguments.choice, *how)
        for line in cost_lines(costs):
            logger.info(line)
        for line in warnings(costs):
            logger.warning(line)
        _log(sum(sums.values(), TaskSums()), costs)
        if self._arguments.costs is not None:
            write_file(self._arguments.costs, to_json(costs.as_dict()) + "\n")


def _log(total: TaskSums, costs: LmmsCosts) -> None:
    """Totals for the results' `throughput`, where lmms-eval puts `avg_` before our own names."""
    means = costs.total.means
    if means is None:
        return
    known: dict[str, Any] = {"total_requests": total.answered, "kv_end_ratio": means.kv_end_ratio}
    if means.visual is not None:
        known["visual_tokens"] = means.visual.visual_tokens
        known["visual_tokens_per_layer"] = means.visual.visual_tokens_per_layer
        known["reduction_ratio"] = means.visual.achieved_ratio
    log_metrics(total.seconds, total.new, total.new / total.seconds, known)


def _of_this_process(arguments: Arguments) -> Arguments:
    """With several processes and GPUs, each has its own GPU."""
    load = arguments.load
    if _processes() == 1 or load.device not in ("auto", "cuda") or not torch.cuda.is_available():
        return arguments
    return replace(arguments, load=replace(load, device=f"cuda:{os.environ.get('LOCAL_RANK', '0')}"))


def _processes() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


def _gathered(sums: dict[str, TaskSums]) -> list[dict[str, TaskSums]]:
    """The sums of every process, in every process."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return [sums]
    ranks: list[dict[str, TaskSums]] = [{} for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather_object(ranks, sums)
    return ranks


@dataclass
class TaskSums:
    """Sums over the answers of one task: `add` each. visual, average: over those with pictures."""

    requests: int = 0
    failed: int = 0
    first_error: str = ""
    pictured: int = 0
    escaped: int = 0
    shortened: int = 0
    prompt: int = 0
    visual: int = 0
    average: float = 0.0
    new: int = 0
    kv: int = 0
    dense_kv: int = 0
    seconds: float = 0.0

    @property
    def answered(self) -> int:
        """Requests that have an answer."""
        return self.requests - self.failed

    def add(self, answer: ChatAnswer) -> None:
        """One more request and what it got."""
        self.requests += 1
        self.failed += bool(answer.error)
        self.first_error = self.first_error or answer.error
        self.pictured += answer.visual > 0
        for name in _SUMMED:
            setattr(self, name, getattr(self, name) + getattr(answer, name))

    def __add__(self, other: TaskSums) -> TaskSums:
        values = {name: getattr(self, name) + getattr(other, name) for name in _NAMES - {"first_error"}}
        return TaskSums(first_error=self.first_error or other.first_error, **values)


_NAMES = {field.name for field in fields(TaskSums)}
_SUMMED = _NAMES - {"requests", "failed", "first_error", "pictured"}


def merged(ranks: Iterable[Mapping[str, TaskSums]]) -> dict[str, TaskSums]:
    """The sums of every process as one."""
    found: dict[str, TaskSums] = {}
    for sums in ranks:
        for task, part in sums.items():
            found[task] = found.get(task, TaskSums()) + part
    return found


def costs_of(
    sums: Mapping[str, TaskSums],
    model: ModelPart,
    choice: ScheduleChoice,
    batch_size: int,
    generation: GenerationPart | None = None,
    environment: EnvironmentPart | None = None,
) -> LmmsCosts:
    """The record of a run: what an evaluation under lmms-eval cost, task by task."""
    routed = choice.profile is None and choice.method not in (None, DENSE)
    asked = AskedPart(
        method=None if choice.profile else choice.method or DENSE,
        action=str(choice.action or "prune") if routed else None,
        ratio=choice.ratio,
        budget=choice.budget,
        profile=choice.profile,
        decision_layers=None if choice.layers is None else list(choice.layers),
        seed=choice.seed,
    )
    return LmmsCosts(
        model=model,
        schedule=asked,
        batch_size=batch_size,
        generation=generation,
        environment=environment,
        tasks={task: _task(part) for task, part in sums.items()},
        total=_task(sum(sums.values(), TaskSums())),
    )


def _task(sums: TaskSums) -> TaskPart:
    visual, means = None, None
    if sums.pictured:
        visual = VisualPart(
            answers=sums.pictured,
            visual_tokens=sums.visual / sums.pictured,
            visual_tokens_per_layer=sums.average / sums.pictured,
            achieved_ratio=1 - sums.average / sums.visual,
        )
    if sums.answered:
        means = AnswersPart(
            prompt_tokens=sums.prompt / sums.answered,
            new_tokens=sums.new / sums.answered,
            visual=visual,
            kv_end_bytes=sums.kv / sums.answered,
            dense_kv_end_bytes=sums.dense_kv / sums.answered,
            kv_end_ratio=sums.kv / sums.dense_kv,
            seconds=sums.seconds / sums.answered,
            reasons={} if visual else {"visual": NO_PICTURES},
        )
    return TaskPart(
        requests=sums.requests,
        answered=sums.answered,
        failed=sums.failed,
        escaped=sums.escaped,
        shortened=sums.shortened,
        first_error=sums.first_error or None,
        means=means,
        reasons={} if means else {"means": NOTHING},
    )
