"""What tests of runs share: the reports that runs end with have blank figures, but where figures are looked at."""

import pytest

#: Folders whose tests draw: figures took more than nine tenths of the time of a small run.
DRAWN = ("efficiency", "figures", "interactive", "report")

BLANK = {"svg": b'<svg xmlns="http://www.w3.org/2000/svg" width="1" height="1"/>', "png": b"\x89PNG\r\n\x1a\n"}


@pytest.fixture(autouse=True)
def _blank_figures(request, monkeypatch):
    if request.path.parent.name in DRAWN:
        return
    from matplotlib.figure import Figure

    monkeypatch.setattr(Figure, "savefig", lambda figure, stream, *, format, **_: stream.write(BLANK[format]))
