"""The model `reroute` of lmms-eval: any of its benchmarks with images or text, under a schedule.

    python -m lmms_eval --model reroute --batch_size 8 --tasks refcoco \
        --model_args pretrained=llava-hf/llava-1.5-7b-hf,method=pdrop,action=reroute,ratio=0.889

Knows lmms-eval's ways (0.7) and hands everything else on; only lmms-eval imports this file.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

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
from reroute_cli.integrations.lmms_eval.arguments import read_arguments
from reroute_cli.integrations.lmms_eval.costs import TaskSums, costs_of, merged
from reroute_cli.integrations.lmms_eval.requests import ChatAnswer, ChatEngine, TaskRequest, read_request
from reroute_cli.models import load as models
from reroute_cli.run.answer import environment_part, generation_part, model_part
from reroute_cli.views.batch import cost_lines, lmms_warnings
from routing.errors import RoutingError

if TYPE_CHECKING:
    pass

_OF_ALL = (UsageError, RoutingError, ProfileError)  # what is wrong with one request like this is so with all


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
        self._arguments = read_arguments(given)
        if reason := check_writable(self._arguments.costs):
            raise Failure(f"costs: {reason}")
        asked = self._arguments.load
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            # One of several processes, each with its part of the requests, and with its own GPU.
            from accelerate import Accelerator

            self.accelerator = Accelerator()
            self._rank, self._world_size = self.accelerator.process_index, self.accelerator.num_processes
            if asked.device in ("auto", "cuda") and torch.cuda.is_available():
                asked = replace(asked, device=f"cuda:{os.environ.get('LOCAL_RANK', '0')}")
        with models.quiet_libraries():
            loaded = models.load(asked)
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
        most = self._arguments.max_new_tokens
        chats = (one.chat_request(self.task_dict, most) for one in asked if not one.padding)
        with models.quiet_libraries():
            self._check_tasks(self._engine, asked)
            bar = tqdm(asked, disable=self.rank != 0, desc="reroute", unit="request")
            with closing(self._engine.answers(chats)) as made, bar:
                padding = GenerationResult(text="")
                found = [padding if one.padding else self._result(one, next(made)) for one in bar]
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
        ranks: list[dict[str, TaskSums]] = [self._sums]  # of every process, in every process
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            ranks = [{} for _ in range(torch.distributed.get_world_size())]
            torch.distributed.all_gather_object(ranks, self._sums)
        sums, self._sums = merged(ranks), {}
        if self.rank == 0:
            self._report(sums)
        super().clean()

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

    def _result(self, one: TaskRequest, answer: ChatAnswer) -> GenerationResult:
        """An answer as lmms-eval takes it, counted and cached; one that failed is without counts."""
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
        for line in lmms_warnings(costs):
            logger.warning(line)
        total, means = sum(sums.values(), TaskSums()), costs.total.means
        if means is not None:  # lmms-eval puts `avg_` before the names that are our own
            known: dict[str, Any] = {"total_requests": total.answered, "kv_end_ratio": means.kv_end_ratio}
            if means.visual is not None:
                known["visual_tokens"] = means.visual.visual_tokens
                known["visual_tokens_per_layer"] = means.visual.visual_tokens_per_layer
                known["reduction_ratio"] = means.visual.achieved_ratio
            log_metrics(total.seconds, total.new, total.new / total.seconds, known)
        if self._arguments.costs is not None:
            write_file(self._arguments.costs, to_json(costs.as_dict()) + "\n")
