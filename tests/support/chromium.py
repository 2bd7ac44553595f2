"""Headless Chromium over a pipe: Debian's browser, its own protocol, and nothing to install for it.

https://chromedevtools.github.io/devtools-protocol/, with `--remote-debugging-pipe`: messages are JSON, ended by a zero
byte, to the browser's file descriptor 3 and from its 4.
"""

import base64
import json
import os
import select
import shutil
import subprocess
import time

#: Texts whose contrast with what lies behind them is less than WCAG 2.2 asks for (1.4.3, AA).
FAINT = """(() => {
  const channel = (value) => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  const parts = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => 0.2126 * channel(r / 255) + 0.7152 * channel(g / 255) + 0.0722 * channel(b / 255);
  const behind = (one) => {
    for (; one; one = one.parentElement) {
      const colour = parts(getComputedStyle(one).backgroundColor);
      if (colour.length < 4 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  const texts = "p, h1, h2, h3, label, button:enabled, a, td, th, dt, dd, summary, figcaption, small, .words";
  return [...document.querySelectorAll(texts)].filter((one) => {
    const [a, b] = [light(parts(getComputedStyle(one).color)), light(behind(one))].sort((x, y) => y - x);
    return one.textContent.trim() && (a + 0.05) / (b + 0.05) < 4.5;
  }).map((one) => one.outerHTML.slice(0, 80));
})()"""

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def found():
    """The browser's path; None where there is none."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """One page in a browser of its own."""

    def __init__(self, folder):
        to_read, self._write = os.pipe()
        self._read, to_write = os.pipe()

        def descriptors():  # in the child
            first, second = os.dup(to_read), os.dup(to_write)
            os.dup2(first, 3)
            os.dup2(second, 4)

        options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
        self._process = subprocess.Popen(
            [
                found(),
                *options,
                "--hide-scrollbars",
                "--remote-debugging-pipe",
                f"--user-data-dir={folder}",
                "about:blank",
            ],
            preexec_fn=descriptors,
            close_fds=False,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_read)
        os.close(to_write)
        self._number, self._buffer, self.events, self._session = 0, b"", [], None
        pages = self("Target.getTargets")["targetInfos"]
        page = next(one["targetId"] for one in pages if one["type"] == "page")
        self._session = self("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network", "Accessibility"):
            self(f"{domain}.enable")

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self._process.kill()
        self._process.wait()
        os.close(self._write)
        os.close(self._read)

    def __call__(self, method, **parameters):
        """Send a command and return its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        end = time.monotonic() + 60.0
        while True:
            came = self._next(end)
            if came.get("id") == self._number:
                assert "error" not in came, (method, came["error"])
                return came["result"]
            self.events.append(came)

    def _next(self, end):
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._read], [], [], max(end - time.monotonic(), 0.0))
            assert ready, "the browser says nothing"
            part = os.read(self._read, 1 << 20)
            assert part, "the browser is gone"
            self._buffer += part
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)

    def run(self, script):
        """Return what an expression of JavaScript says; awaited where it is a promise."""
        result = self("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def until(self, script, seconds=20.0):
        """Wait until an expression is true, over navigations too."""
        end = time.monotonic() + seconds
        while True:
            try:
                if self.run(script):
                    return
            except AssertionError:  # between two pages
                pass
            assert time.monotonic() < end, f"never: {script}; the page says {self.run('document.body.innerText')!r}"
            time.sleep(0.02)

    def open(self, url):
        """Go to a page."""
        self.run("window.pageBefore = true")
        # A browser that has just begun may still be on its way to its first page, which is none.
        self("Page.navigate", url=url)
        self.until("!window.pageBefore && document.readyState === 'complete' && location.protocol !== 'about:'")

    def leaving(self, action):
        """Do something that leads to another page, and wait for that."""
        self.run("window.pageBefore = true")
        action()
        self.until("!window.pageBefore && document.readyState === 'complete'")

    def press(self, key, code=None, text=None):
        """Press and release a key."""
        more = {} if text is None else {"text": text}
        for kind in ("keyDown", "keyUp"):
            self("Input.dispatchKeyEvent", type=kind, key=key, code=code or "", **(more if kind == "keyDown" else {}))

    def look(self, width, height=900, dark=False):
        """Take on a screen's width in CSS pixels, and a colour scheme."""
        self("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self("Emulation.setEmulatedMedia", features=[scheme])

    def picture(self, path):
        """Write what is seen to a .png."""
        path.write_bytes(base64.b64decode(self("Page.captureScreenshot", format="png")["data"]))

    def complaints(self):
        """What the console says, and what the policy of the page kept from being loaded."""
        said = [one["params"]["entry"]["text"] for one in self.events if one.get("method") == "Log.entryAdded"]
        thrown = [one for one in self.events if one.get("method") == "Runtime.exceptionThrown"]
        return said + thrown

    def requested(self):
        """Addresses that the browser asked for."""
        return [
            one["params"]["request"]["url"] for one in self.events if one.get("method") == "Network.requestWillBeSent"
        ]
