"""One run: assembled, looped, stepped, checkpointed."""
