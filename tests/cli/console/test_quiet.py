"""-q: quiet in every command, and for one release still the question of batch and profile."""

import pytest
from typer.main import get_command

from reroute_cli.app import app

TALKING = {"ask", "batch", "check", "eval", "profile", "report", "sweep", "trace", "tune"}
QUESTION = "where is the cup?"
SHORT = ("--max-new-tokens", "2")
ONCE = (*SHORT, "--warmup", "0", "--repeat", "1")
NOTE = "note: '-q QUESTION' goes with the next release, where -q is quiet alone: write -Q or --question\n"


def _options(command):
    return {name: parameter for parameter in command.params for name in parameter.opts}


def test_minus_q_is_quiet_wherever_there_is_quiet():
    """Each command that talks beside its result has --quiet, and -q is nothing else anywhere."""
    commands = {name: _options(command) for name, command in get_command(app).commands.items()}
    assert {name for name, options in commands.items() if "--quiet" in options} == TALKING
    assert {
        name: options["-q"].name for name, options in commands.items() if "-q" in options
    } == dict.fromkeys(TALKING, "quiet")


def test_the_question_is_minus_capital_q_wherever_it_is_an_option():
    """-Q and --question are one option, in all commands that have either."""
    commands = [_options(command) for command in get_command(app).commands.values()]
    named = [options for options in commands if "--question" in options or "-Q" in options]
    assert len(named) == 3
    assert all(options["-Q"] is options["--question"] for options in named)


@pytest.fixture
def folder(tmp_path, drawn):
    """A folder with one picture."""
    (tmp_path / "pictures").mkdir()
    drawn().save(tmp_path / "pictures" / "one.png")
    return str(tmp_path / "pictures")


@pytest.mark.usefixtures("warm")
@pytest.mark.parametrize(
    "words",
    [
        ("{}", "-Q", QUESTION, "-q"),
        ("-q", "{}", "-Q", QUESTION),
        ("-q", "{}", f"--question={QUESTION}"),
        ("-qvQ", QUESTION, "{}"),
        ("-q", "-Q", QUESTION, "--", "{}"),
    ],
    ids=" ".join,
)
def test_batch_is_quiet_where_the_question_is_given_by_its_name(run, folder, words):
    """-q leaves the records alone, whatever stands behind it, and is silent about itself."""
    result = run("batch", *SHORT, *(word.format(folder) for word in words))
    assert (result.exit_code, result.stderr) == (0, "")
    assert f'"question": "{QUESTION}"' in result.stdout


@pytest.mark.usefixtures("warm")
def test_batch_over_a_manifest_is_quiet(run, folder, tmp_path):
    """A manifest has its own questions: -q is quiet."""
    (tmp_path / "m.jsonl").write_text('{"image": "pictures/one.png", "question": "where?"}\n')
    result = run("batch", "--manifest", str(tmp_path / "m.jsonl"), "-q", *SHORT)
    assert (result.exit_code, result.stderr) == (0, "")


@pytest.mark.usefixtures("warm")
def test_profile_over_its_own_scenes_is_quiet(run):
    """Without pictures there is no question to give: -q is quiet, also at the end of the line."""
    result = run("profile", *ONCE, "--limit", "1", "-q")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout


@pytest.mark.usefixtures("warm")
@pytest.mark.parametrize("command", ["batch", "profile"])
def test_the_old_spelling_asks_the_same_and_says_what_becomes_of_it(run, folder, picture, command):
    """-q QUESTION asks what -Q QUESTION asks, with a note on stderr that names the new spelling."""
    place, sizes = (folder, SHORT) if command == "batch" else (picture, (*ONCE, "--json"))
    old, new = (run(command, place, name, QUESTION, *sizes) for name in ("-q", "-Q"))
    assert (old.exit_code, new.exit_code) == (0, 0)
    assert old.stderr.startswith(NOTE)
    assert NOTE not in new.stderr
    for result in (old, new):
        assert QUESTION in result.stdout


@pytest.mark.usefixtures("warm")
def test_the_old_spelling_is_silent_beside_quiet(run, folder):
    """--quiet leaves the note away too."""
    result = run("batch", folder, "-q", QUESTION, "--quiet", *SHORT)
    assert (result.exit_code, result.stderr) == (0, "")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("batch", ".", "-q"), "-Q QUESTION"),
        (("batch", ".", "-q", "--limit", "1"), "-Q QUESTION"),
        (("profile", "a.png", "-q"), "-Q QUESTION"),
        (("profile", "-Q", QUESTION), "-Q asks about"),
        (("batch", "--manifest", "m.jsonl", "-Q", QUESTION), "drop -Q"),
        (("eval", "-q", "--method", "magic"), "magic"),
        (("tune", "-q", "--budget", "-1"), "-1"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_errors_name_the_new_spelling(run, fails, words, told):
    """What is missing or too much is named by -Q, and -q before an option is no question."""
    fails(run(*words), 2, told)
