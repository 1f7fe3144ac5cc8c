"""Our scores and those of lmms-eval on the same answers, where both read them the same way."""

import random
from typing import Any

import pytest

from reroute_cli.data.items import Truth
from reroute_cli.measure.scores import BOX_CENTRE, BOX_HIT, BOX_IOU
from reroute_cli.studies.benchmarks import mmbench, mme, pope
from tests.cli.studies.benchmarks.judged import row, value

pytest.importorskip("lmms_eval", reason="the extra lmms-eval")


def _tasks(name: str) -> Any:
    return pytest.importorskip(f"lmms_eval.tasks.{name}")


def test_pope_is_that_of_lmms_eval():
    """Accuracy, precision, recall and F1 of 200 answers of yes and no; their yes ratio is of the truths."""
    theirs, draw = _tasks("pope.utils"), random.Random(1)
    asked = [(draw.choice(["yes", "no"]), draw.choice(["Yes", "no"])) for _ in range(200)]
    docs = [
        theirs.pope_process_results({"answer": truth, "question_id": number}, [said])["pope_accuracy"]
        for number, (truth, said) in enumerate(asked)
    ]
    rows = [row(str(n), Truth("yes_no", (truth,)), said) for n, (truth, said) in enumerate(asked)]
    assert value(pope.ACCURACY, rows) == pytest.approx(theirs.pope_aggregate_accuracy(docs))
    assert value(pope.PRECISION, rows) == pytest.approx(theirs.pope_aggregate_precision(docs))
    assert value(pope.RECALL, rows) == pytest.approx(theirs.pope_aggregate_recall(docs))
    assert value(pope.F1, rows) == pytest.approx(theirs.pope_aggregate_f1_score(docs))
    truths = sum(truth == "yes" for truth, _ in asked) / len(asked)
    assert theirs.pope_aggregate_yes_ratio(docs) == pytest.approx(truths)


def test_mme_is_that_of_lmms_eval():
    """Both totals over 14 categories of 20 pictures, with answers that ramble."""
    theirs, draw = _tasks("mme.utils"), random.Random(2)
    words = ["Yes", "no", "Yes, it is.", "No, it is not", "Unknown", "It is"]
    rows, docs = [], {"mme_perception_score": [], "mme_cognition_score": []}
    for category in (*mme.PERCEPTION, *mme.COGNITION):
        for picture in range(20):
            for truth in ("yes", "no"):
                said, name = draw.choice(words), f"{category}/{picture}"
                rows.append(row(name, Truth("mme", (truth,)), said, group=category))
                doc = {"question_id": name, "category": category, "answer": truth}
                for key, found in theirs.mme_process_results(doc, [said]).items():
                    docs[key].append(found)
    perception, cognition = (theirs.mme_aggregate_results(found) for found in docs.values())
    assert value(mme.PERCEPTION_TOTAL, rows) == pytest.approx(perception)
    assert value(mme.COGNITION_TOTAL, rows) == pytest.approx(cognition)


def test_refcoco_is_that_of_lmms_eval():
    """Acc@0.5, mean IoU and centre of 300 boxes, where each answer holds one that is in the picture."""
    theirs, draw = _tasks("refcoco.utils_rec"), random.Random(3)

    def box() -> tuple[float, ...]:
        x, y = draw.uniform(0, 0.7), draw.uniform(0, 0.7)
        return (x, y, x + draw.uniform(0.05, 0.3), y + draw.uniform(0.05, 0.3))

    rows, docs = [], []
    for number in range(300):
        true = box()
        moved = [value + draw.uniform(-0.03, 0.03) for value in true]
        said = tuple(moved) if number % 2 else box()
        rows.append(row(str(number), Truth("box", box=true), "", boxes=[said]))
        docs.append({"bbox": list(true), "pred": list(said), "answer": "", "ann_id": number})
    assert value(BOX_HIT, rows) == pytest.approx(theirs.refcoco_bbox_rec_acc05(docs))
    assert value(BOX_IOU, rows) == pytest.approx(theirs.refcoco_bbox_rec_iou(docs))
    assert value(BOX_CENTRE, rows) == pytest.approx(theirs.refcoco_bbox_rec_center_acc(docs))


def test_mmbench_is_that_of_lmms_eval():
    """Circular accuracy of 60 questions answered by letters alone, which both read alike."""
    evals, draw = _tasks("mmbench.mmbench_evals"), random.Random(4)
    options = tuple((letter, f"thing {number}") for number, letter in enumerate("ABCD"))
    rows, results = [], []
    for question in range(60):
        for turn, truth in enumerate("ABCD"):
            said = truth if draw.random() < 0.8 else draw.choice("ABCD")
            index = question + turn * 1_000_000
            rows.append(row(str(question), Truth("choice", (truth,), options=options), said, name=str(index)))
            doc = {"index": index, "answer": truth, "prediction": said, "category": "c", "L2-category": "l"}
            results.append(doc | dict(options))
    overall, _, _ = evals.MMBench_Evaluator().eval_result(results, "static")
    assert value(mmbench.CIRCULAR, rows) == pytest.approx(overall)
