"""Texts that two YAML readers read differently, or that a writer may lose."""

_NUMBERS = """1e-3 12e4 .5e3 1E234 5e12345 1e3 0x_ 0x1f 0b_ 0b1 0o17 0123 1:30 190:20:30.15 1_000 .nan .inf -.inf NaN inf + - -1
+1 0."""
_WORDS = "2001-99-99 2001-12-14 on off yes no y n true True null Null ~ . .. = << ! & * ? | > % @ ` {} [] --- ..."
_SIGNS = ("", " ", "\x85nel", "a\x85b", "\u2028", "\u2029x", "\ufeff", "\x00", "\x1b[31m", "\x9b2J", "\u202e", "a\n b \n", "\t")
AMBIGUOUS = (*_NUMBERS.split(), *_WORDS.split(), *_SIGNS)
