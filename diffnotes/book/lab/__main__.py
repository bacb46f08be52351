"""python -m diffnotes.book.lab NOTEBOOK: JupyterLab as make lab opens it."""

import sys

from diffnotes.book import lab

if __name__ == "__main__":
    sys.exit(lab.start(*sys.argv[1:]))
