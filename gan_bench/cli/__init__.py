"""What the user types: the options in app.py, and a file for each command."""
