"""`reroute compare`: two reports, a verdict for each gate, and an exit code that a CI job can trust."""

from __future__ import annotations

from reroute_cli.console.study_options import ComparisonOutput, GateOptions, ReportPair


def compare(reports: ReportPair, gates: GateOptions, output: ComparisonOutput) -> None:
    """Judge a report by another one: exit 0 where every gate holds, 3 where one fails, 5 for other work."""
    from reroute_cli.records.reading import read_report
    from reroute_cli.studies.compare import accept_command, refuse_same_file, verdict
    from reroute_cli.studies.compare import compare as judge
    from reroute_cli.studies.gates import all_gates
    from reroute_cli.views.emit import emit

    parsed = all_gates(gates.gate or [])
    refuse_same_file(output.output, reports.baseline, "BASELINE")
    refuse_same_file(output.output, reports.current, "CURRENT")
    baseline, current = read_report(reports.baseline), read_report(reports.current)
    names = (str(reports.baseline), str(reports.current))
    accept = accept_command(reports.baseline, reports.current)
    found = judge(baseline, current, parsed, strict=gates.strict, names=names, accept=accept)
    with verdict(found):
        emit(found, output, current=current)
