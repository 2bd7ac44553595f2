"""The socket of a page: who is told its address may come at once, and is answered when the page is there."""

import socket

import pytest

from duelenv import UserError
from duelenv.experiments.labelling.serving import bound, url_of


def test_an_address_takes_connections_before_the_page_is_served():
    with bound("127.0.0.1", 0) as opened:
        host, port = opened.getsockname()
        assert url_of(host, opened) == f"http://127.0.0.1:{port}/"
        with socket.create_connection((host, port), timeout=5.0):
            served, _ = opened.accept()
            served.close()


def test_a_port_that_is_taken_is_one_sentence():
    with bound("127.0.0.1", 0) as opened:
        port = opened.getsockname()[1]
        with pytest.raises(UserError, match=f"cannot open the page at 127.0.0.1 port {port} .*another --port"):
            bound("127.0.0.1", port)
