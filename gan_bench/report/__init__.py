"""From verdicts to a page, tables and figures."""
