"""The table of a soak: what each fuzzer tried, and how it ended."""

from support.soak import table


def pytest_terminal_summary(terminalreporter):
    rows = [
        value
        for reports in terminalreporter.stats.values()
        for report in reports
        for name, value in getattr(report, "user_properties", ())
        if name == "soak" and report.when == "call"
    ]
    if rows:
        terminalreporter.section("soak")
        terminalreporter.write_line(table(rows))
