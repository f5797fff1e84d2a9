import hashlib
import hmac
import http.server
import json
import logging
import threading

import pytest

from tailwise.dashboard import Alarm, Webhook
from tailwise.errors import ConfigError

ID = "d" * 32
SECRET = b"0123456789abcdef"
ALARM = Alarm(1.0, "raised", "exposure", "tail", "alarm", "The tail share fell.", {"share": 0.1})


class Receiver:
    """A server on the loopback that answers with the given states, then with 200."""

    def __init__(self, *statuses):
        self.statuses, self.got = list(statuses), []
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.got.append((self.path, dict(self.headers.items()), body))
                status = receiver.statuses.pop(0) if receiver.statuses else 200
                self.send_response(status)
                if status in (301, 307):
                    self.send_header("location", "/elsewhere")
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,))

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.thread.join(5)
        self.server.server_close()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server.server_port}/hook/secret-path"


def hook(url, **changes):
    waits = []
    made = Webhook(url, **{"secret": SECRET, "sleep": waits.append, "clock": lambda: 1000.0, **changes})
    return made, waits


def test_alarms_arrive_as_json_with_a_signature_that_the_receiver_can_check():
    with Receiver() as receiver:
        made, waits = hook(receiver.url)
        assert made.send([ALARM], delivery=ID) == "taken"
    path, headers, body = receiver.got[0]
    assert path == "/hook/secret-path"
    assert json.loads(body)["alarms"][0]["message"] == "The tail share fell."
    expected = hmac.new(SECRET, b"1000." + body, hashlib.sha256).hexdigest()
    assert headers["x-tailwise-signature"] == f"t=1000,v1={expected}"
    assert waits == []


def test_without_a_secret_nothing_is_signed():
    with Receiver() as receiver:
        assert hook(receiver.url, secret=None)[0].send([ALARM], delivery=ID) == "taken"
    assert "x-tailwise-signature" not in receiver.got[0][1]


def test_a_receiver_that_is_busy_is_tried_again_ever_more_slowly_under_one_name():
    with Receiver(503, 429, 521) as receiver:
        made, waits = hook(receiver.url)
        assert made.send([ALARM], delivery=ID) == "taken"
    assert waits == [1.0, 2.0, 4.0]
    assert [headers["x-tailwise-delivery"] for _, headers, _ in receiver.got] == [ID] * 4


def test_a_receiver_that_refuses_is_not_tried_again():
    with Receiver(403) as receiver:
        made, waits = hook(receiver.url)
        assert made.send([ALARM], delivery=ID) == "refused"
    assert (len(receiver.got), waits) == (1, [])


@pytest.mark.parametrize("status", [301, 307])
def test_redirects_are_not_followed(status):
    with Receiver(status) as receiver:
        assert hook(receiver.url)[0].send([ALARM], delivery=ID) == "refused"
    assert len(receiver.got) == 1


def test_a_receiver_that_is_away_is_said_without_the_address_path_or_secret(caplog):
    with Receiver() as receiver:
        url = receiver.url
    made, waits = hook(url, attempts=3)
    with caplog.at_level(logging.DEBUG, logger="tailwise.monitor"):
        assert made.send([ALARM], delivery=ID) == "away"
    assert len(waits) == 2
    assert "webhook at 127.0.0.1 did not take 1 alarms" in caplog.text
    for hidden in ("secret-path", SECRET.decode()):
        assert hidden not in caplog.text
        assert hidden not in repr(made) + made.name


def test_two_addresses_at_one_host_have_two_names_that_stay():
    one, again, other = (Webhook(f"https://host/{path}").name for path in ("a", "a", "b"))
    assert one == again != other
    assert one.startswith("host-")


def test_proxies_of_the_environment_are_not_used(monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    with Receiver() as receiver:
        assert hook(receiver.url)[0].send([ALARM], delivery=ID) == "taken"


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://host/x", "data:,x", "http://", "host/x", ""])
def test_other_addresses_than_http_are_refused(url):
    with pytest.raises(ConfigError, match=r"webhook must be an address that begins with http"):
        Webhook(url)


def test_passwords_in_the_address_are_refused_without_being_repeated():
    with pytest.raises(ConfigError, match="must not hold a user or password") as refused:
        Webhook("https://anna:hunter2@host/x")
    assert "hunter2" not in str(refused.value)


def test_a_short_secret_is_refused():
    with pytest.raises(ConfigError, match="must have at least 16 bytes; got 4"):
        Webhook("https://host/x", secret=b"abcd")
