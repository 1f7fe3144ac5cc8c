"""What is asked about: a benchmark by name, or a manifest of one's own, as the options name it.

Knows the list of benchmarks and what can be typed; not models, schedules or answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from reroute_cli.batch_inputs import BatchItem
from reroute_cli.benchmarks import BENCHMARKS
from reroute_cli.benchmarks.benchmark import Benchmark, Questions, Wanted
from reroute_cli.benchmarks.scenes import of_manifest
from reroute_cli.console.errors import Failure, UsageError
from reroute_cli.images import as_text

DEFAULT = "scenes"
MANIFEST = "manifest"  # what a manifest is called where benchmarks have a name
_LONGEST_ANSWER = 64  # tokens; of a manifest, whose answers may be of any kind


@dataclass(frozen=True)
class Subject:
    """A benchmark, and which of its questions are wanted."""

    benchmark: Benchmark
    split: str
    limit: int | None = None
    data: str | None = None

    @property
    def is_here(self) -> bool:
        """Whether the questions come from files of this machine, whatever the model."""
        return not self.benchmark.source

    def check(self) -> None:
        """Find what is wrong before a model is loaded: raises Failure."""
        if self.is_here:
            self.questions("")
        elif find_spec("datasets") is None:
            raise Failure(
                f"--bench {self.benchmark.name} reads a dataset of the hub: pip install 'reroute[eval]' first"
            )

    def questions(self, family: str) -> Questions:
        """The questions for a model of this family; raises Failure where one has no truth."""
        found = self.benchmark.load(Wanted(self.split, family, self.limit, self.data))
        if isinstance(found.items, Sequence):
            if not found.items:
                raise Failure(f"{self.benchmark.title} has no question: name another split or manifest")
            _check_truths(found.items)
        return found


def subject_of(
    bench: str | None, split: str | None, data: str | None, manifest: Path | None, limit: int | None
) -> Subject:
    """What --bench, --split, --data, --manifest and --limit ask for; raises UsageError."""
    if manifest is not None:
        given = {"--bench": bench, "--split": split, "--data": data}
        if names := [name for name, value in given.items() if value is not None]:
            raise UsageError(f"a manifest has its own questions: drop {names[0]} or drop --manifest")
        return Subject(_manifest(manifest), "", limit)
    name = bench or DEFAULT
    if name not in BENCHMARKS:
        raise UsageError(
            f"there is no benchmark '{name}': choose one of {', '.join(BENCHMARKS)}, or give --manifest FILE"
        )
    found = BENCHMARKS[name]
    if split is not None and split not in found.splits:
        raise UsageError(f"--bench {name} has no split '{split}': choose one of {', '.join(found.splits)}")
    if data is not None and not found.source:
        raise UsageError(f"--bench {name} comes with the package: drop --data, or give --manifest FILE")
    return Subject(found, split or found.splits[0], limit, data)


def _manifest(path: Path) -> Benchmark:
    """A manifest as if it were a benchmark, with the scores that any truths have."""
    return Benchmark(
        name=MANIFEST,
        title=f"'{as_text(str(path))}'",
        source="",
        splits=("",),
        max_new_tokens=_LONGEST_ANSWER,
        load=lambda wanted: of_manifest(path, wanted.limit),
    )


def _check_truths(items: Sequence[BatchItem]) -> None:
    """Raise Failure where an item that can be read has nothing to be judged by."""
    bare = [item for item in items if item.truth is None and not item.problem]
    if bare:
        more = f", and {len(bare) - 1} more like it" if len(bare) > 1 else ""
        raise Failure(
            f"{bare[0].where or repr(bare[0].id)} has no 'answer' and no 'box'{more}, so nothing can be "
            "judged: add what is true, or ask with `reroute batch`"
        )
