"""Models as files: which ones the installed components name, which of them are here, and whether they are whole."""
