"""What is done with a model and many questions: profile, evaluate, sweep, tune, trace; plan; compare.

A study is one function: values in, a record out. It prints nothing; `progress` is told how far it is.
"""

from __future__ import annotations

from reroute_cli.console.output import SILENT, StudyProgress

__all__ = ["SILENT", "StudyProgress"]
