"""How plugins are found, checked and described."""
