"""`python -m dfw`."""

from dfw.cli.process import process

if __name__ == "__main__":
    process()
