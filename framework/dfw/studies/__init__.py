"""Studies: many runs that are planned, checked and made together."""
