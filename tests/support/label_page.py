"""The page of `duelenv label` over a real connection on loopback, for tests over HTTP and with a browser."""

import re
import threading
from contextlib import contextmanager

import httpx

from duelenv.experiments.labelling.app import Look, make_app
from duelenv.experiments.labelling.serving import Server, bound, url_of
from duelenv.oracles.people import Desk
from duelenv.oracles.sources import Request


def desk_of(path, texts, **settings):
    """A desk with a question for each (prompt, first, second)."""
    desk = Desk(path, **settings)
    desk.put([Request(f"q{row}", 0, row, *words) for row, words in enumerate(texts)])
    return desk


@contextmanager
def page_of(desk, **look):
    """Serve the desk's page; gives its address."""
    with bound("127.0.0.1", 0) as opened:
        server = Server(make_app(desk, Look("a table", **look)), opened)
        thread = threading.Thread(target=server.serve_here)
        thread.start()
        try:
            yield url_of("127.0.0.1", opened)
        finally:
            server.stop()
            thread.join()


class Visitor:
    """Somebody with a browser that keeps cookies, follows nothing and runs no scripts."""

    def __init__(self, url, name=None, **fields):
        self.url = url.rstrip("/")
        self.http = httpx.Client(base_url=self.url, headers={"Origin": self.url}, timeout=30.0)
        self.page = ""
        if name is not None:
            self.entered = self.http.post("/enter", data={"name": name, **fields})
            self.look()

    def look(self, path="/"):
        """Open a page."""
        self.page = self.http.get(path, follow_redirects=True).text
        return self.page

    def hidden(self, name):
        """A field that the page sends along."""
        return re.search(f'name="{name}" value="([^"]*)"', self.page)[1]

    @property
    def left(self):
        """The response on the left, as text."""
        return re.search(r'id="left".*?<div class="text">(.*?)</div>', self.page, re.DOTALL)[1]

    def say(self, verdict, **fields):
        """Press a button of the page that is open."""
        sent = {"pair": self.hidden("pair"), "post": self.hidden("post"), "verdict": verdict, **fields}
        response = self.http.post("/answer", data=sent)
        if response.status_code == 303:
            self.look(response.headers["location"])
        return response

    def undo(self):
        """Press undo."""
        response = self.http.post("/undo", data={"post": self.hidden("post")})
        self.look(response.headers["location"])
        return response

    @property
    def message(self):
        """What the page says first."""
        return re.search(r'id="message"[^>]*>([^<]*)<', self.page)[1]
