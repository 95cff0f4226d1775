"""Who may ask: names of this machine, our own pages, nothing that a form or another site can send."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from fastapi.testclient import TestClient
from playwright.sync_api import Page, Playwright

from browser import BROWSER_FLAGS, chromium_path
from onesense.web.security import CHANGE_HEADER, HEADERS, MOST_BYTES, refuse

TRAVERSALS = [
    "..", "%2e%2e", "..%2f..%2fetc%2fpasswd", "%2e%2e%2fetc", "..%5c..%5cetc", "%00", "demo%00", "/etc/passwd",
    "%2fetc%2fpasswd", "....//", "%252e%252e", "con", "~root", "demo/../../etc", "C:%5c",
]  # fmt: skip


def scope(method: str = "GET", **headers: str | list[str]) -> dict[str, object]:
    """An ASGI scope; a header may be given several times, as a list."""
    given: list[tuple[bytes, bytes]] = []
    for name, value in {"host": "127.0.0.1:8377", **headers}.items():
        for one in [value] if isinstance(value, str) else value:
            given.append((name.replace("_", "-").encode(), one.encode("latin-1")))
    return {"type": "http", "method": method, "headers": given, "server": ("127.0.0.1", 8377)}


@pytest.mark.parametrize("host", ["127.0.0.1:8377", "localhost:8377", "[::1]:8377"])
def test_names_of_this_machine_are_answered(host: str) -> None:
    assert refuse(scope(host=host)) is None


@pytest.mark.parametrize(
    "host",
    [
        "evil.example", "evil.example:8377", "127.0.0.1", "127.0.0.1:80", "127.0.0.1:8378", "127.0.0.1.:8377",
        "localhost.:8377", "127.0.0.1:8377.evil.example", "127.0.0.1:8377@evil.example", "", "::1:8377", "[::1]",
        "0.0.0.0:8377", "127.1:8377", "2130706433:8377", "LOCALHOST.evil:8377", "127.0.0.1:8377 ", "127.0.0.1:08377",
    ],
)  # fmt: skip
def test_other_names_are_not(host: str) -> None:
    found = refuse(scope(host=host))
    assert found is not None
    assert found.status == 421


def test_no_host_and_two_hosts_are_refused() -> None:
    for hosts in ([], ["127.0.0.1:8377", "127.0.0.1:8377"], ["127.0.0.1:8377", "evil.example"]):
        found = refuse(scope(host=hosts))
        assert found is not None, hosts
        assert found.status == 421


@pytest.mark.parametrize(
    "origin",
    [
        "null",
        "http://evil.example",
        "https://127.0.0.1:8377",
        "http://127.0.0.1:8378",
        "http://localhost:8377",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_another_origin_is_refused(origin: str, method: str) -> None:
    found = refuse(scope(method, origin=origin, x_onesense="1", content_type="application/json"))
    assert found is not None
    assert found.status == 403


def test_two_origins_are_refused_and_our_own_is_answered() -> None:
    own = "http://127.0.0.1:8377"
    assert refuse(scope(origin=own)) is None
    assert refuse(scope(origin=[own, own])) is not None


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_what_another_site_began_is_refused_but_for_a_link(site: str) -> None:
    assert refuse(scope(sec_fetch_site=site)) is not None
    assert refuse(scope(sec_fetch_site=site, sec_fetch_mode="no-cors", sec_fetch_dest="image")) is not None
    assert refuse(scope(sec_fetch_site=site, sec_fetch_mode="navigate", sec_fetch_dest="iframe")) is not None
    assert refuse(scope(sec_fetch_site=site, sec_fetch_mode="navigate", sec_fetch_dest="document")) is None
    changing = scope(
        "POST", sec_fetch_site=site, sec_fetch_mode="navigate", sec_fetch_dest="document", x_onesense="1"
    )
    assert refuse(changing) is not None


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_a_change_needs_the_header(method: str) -> None:
    found = refuse(scope(method, content_type="application/json"))
    assert found is not None
    assert found.status == 403
    assert CHANGE_HEADER in found.hint
    assert refuse(scope(method, content_type="application/json", x_onesense="1")) is None


@pytest.mark.parametrize(
    "kind",
    ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/json", ""],
)
def test_a_change_is_json(kind: str) -> None:
    found = refuse(scope("POST", content_type=kind, x_onesense="1"))
    assert found is not None
    assert found.status == 415


@pytest.mark.parametrize("length", ["1000001", "99999999999999999999", "-1", "1e3", "0x10"])
def test_a_body_that_says_it_is_too_long_is_refused(length: str) -> None:
    found = refuse(scope("POST", content_type="application/json", x_onesense="1", content_length=length))
    assert found is not None
    assert found.status == 413


def test_a_body_that_grows_beyond_the_limit_is_not_read_to_its_end(client: TestClient) -> None:
    def endless() -> object:
        for _ in range(MOST_BYTES // 1000 * 3):
            yield b" " * 1000

    answer = client.post("/api/steer", content=endless(), headers={"content-type": "application/json"})  # type: ignore[arg-type]
    assert answer.status_code == 413


@pytest.mark.parametrize(
    "address", ["/", "/work.json", "/static/onesense.css", "/nothing", "/api/openapi.json"]
)
def test_every_answer_carries_the_headers(client: TestClient, address: str) -> None:
    answer = client.get(address)
    for name, value in HEADERS.items():
        assert answer.headers[name] == value
    refused = client.get(address, headers={"host": "evil.example"})
    assert refused.status_code == 421
    assert refused.headers["content-security-policy"] == HEADERS["content-security-policy"]


@pytest.mark.parametrize("part", TRAVERSALS)
def test_no_id_leads_out_of_the_list_of_what_there_is(client: TestClient, part: str) -> None:
    addresses = [
        f"/static/{part}", f"/runs/{part}", f"/runs/{part}/features", f"/runs/{part}/features/1",
        f"/tune?recipe={part}",
        f"/steer?recipe={part}", f"/api/recipes/{part}", f"/runs/{part}/audit", f"/runs/{part}/debias",
        f"/runs/{part}/senses/features/1", f"/api/work/{part}/events", f"/runs/demo/features/{part}",
    ]  # fmt: skip
    for address in addresses:
        answer = client.get(address)
        assert answer.status_code < 500, address
        assert "root:" not in answer.text, address
        if "runs/demo" not in address and answer.status_code == 200:
            assert "</html>" in answer.text or answer.json() is not None, address


@pytest.mark.parametrize("feature", ["-1", "99999", "9" * 30, "1.5", "0x1", "one", "1e3", "%20", "１"])
def test_a_feature_that_cannot_be_is_refused(client: TestClient, feature: str) -> None:
    assert client.get(f"/runs/demo/features/{feature}").status_code in (404, 422)


def test_looking_changes_nothing(client: TestClient, demo_run: Path) -> None:
    def state() -> dict[str, str]:
        return {
            str(path): sha256(path.read_bytes()).hexdigest()
            for path in sorted(demo_run.rglob("*"))
            if path.is_file() and not path.name.endswith(("-shm", "-wal"))
        }

    before = state()
    for address in (
        "/",
        "/runs/demo",
        "/runs/demo/features",
        "/runs/demo/features/10",
        "/steer",
        "/tune",
        "/reports",
    ):
        assert client.get(address).status_code == 200, address
        assert client.head(address).status_code in (200, 405)
    assert state() == before


def raw(server: str, request: bytes) -> bytes:
    """What a real server answers to these very bytes."""
    at = urlsplit(server)
    with socket.create_connection((at.hostname or "", at.port or 0), timeout=20) as connection:
        connection.sendall(request)
        connection.settimeout(20)
        answer = b""
        while part := connection.recv(65536):
            answer += part
        return answer


@pytest.mark.parametrize(
    "lines",
    [
        [b"GET / HTTP/1.1", b"Host: evil.example"],
        [b"GET / HTTP/1.1"],
        [b"GET / HTTP/1.0"],
        [b"GET http://evil.example/ HTTP/1.1", b"Host: evil.example"],
        [b"GET //etc/passwd HTTP/1.1", b"Host: evil.example"],
        [b"GET /static/../../../../etc/passwd HTTP/1.1", b"Host: {own}"],
        [b"GET /static//etc/passwd HTTP/1.1", b"Host: {own}"],
        [b"GET /static/..%5c..%5cpasswd HTTP/1.1", b"Host: {own}"],
        [b"GET / HTTP/1.1", b"Host: {own}", b"Host: {own}"],
        [b"GET / HTTP/1.1", b"Host: {own}", b"Origin: null"],
        [b"POST /api/steer HTTP/1.1", b"Host: {own}", b"Content-Type: text/plain", b"Content-Length: 0"],
    ],
)
def test_a_real_server_refuses_what_it_should(server: str, lines: list[bytes]) -> None:
    own = urlsplit(server).netloc.encode()
    request = b"\r\n".join([*(line.replace(b"{own}", own) for line in lines), b"Connection: close", b"", b""])
    status = int(raw(server, request).split(b" ", 2)[1])
    assert 400 <= status < 500


def test_a_refusal_does_not_leave_the_rest_of_a_body_for_a_request(server: str) -> None:
    own = urlsplit(server).netloc
    hidden = f"GET /work.json HTTP/1.1\r\nHost: {own}\r\nConnection: close\r\n\r\n"
    head = f"POST /api/steer HTTP/1.1\r\nHost: {own}\r\nContent-Type: text/plain\r\n"
    request = f"{head}Content-Length: {len(hidden)}\r\n\r\n{hidden}"
    assert raw(server, request.encode()).count(b"HTTP/1.1 ") == 1


def test_a_real_server_ends_a_body_that_never_ends(server: str) -> None:
    own = urlsplit(server).netloc
    head = f"POST /api/steer HTTP/1.1\r\nHost: {own}\r\nContent-Type: application/json\r\nX-Onesense: 1\r\n"
    piece = b"186A0\r\n" + b" " * 100_000 + b"\r\n"  # never the last one
    one_more = b"1\r\n \r\n"  # all of it is read: a connection that is closed on unread bytes is reset
    body = piece * (MOST_BYTES // 100_000) + one_more
    answer = raw(server, f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + body)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"\r\ncontent-security-policy: " in answer
    assert answer.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize("address", ["/work.json", "/api/openapi.json", "/static/onesense.css"])
def test_a_question_may_not_carry_much_either(server: str, address: str) -> None:
    own = urlsplit(server).netloc
    head = f"GET {address} HTTP/1.1\r\nHost: {own}\r\nContent-Length: {MOST_BYTES + 1}\r\n\r\n"
    assert raw(server, head.encode()).startswith(b"HTTP/1.1 413 ")


def test_there_are_no_web_sockets(server: str) -> None:
    own = urlsplit(server).netloc
    lines = [
        "GET /work HTTP/1.1", f"Host: {own}", "Upgrade: websocket", "Connection: Upgrade",
        "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ]  # fmt: skip
    at = urlsplit(server)
    with socket.create_connection((at.hostname or "", at.port or 0), timeout=20) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        assert not connection.recv(1000).startswith(b"HTTP/1.1 101")


def test_a_real_server_answers_this_machine(server: str) -> None:
    at = urlsplit(server)
    connection = http.client.HTTPConnection(at.hostname or "", at.port, timeout=20)
    connection.request("GET", "/work.json")
    answer = connection.getresponse()
    assert answer.status == 200
    assert "server" not in {name.lower() for name, _ in answer.getheaders()}


def test_another_site_cannot_use_a_browser_against_us(
    page: Page, server: str, start_attacker: Callable[[str], str], faults: list[str]
) -> None:
    page.goto(start_attacker(server))
    page.wait_for_function("window.tried === 4")
    assert page.evaluate("window.read") == []
    assert page.locator("iframe").count() == 1
    assert page.frames[1].evaluate("document.body ? document.body.innerText : ''").find("onesense") == -1
    faults.clear()  # the browser says of each attempt that it was refused


def test_a_name_that_is_pointed_at_this_machine_reads_nothing(playwright: Playwright, server: str) -> None:
    """DNS rebinding: to the browser the attacker's page and this server are of one origin."""
    port = urlsplit(server).port
    flags = [*BROWSER_FLAGS, "--host-resolver-rules=MAP evil.example 127.0.0.1"]
    started = playwright.chromium.launch(executable_path=chromium_path(), args=flags)
    try:
        page = started.new_page()
        answer = page.goto(f"http://evil.example:{port}/")
        assert answer is not None
        assert answer.status == 421
        found = page.evaluate(
            """async () => {
              const headers = {"content-type": "application/json", "x-onesense": "1"};
              const asked = [fetch("/index.json"), fetch("/work.json"), fetch("/static/onesense.css"),
                fetch("/api/steer", {method: "POST", headers, body: '{"prompt":"x"}'})];
              const answers = await Promise.all(asked);
              return Promise.all(answers.map(async (one) => [one.status, await one.text()]));
            }"""
        )
    finally:
        started.close()
    assert [status for status, _ in found] == [421] * 4
    assert all("demo" not in text for _, text in found)
