"""Images and what is asked about them, as they are typed: of ask and of trace."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from reroute_cli.console.errors import UsageError
from reroute_cli.console.group import Options
from reroute_cli.console.output import shortened

QuestionWord = Annotated[str, Argument(metavar="QUESTION", help="The question, last and in quotes.")]


@dataclass(frozen=True)
class AskQuestions(Options):
    """Images and questions about them, each with its own answer.

    The last word is the first question. With `-Q` it may be an image as well: it is one where there is such a
    file. Raises UsageError where no image or no question is named.
    """

    images: Annotated[list[str] | None, Argument(metavar="IMAGE", help="One or more image files.")] = None
    question: QuestionWord = field(kw_only=True)
    questions: Annotated[
        list[str] | None,
        Option(
            "-Q",
            "--question",
            metavar="QUESTION",
            help="A question about the same images, answered together with the others; as often as you "
            "like. The last word may then be an image.",
        ),
    ] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.questions and _is_file(self.question):
            raise UsageError(
                f"the last word, '{self.question}', is a file: the question comes last, in quotes"
            )
        if not self.paths:
            raise UsageError(
                f"no image is named, and '{shortened(self.question)}' is no file: the form is "
                "IMAGE... QUESTION, or IMAGE... -Q QUESTION"
            )

    @property
    def paths(self) -> list[str]:
        """The image files, in order."""
        return [*(self.images or ()), *([self.question] if self._ends_in_an_image else [])]

    @property
    def asked(self) -> list[str]:
        """The questions, in order, one at least."""
        return [*([] if self._ends_in_an_image else [self.question]), *(self.questions or ())]

    @property
    def _ends_in_an_image(self) -> bool:
        return bool(self.questions) and _is_file(self.question)


@dataclass(frozen=True)
class TraceQuestion(Options):
    """One image and one question about it."""

    images: Annotated[list[str], Argument(metavar="IMAGE", help="An image file.")]
    question: QuestionWord

    def __post_init__(self) -> None:
        super().__post_init__()
        if _is_file(self.question):
            raise UsageError(
                f"the last word, '{self.question}', is a file: the question comes last, in quotes"
            )
        if len(self.images) > 1:
            raise UsageError(
                f"trace draws one image and was given {len(self.images)}: name one, then the question"
            )


def _is_file(word: str) -> bool:
    """Whether there is such a file; what is too long for a file's name is surely a question."""
    try:
        return Path(word).is_file()
    except (OSError, ValueError):
        return False
