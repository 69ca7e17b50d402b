"""``python -m hpt`` is the command ``hpt``; torchrun starts it so."""

from hpt.cli import main

if __name__ == "__main__":
    main(prog_name="hpt")
