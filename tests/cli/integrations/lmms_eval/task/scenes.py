"""What the tasks of this folder do with a row: pictures, questions, chats, and who is right."""

import re

NUMBER = r"([0-9]*\.[0-9]+|[0-9]+)"
BOX = re.compile(rf"\[{NUMBER},{NUMBER},{NUMBER},{NUMBER}\]")


def pictures(doc):
    """The picture, as benchmarks hand it over."""
    return [doc["image"].convert("RGB")]


def question(doc, lmms_eval_specific_kwargs=None):
    """The question as it stands."""
    return doc["question"]


def target(doc):
    """The true answer, for the log."""
    return doc["answer"]


def judge_words(doc, results):
    """Right is what is equal to the true answer, letter by letter."""
    return {"right": float(results[0] == doc["answer"])}


def judge_box(doc, results):
    """Right is a first box (shares of the sides) whose IoU with the true one (pixels) is half or more."""
    found = BOX.search(results[0])
    if not found:
        return {"acc_at_05": 0.0}
    x1, y1, x2, y2 = (float(number) for number in found.groups())
    width, height = doc["image"].size
    said, true = (x1 * width, y1 * height, x2 * width, y2 * height), doc["box"]
    across = max(0.0, min(said[2], true[2]) - max(said[0], true[0]))
    down = max(0.0, min(said[3], true[3]) - max(said[1], true[1]))
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (said, true))
    return {"acc_at_05": float(across * down >= 0.5 * (areas - across * down))}


def messages(doc):
    """One turn of a user: each word of `parts` is a picture's place, a video's, or text."""
    return [{"role": "user", "content": [_part(word, doc) for word in doc["parts"]]}]


def _part(word, doc):
    if word == "PICTURE":
        return {"type": "image", "url": doc["image"]}
    if word == "MISSING":
        return {"type": "image", "url": "/nowhere/missing.png"}
    if word == "VIDEO":
        return {"type": "video", "url": "clip.mp4"}
    return {"type": "text", "text": word}
