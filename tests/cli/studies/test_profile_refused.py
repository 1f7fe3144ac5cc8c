"""`reroute profile` given what makes no sense or can't be read: a sentence, an exit code, nothing written."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from reroute_cli.models import load as models

ROUTED = ("--method", "nuwa", "--ratio", "0.9")
SHORT = ("--limit", "1", "--warmup", "0", "--repeat", "1", "--max-new-tokens", "2")


@pytest.fixture
def unloaded(monkeypatch):
    """No model may be loaded: what is wrong is found before."""
    monkeypatch.setattr(models, "load", lambda *_: pytest.fail("a model was loaded"))


@pytest.mark.usefixtures("unloaded")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--repeat", "0"), "0 is no whole number from 1 to 1000:"),
        (("--warmup", "-1"), "-1 is no whole number from 0 to 1000"),
        (("--limit", "0"), "0 is no whole number from 1 "),
        (("--max-new-tokens", "0"), "0 is no whole number from 1 to 4096"),
        (("--repeat", "1.5"), "valid integer"),
        (("--json", "--format", "csv"), "--format csv"),
        (("--format", "xml"), "xml"),
        (("picture.png",), "-Q QUESTION"),
        (("-Q", "where?"), "name them"),
        (("--arms", "nuwa"), "--ratio"),
        (("--ratio", "0.9"), "--method"),
        (("--method", "magic", "--ratio", "0.9"), "magic"),
        (("-p", "no-such-profile"), "no-such-profile"),
    ],
    ids=" ".join,
)
def test_what_was_typed_wrong_is_a_usage_error(run, fails, arguments, words):
    """Exit 2, before anything is opened or loaded."""
    fails(run("profile", *arguments), 2, words)


@pytest.mark.usefixtures("unloaded")
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no line in it"),
        (b"{", "line 1"),
        (b'{"image": "missing.png", "question": "where?"}', "missing.png"),
        (b'{"image": "empty.png", "question": "where?"}', "0 bytes"),
        (b'{"image": "text.png", "question": "where?"}', "line 1"),
    ],
)
def test_a_manifest_that_can_t_be_measured_is_refused_first(run, fails, tmp_path, content, words):
    """Exit 4 with the line, before a model is loaded and with nothing written."""
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("no picture")
    manifest = tmp_path / "items.jsonl"
    manifest.write_bytes(content)
    target = tmp_path / "report.json"
    fails(run("profile", "--manifest", str(manifest), "-o", str(target)), 4, words)
    assert not target.exists()


@pytest.mark.usefixtures("unloaded")
def test_a_report_with_nowhere_to_go_is_refused_first(run, fails, tmp_path):
    """-o into a folder that is not there is known before the long run."""
    fails(run("profile", *ROUTED, "-o", str(tmp_path / "missing" / "x.json")), 4, "--output")


@pytest.fixture
def unmeasured(warm, monkeypatch):
    """The embedded model may be loaded, but nothing measured with it."""
    from reroute_cli.measure import passes

    monkeypatch.setattr(passes, "_generate", lambda *_, **__: pytest.fail("something was measured"))
    return warm


@pytest.mark.usefixtures("unmeasured")
def test_a_prompt_beyond_the_context_is_refused_before_the_run(run, fails, picture):
    """The forced length counts too: 256 visual tokens and 1000 new ones exceed 1024 positions."""
    fails(run("profile", picture, "-Q", "where?", "--max-new-tokens", "1000"), 4, picture, "1024")


@pytest.mark.usefixtures("unmeasured")
def test_a_budget_out_of_reach_is_refused_before_the_run(run, fails):
    """Exit 2, with what can be reached."""
    fails(run("profile", "--method", "fastv", "--ratio", "0.999", "--quiet"), 2, "the nearest it reaches")


@pytest.mark.usefixtures("unmeasured")
def test_control_tokens_are_usage_when_typed_and_a_failure_in_a_file(run, fails, picture, tmp_path):
    """The same question: exit 2 from -Q, exit 4 with the line from a manifest."""
    fails(run("profile", picture, "-Q", "where is <image>?"), 2, "control token")
    manifest = tmp_path / "items.jsonl"
    manifest.write_text(json.dumps({"image": picture, "question": "where is <image>?"}))
    fails(run("profile", "--manifest", str(manifest)), 4, "line 1", "control token")


def _raising(monkeypatch, error):
    from reroute_cli.measure import passes

    def fail(*_, **__):
        raise error

    monkeypatch.setattr(passes, "count_flops", fail)


@pytest.mark.usefixtures("warm")
@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (
            RuntimeError("[enforce fail] can't allocate memory: you tried to allocate 1 bytes"),
            4,
            "out of memory",
        ),
        (MemoryError(), 4, "out of memory"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_a_run_that_ends_early_leaves_the_old_report(run, fails, tmp_path, monkeypatch, error, code, words):
    """Out of memory and Ctrl-C, far into the run: one sentence, and the file that was there is as it was."""
    _raising(monkeypatch, error)
    target = tmp_path / "report.json"
    target.write_text("old")
    fails(run("profile", *ROUTED, *SHORT, "--quiet", "-o", str(target)), code, words)
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]


@pytest.mark.usefixtures("warm")
def test_flash_attention_leaves_flops_unknown(run, pocket, monkeypatch):
    """What the counter can't see is unknown with its reason in every arm, and the table does without."""
    flash = replace(pocket, attention="flash_attention_2")
    monkeypatch.setattr(models, "load", lambda _: flash)
    from tests.cli.published import checked

    result = run("profile", *ROUTED, *SHORT, "--json")
    report = checked(result.stdout)
    for arm in report.arms:
        names = {name for name, reason in arm.unknown.items() if "flash_attention_2" in reason}
        assert names == {"vision_flops", "prefill_flops", "scoring_flops", "decode_flops"}
    from reroute_cli.views.profile import headline

    assert "FLOPs" not in headline(report)
    assert "TTFT" in headline(report)


@pytest.mark.usefixtures("heeded_interrupts")
def test_ctrl_c_in_the_real_program_ends_it_at_once(tmp_path):
    """SIGINT while it measures: exit 130, one word on stderr, nothing on stdout, no report and no draft."""
    target = tmp_path / "report.json"
    command = [sys.executable, "-m", "reroute_cli", "profile", *ROUTED, "-o", str(target), "--repeat", "100"]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    ) as running:
        running.stderr.readline()  # "measuring 12 of 42 items": the model is loaded next
        time.sleep(5)
        running.send_signal(signal.SIGINT)
        out, said = running.communicate(timeout=60)
    assert running.returncode == 130, said
    assert (out, said) == ("", "error: interrupted\n")
    assert list(tmp_path.iterdir()) == []
