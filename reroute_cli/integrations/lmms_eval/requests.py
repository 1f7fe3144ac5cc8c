"""lmms-eval's requests: read, prepared ahead in threads, answered through the batch engine, in their order.

A task's `generation_kwargs` become what reroute can do. What would change the answers and can't be done is
refused; what has no meaning here is named. Knows the shape of a request (lmms-eval 0.7), chats, models and
schedules; imports nothing of lmms-eval, nor knows what becomes of an answer.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Hashable, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from reroute_cli.console.errors import CliError, Failure, UsageError, sentence_of
from reroute_cli.console.output import clean
from reroute_cli.data.prompts import Chat, build_chat, picture, read_chat
from reroute_cli.measure import passes
from reroute_cli.run.answer import text_of
from reroute_cli.run.batch import BatchEngine, PassAnswer, gathered
from reroute_cli.run.prepare import GATHERED, WORKERS, ahead
from reroute_cli.run.prompts import PreparedPrompt, target_of
from reroute_cli.run.stages import average_visual

if TYPE_CHECKING:
    from reroute_cli.models.load import Loaded
    from reroute_cli.run.schedules import ScheduleChoice

_ROOM = 32  # lengths that the context cuts short are multiples of it, so that neighbours share a pass
_PADDING = "__padding_only__"  # lmms-eval's mark of a request that only evens out its processes
FILLED_IN = ["\n\n"]
"""What lmms-eval puts under `until` where a task says nothing: what parts examples in a prompt, no end of an
answer. Its own chat models do not stop there either."""

_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "num_beams": (None, 1),
    "num_beam_groups": (None, 1),
    "num_return_sequences": (None, 1),
    "n": (None, 1),
    "best_of": (None, 1),
    "repetition_penalty": (None, 1),
    "no_repeat_ngram_size": (None, 0),
    "min_new_tokens": (None, 0),
    "min_length": (None, 0),
    "frequency_penalty": (None, 0),
    "presence_penalty": (None, 0),
    "penalty_alpha": (None, 0),
}
"""Settings that greedy search would heed, with the values at which they do nothing."""

_OF_SAMPLING = {"temperature", "do_sample", "top_p", "top_k", "min_p", "typical_p"}
_LENGTHS = ("max_new_tokens", "max_gen_toks")


@dataclass(frozen=True)
class TaskGeneration:
    """What a task asks of its answers: greedy ones of a length, cut at stop strings.

    most: new tokens at most, None where the task does not say. until: where an answer ends. unused: settings
    that have no meaning here, to be named once.
    """

    most: int | None
    until: tuple[str, ...]
    unused: tuple[str, ...]


def read_generation(kwargs: Mapping[str, Any], task: str) -> TaskGeneration:
    """What a task's `generation_kwargs` ask for; raises UsageError for what can't be done or is malformed.

    do_sample=False is greedy whatever the temperature is; so is temperature 0 in lmms-eval.
    """
    sampling, temperature = kwargs.get("do_sample"), kwargs.get("temperature")
    sampled = bool(sampling) if temperature is None else temperature != 0
    if sampled and sampling is not False:
        raise UsageError(
            f"task '{task}' asks for sampling (do_sample={sampling}, temperature={temperature}), and reroute "
            "answers greedily: add --gen_kwargs temperature=0,do_sample=False"
        )
    for name, allowed in _NEUTRAL.items():
        if kwargs.get(name) not in allowed:
            raise UsageError(
                f"task '{task}' asks for {name}={kwargs[name]!r}, and reroute answers by greedy search: "
                f"add --gen_kwargs {name}={allowed[-1]}"
            )
    given = [(name, kwargs[name]) for name in _LENGTHS if kwargs.get(name) is not None]
    for name, most in given[:1]:
        if isinstance(most, bool) or not isinstance(most, int | float) or most < 1 or most != int(most):
            raise UsageError(f"task '{task}' asks for {name}={most!r}: give a whole number of at least 1")
    until = kwargs.get("until")
    words = [until] if isinstance(until, str) else until
    if words is None or words == FILLED_IN:
        words = []
    if not isinstance(words, list | tuple) or not all(isinstance(word, str) for word in words):
        raise UsageError(f"task '{task}' asks for until={until!r}: give a string or a list of strings")
    return TaskGeneration(
        most=int(given[0][1]) if given else None,
        until=tuple(word for word in words if word),
        unused=tuple(sorted(set(kwargs) - {*_NEUTRAL, *_OF_SAMPLING, *_LENGTHS, "until"})),
    )


@dataclass(frozen=True)
class TaskRequest:
    """One request of lmms-eval.

    context: what a model without chat messages would be told; read only by caches. messages: the task's
    function from a document to chat messages. padding: it only evens out several processes.
    """

    context: str
    task: str
    split: str
    document: Any
    messages: Any
    settings: Mapping[str, Any]
    generation: TaskGeneration
    padding: bool

    def chat(self, documents: Mapping[str, Any]) -> Chat:
        """The chat about its document; raises what the task's own code raises, or UsageError."""
        messages = self.messages(documents[self.task][self.split][self.document])
        return read_chat(messages, f"task '{self.task}'")

    def chat_request(self, documents: Mapping[str, Any], most: int) -> ChatRequest:
        """What to ask the model. most: new tokens at most, where the task does not say."""
        chat: Chat | str
        try:
            chat = self.chat(documents)
        except CliError as error:
            chat = sentence_of(error)
        except Exception as error:  # noqa: BLE001  a task's code raises what it likes
            what = clean(f"{type(error).__name__}: {error}", one_line=True)
            chat = f"task '{self.task}' makes no messages of document {self.document}: {what}"
        name = f"document {self.document} of '{self.task}'"
        return ChatRequest(name, chat, self.generation.most or most, self.generation.until)


def read_request(request: Any) -> TaskRequest:
    """A `generate_until` request of lmms-eval; raises UsageError for settings that can't be heeded."""
    context, messages, settings, document, task, split = request.args
    generation = read_generation(settings, task)
    padding = bool((request.metadata or {}).get(_PADDING))
    return TaskRequest(context, task, split, document, messages, settings, generation, padding)


@dataclass(frozen=True)
class ChatRequest:
    """What is said to the model, how many new tokens the answer may have, and where it ends before.

    chat: or the sentence that says why there is none.
    """

    name: str
    chat: Chat | str
    most: int
    until: tuple[str, ...] = ()


@dataclass(frozen=True)
class ChatAnswer:
    """What one request got. error: why there is no answer, or "".

    prompt, visual, new: tokens. average: visual tokens per decoder layer. kv, dense_kv: bytes at the end.
    seconds: its share of its pass. escaped: a control token was in the question. shortened: the context had
    no room for an answer as long as was allowed.
    """

    text: str = ""
    error: str = ""
    prompt: int = 0
    visual: int = 0
    new: int = 0
    average: float = 0.0
    kv: int = 0
    dense_kv: int = 0
    seconds: float = 0.0
    escaped: bool = False
    shortened: bool = False


@dataclass(frozen=True)
class PreparedChat:
    """A request that the model can answer. escaped: a control token was in it, and is text now."""

    request: ChatRequest
    prompt: PreparedPrompt
    escaped: bool


class ChatEngine:
    """Answers requests with one model under one schedule."""

    def __init__(self, loaded: Loaded, choice: ScheduleChoice, batch_size: int) -> None:
        self._loaded, self._choice, self._batch_size = loaded, choice, batch_size
        self._engine = BatchEngine(loaded, batch_size)
        self._processor = threading.Lock()  # tokenizers must not be entered twice at once

    def answers(self, requests: Iterable[ChatRequest]) -> Generator[ChatAnswer]:
        """An answer for each request, in order; what is wrong with one is its error."""
        depth = GATHERED * self._batch_size + WORKERS
        with closing(ahead(self._prepared, requests, workers=WORKERS, depth=depth)) as made:
            for group in gathered(made, self._batch_size, _described):
                found = self._engine.answers([one.prompt for one in group if isinstance(one, PreparedChat)])
                for one in group:
                    yield ChatAnswer(error=one) if isinstance(one, str) else self._answer(one, next(found))

    def prepare(self, request: ChatRequest) -> PreparedChat:
        """The request with prompt and schedule; raises what is wrong with it."""
        loaded = self._loaded
        if isinstance(request.chat, str):
            raise Failure(request.chat)
        given = request.chat.images
        pixels = [picture(one, f"image {index} of {request.name}") for index, one in enumerate(given, 1)]
        with self._processor:
            prompt, escaped = build_chat(loaded.processor, request.chat, pixels)
        passes.check_context(loaded, prompt, 1)
        visual = prompt.count(loaded.image_token_ids)
        if pixels and not visual:
            raise Failure(f"the processor of '{loaded.name}' made no visual tokens that its config knows of")
        limit = getattr(loaded.model.config.get_text_config(), "max_position_embeddings", None)
        most = request.most
        if limit and (room := limit - prompt.tokens) < most:
            most = room - room % _ROOM if room > _ROOM else room
        schedule = self._choice.build(target_of(loaded, visual))
        return PreparedChat(request, PreparedPrompt(prompt, visual, schedule, most), escaped)

    def _prepared(self, request: ChatRequest) -> PreparedChat | str:
        """The request made ready, or the sentence that says why it can't be."""
        try:
            return self.prepare(request)
        except Exception as error:  # noqa: BLE001  one request's failure is its own, not the end of the run
            return sentence_of(error)

    def _answer(self, one: PreparedChat, found: PassAnswer | str) -> ChatAnswer:
        if isinstance(found, str):
            return ChatAnswer(error=found)
        prompt, row = one.prompt, found.row
        return ChatAnswer(
            text=cut(text_of(self._loaded, row), one.request.until),
            prompt=prompt.prompt.tokens,
            visual=prompt.visual,
            new=len(row.new),
            average=average_visual(row.stages, prompt.visual, self._loaded.layers),
            kv=found.kv.kv_end_bytes,
            dense_kv=found.kv.dense_kv_end_bytes,
            seconds=found.clock.end_to_end / found.batch_size,
            escaped=one.escaped,
            shortened=prompt.max_new_tokens < one.request.most,
        )


def _described(one: PreparedChat | str) -> tuple[Hashable, int] | None:
    """What requests of one pass share, and tokens; None for one that can't be answered."""
    return None if isinstance(one, str) else (one.prompt.kind, one.prompt.prompt.tokens)


def cut(text: str, until: tuple[str, ...]) -> str:
    """The text up to the first stop string in it."""
    places = [place for word in until if (place := text.find(word)) >= 0]
    return text[: min(places)].strip() if places else text
