"""A search's part of a report: its section of the page, its tables and its figures."""
