"""Runs side by side: one page, a contact sheet, a table of figures."""
