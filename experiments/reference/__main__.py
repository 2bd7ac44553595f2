"""`python -m duelenv.experiments.reference docs/reference` writes the pages."""

from __future__ import annotations

import sys
from pathlib import Path

from duelenv.experiments.reference.pages import PAGES

if __name__ == "__main__":
    for name, page in PAGES.items():
        (Path(sys.argv[1]) / name).write_text(page(), encoding="utf-8")
