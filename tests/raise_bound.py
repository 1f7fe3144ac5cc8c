"""`python -m tests.raise_bound 5.25.0`: admit a release of transformers, once the engine is proven on it.

Installs the release here, runs the engine's tests and `reroute check` on it, and only where both pass writes
the release into `PROVEN` (routing/host.py) and raises the bound in pyproject.toml and README.md to its minor.
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HOST, PROJECT, README = Path("routing/host.py"), Path("pyproject.toml"), Path("README.md")
_PROVEN = re.compile(r'("transformers": \()([^)]*)(\))')
_BOUND = re.compile(r'("transformers>=[\d.]+,<)([\d.]+)(")')
_NEEDED = re.compile(r"(torch [\d.]+ to [\d.]+, transformers [\d.]+ to )(\d+\.\d+)")


def with_proven(host: str, version: str) -> str:
    """routing/host.py with `version` among the proven releases, in order."""
    found = _PROVEN.search(host)
    assert found, "routing/host.py has no list of proven transformers"
    known = set(re.findall(r'"([\d.]+)"', found[2])) | {version}
    listed = ", ".join(f'"{each}"' for each in sorted(known, key=_order))
    return _PROVEN.sub(rf"\g<1>{listed}\g<3>", host)


def with_bound(project: str, version: str) -> str:
    """pyproject.toml with an upper bound that admits the minor of `version`; never lowered."""
    found = _BOUND.search(project)
    assert found, "pyproject.toml has no bounds of transformers"
    major, minor = _order(version)[:2]
    bound = max((major, minor + 1), _order(found[2]))
    return _BOUND.sub(rf"\g<1>{'.'.join(map(str, bound))}\g<3>", project)


def with_needed(readme: str, version: str) -> str:
    """README.md with the minor of `version` as the newest that it names; never lowered."""
    found = _NEEDED.search(readme)
    assert found, "README.md does not say which transformers it needs"
    newest = max(_order(version)[:2], _order(found[2]))
    return _NEEDED.sub(rf"\g<1>{'.'.join(map(str, newest))}", readme)


def raise_bound(version: str, root: Path, commands: list[list[str]]) -> str | None:
    """Run `commands`, and write where all succeed; otherwise what failed, with nothing written."""
    for command in commands:
        if subprocess.run(command, cwd=root).returncode:
            return " ".join(command)
    for path, change in ((HOST, with_proven), (PROJECT, with_bound), (README, with_needed)):
        text = (root / path).read_text(encoding="utf-8")
        (root / path).write_text(change(text, version), encoding="utf-8")
    return None


def _order(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def main() -> None:
    """Prove and admit the release named on the command line."""
    if len(sys.argv) != 2 or not re.fullmatch(r"\d+\.\d+\.\d+", sys.argv[1]):
        sys.exit("usage: python -m tests.raise_bound VERSION, for example 5.25.0")
    version = sys.argv[1]
    failed = raise_bound(
        version,
        ROOT,
        [
            [sys.executable, "-m", "pip", "install", f"transformers=={version}"],
            [sys.executable, "-m", "pytest", "-q", "-n", "auto", "tests/routing"],
            [sys.executable, "-m", "reroute_cli", "check"],
        ],
    )
    if failed:
        sys.exit(f"transformers {version} is not admitted: failed in {failed}")
    written = ", ".join(map(str, (HOST, PROJECT, README)))
    print(f"transformers {version} is admitted: commit {written}, and say so in CHANGELOG.md")


if __name__ == "__main__":
    main()
