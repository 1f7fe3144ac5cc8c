"""A sweep's report made by hand: two methods, known scores and costs, one arm out of reach."""

from reroute_cli.records.sweep import SweepReport

LAYER = "visual_tokens_per_layer"
SCORES = {"box_acc_at_05": "box Acc@0.5", "words_right": "answers right"}
_NOTHING = "the arm was asked nothing, see refused"


def arm(name, method=None, action=None, cuts=None, ratio=None, score=0.9, cost=1.0, refused=None):
    """One arm. score: of all scores. cost: prefill FLOPs over those of the dense arm."""
    values = {key: _score(title, score) for key, title in SCORES.items()}
    parts = {"scores": values, "to_dense": {}, "costs": _costs(cost, dense=method is None), "right": "10"}
    place = method if cuts is None else f"{method}@{'+'.join(map(str, cuts))}"
    if refused:
        parts = {"scores": {}, "to_dense": {}, "costs": {}, "right": None}
    absent = ("made", LAYER, "right") if refused else ("made", LAYER)
    return parts | {
        "name": name,
        "place": place or name,
        "method": method,
        "action": action,
        "decision_layers": cuts,
        "ratio": ratio,
        "budget": None,
        "refused": refused,
        "made": None,
        LAYER: None,
        "unknown": {},
        "reasons": dict.fromkeys(absent, _NOTHING),
    }


def _score(title, value):
    interval = {"low": value - 0.05, "high": value + 0.05, "interval": "wilson", "design_effect": 1.0}
    return {"title": title, "value": value, "n": 2, "images": 2} | interval


def _costs(ratio, *, dense):
    flops = {"unit": "FLOPs", "source": "measured", "value": ratio * 1e9, "n": 2}
    ends = dict.fromkeys(("ratio_to_dense", "low", "high"), None if dense else ratio)
    tokens = {"unit": "tokens", "source": "counted", "value": ratio * 256, "n": 2}
    return {"prefill_flops": flops | ends, LAYER: tokens | ends}


def routed():
    """The routed arms: fastv twice each way, at layers of its own and typed, and one that can't be had."""
    return [
        arm("fastv-prune 0.5", "fastv", "prune", ratio=0.5, score=0.6, cost=0.5),
        arm("fastv-prune 0.8", "fastv", "prune", ratio=0.8, score=0.3, cost=0.2),
        arm("fastv-reroute 0.5", "fastv", "reroute", ratio=0.5, score=0.7, cost=0.52),
        arm("fastv@3+5-reroute 0.5", "fastv", "reroute", [3, 5], 0.5, score=0.8, cost=0.55),
        arm("nuwa-prune 0.8", "nuwa", "prune", ratio=0.8, score=0.5, cost=0.21),
        arm("fastv@9-prune 0.8", "fastv", "prune", [9], 0.8, refused="out of reach"),
    ]


def build(arms=None, cost="prefill_flops", model="pocket"):
    """The report of these routed arms."""
    listed = [arm("dense"), *(routed() if arms is None else arms)]
    front = [part["name"] for part in listed if not part["refused"] and part["name"] != "fastv-prune 0.5"]
    return SweepReport.model_validate(
        {
            "schema": "reroute.sweep/2",
            "created": "2026-01-01T00:00:00+00:00",
            "model": {
                **dict.fromkeys(("family", "config_digest", "dtype", "attention"), "x"),
                "id": model,
                "revision": "1",
                "layers": 12,
                "device": "cpu",
                "weights": "loaded",
            },
            "provenance": {},
            "batch_size": 1,
            "max_new_tokens": 1,
            "seed": 0,
            "counts": {"items": 2, "compared": 2, "images": 2, "answers": 2, "errors": 0},
            "this_run": {"answered": 2, "resumed": 0, "wall_s": 1.0},
            "costs": {"items": ["a"], "new_tokens": 1, "warmup": 0, "rounds": 1},
            "scores": [{"name": n, "title": t, "share": True, "shown": True} for n, t in SCORES.items()],
            "items": ["a", "b"],
            "items_digest": "0",
            "arms": listed,
            "pairs": [],
            "fronts": [{"score": n, "cost": cost, "arms": front, "beaten": []} for n in SCORES],
            "first_error": None,
            "environment": {},
        }
    )
