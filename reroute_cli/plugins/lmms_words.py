"""Sentences for lmms-eval's log: what a run cost, and what in it was not as asked. Knows the record only."""

from __future__ import annotations

from collections.abc import Iterator

from reroute_cli.records.lmms_costs import AnswersPart, AskedPart, LmmsCosts, TaskPart
from reroute_cli.reporting.generation import not_neutral


def cost_lines(costs: LmmsCosts) -> list[str]:
    """One line a task: schedule, visual tokens, KV cache, answers."""
    how = f"{_schedule(costs.schedule)} · {costs.model.id} · {costs.model.dtype} · {costs.model.attention}"
    return [f"{task}: {_spent(part)} · {how}" for task, part in costs.tasks.items()]


def warnings(costs: LmmsCosts) -> Iterator[str]:
    """What the checkpoint changes, and a sentence for each kind of trouble in each task, with its count."""
    yield from not_neutral(costs.generation)
    for task, part in costs.tasks.items():
        if part.failed:
            yield (
                f"{task}: {part.failed} of {part.requests} requests have no answer, scored as an empty one; "
                f"the first: {part.first_error}"
            )
        if part.escaped:
            yield (
                f"{task}: {part.escaped} of {part.requests} questions hold control tokens of this model, "
                "which were written with a space behind the first character, so that they are text"
            )
        if part.shortened:
            yield (
                f"{task}: for {part.shortened} of {part.requests} requests the model's context has no room "
                "for an answer as long as the task allows: their answers end where it ends"
            )


def _schedule(asked: AskedPart) -> str:
    if asked.profile is not None:
        return f"profile {asked.profile}"
    if asked.action is None:
        return "dense"
    amount = f"budget {asked.budget:g}" if asked.ratio is None else f"ratio {asked.ratio:g}"
    cuts = "" if asked.decision_layers is None else f" at layers {', '.join(map(str, asked.decision_layers))}"
    return f"{asked.method} {asked.action}{cuts}, {amount}"


def _spent(part: TaskPart) -> str:
    answered = f"{part.answered} of {part.requests} answered"
    return answered if part.means is None else f"{answered} · {_tokens(part.means)}"


def _tokens(means: AnswersPart) -> str:
    kv = f"KV cache {means.kv_end_ratio:.2f}× of dense (estimated)"
    if means.visual is None:
        return f"no pictures · {kv}"
    seen = means.visual
    layer = seen.visual_tokens_per_layer
    return f"visual tokens/layer {layer:.1f} of {seen.visual_tokens:.0f} (counted) · {kv}"
