"""From runs to a verdict. No torch here."""
