"""lmms-eval's requests as wishes: the document's chat messages, and what its task asks of an answer.

Knows the shape of a request (lmms-eval 0.7) and imports nothing of lmms-eval.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from reroute_cli.chat import Chat, read_chat
from reroute_cli.console.errors import CliError, sentence_of
from reroute_cli.console.output import clean
from reroute_cli.plugins.lmms_batches import Wish
from reroute_cli.plugins.lmms_generation import Generation, read_generation

_PADDING = "__padding_only__"  # lmms-eval's mark of a request that only evens out its processes


@dataclass(frozen=True)
class Asked:
    """One request. context: what a model without chat messages would be told; read only by caches."""

    context: str
    task: str
    split: str
    document: Any
    messages: Any
    settings: Mapping[str, Any]
    generation: Generation
    padding: bool

    def chat(self, documents: Mapping[str, Any]) -> Chat:
        """The chat about its document; raises what the task's own code raises, or UsageError."""
        messages = self.messages(documents[self.task][self.split][self.document])
        return read_chat(messages, f"task '{self.task}'")

    def wish(self, documents: Mapping[str, Any], most: int) -> Wish:
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
        return Wish(name, chat, self.generation.most or most, self.generation.until)


def read_request(request: Any) -> Asked:
    """A `generate_until` request of lmms-eval; raises UsageError for settings that can't be heeded."""
    context, messages, settings, document, task, split = request.args
    generation = read_generation(settings, task)
    padding = bool((request.metadata or {}).get(_PADDING))
    return Asked(context, task, split, document, messages, settings, generation, padding)
