"""The draws of a search: which are chosen and confirmed, and what a budget of them buys."""
