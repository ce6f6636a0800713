"""The page as a person opens it: headless Chromium, narrow and wide, by day and by night."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from support.browser import Browser
from support.reports import PAYLOADS
from support.sample_report import sample

from embedkit import process
from embedkit.report.html import render
from embedkit.report.model import Finding, Report, Section, Status, Table

pytestmark = pytest.mark.needs("program:chromium")

_LONG = "CONFIG_" + "VERY_LONG_UNBROKEN_" * 30


def _hostile() -> Report:
    """Long words and payloads wherever a report has room for text."""
    texts = (_LONG, *PAYLOADS)
    findings = tuple(
        Finding(text, status, text, text, text * 3, text, f"{text}:1", text[:30])
        for text in texts
        for status in (Status.FAIL, Status.OK)
    )
    table = Table((_LONG, "b"), ((_LONG, _LONG), tuple(PAYLOADS[:2])))
    inner = Section(_LONG, f"  {_LONG}\n", findings, table)
    outer = Section(_LONG, _LONG, sections=(inner,))
    facts = ((_LONG, _LONG), *((text, text) for text in PAYLOADS))
    return Report("c", _LONG, _LONG, Status.FAIL, 1, facts, (outer,) * 5, texts)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(process.require("chromium"), tmp_path_factory.mktemp("chromium")) as started:
        yield started


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    found = {}
    for name, report in (("sample", sample()), ("hostile", _hostile())):
        found[name] = folder / f"{name}.html"
        found[name].write_text(render(report), "utf-8")
    return found


# Whatever sticks out of the page to the right, unless a box of its own scrolls it.
_STICKS_OUT = """
[...document.querySelectorAll('body *')].filter(e => {
  if (e.closest('pre, .scroll, .drawing') && !e.matches('pre, .scroll, .drawing')) return false;
  const box = e.getBoundingClientRect();
  const scrolls = getComputedStyle(e).overflowX !== 'visible';
  return Math.max(box.right, scrolls ? 0 : box.left + e.scrollWidth) > innerWidth + 0.5;
}).map(e => e.tagName + '.' + e.className)
"""


@pytest.mark.parametrize("name", ["sample", "hostile"])
@pytest.mark.parametrize("width", [400, 1400])
def test_nothing_sticks_out_and_nothing_is_fetched(
    browser: Browser, pages: dict[str, Path], name: str, width: int
) -> None:
    browser.open(pages[name], width)
    assert browser.evaluate("innerWidth") == width
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    browser.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    assert browser.evaluate(_STICKS_OUT) == []
    assert [url for url in browser.requests if not url.startswith("data:")] == [
        pages[name].as_uri()
    ]
    assert browser.evaluate("document.scripts.length") == 0
    # The style sheet got past the page's own policy.
    row = "getComputedStyle(document.querySelector('.finding summary')).display"
    assert browser.evaluate(row) == "grid"


def test_that_check_sees_what_sticks_out(browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages["sample"], 400)
    browser.evaluate("document.querySelector('h1').style.whiteSpace = 'nowrap'")
    assert browser.evaluate("document.documentElement.scrollWidth") > 400
    assert browser.evaluate(_STICKS_OUT) != []


# Text that is cut, overlaid by its neighbour or too small to read.
_UNREADABLE = """
[...document.querySelectorAll('.badge, .label, .state, .level, dd, dt, h1, h2, h3, p, td')]
.filter(e => e.getClientRects().length).filter(e => {
  const style = getComputedStyle(e);
  return parseFloat(style.fontSize) < 12 || e.scrollWidth > e.clientWidth + 1
    && style.display !== 'inline';
}).map(e => e.className + ': ' + e.textContent.slice(0, 40))
"""


@pytest.mark.parametrize("width", [400, 1400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_can_be_read(browser: Browser, pages: dict[str, Path], width: int, scheme: str) -> None:
    browser.open(pages["sample"], width, scheme=scheme)
    assert browser.evaluate(_UNREADABLE) == []
    paper = browser.evaluate("getComputedStyle(document.body).backgroundColor")
    assert paper == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(17, 20, 24)")
    # The verdict is what a person sees without scrolling.
    bottom = browser.evaluate("document.querySelector('.verdict').getBoundingClientRect().bottom")
    assert 0 < bottom < 450


def test_rows_can_be_hidden_and_shown_without_a_script(
    browser: Browser, pages: dict[str, Path]
) -> None:
    browser.open(pages["sample"], 1400)
    shown = "[...document.querySelectorAll('.finding.ok')]"
    shown += ".filter(e => e.getClientRects().length).length"
    assert browser.evaluate(shown) == 64
    browser.evaluate("document.getElementById('show-ok').click()")
    assert browser.evaluate(shown) == 0
    assert browser.evaluate("document.querySelectorAll('.finding.fail').length") == 5
    browser.evaluate("document.getElementById('show-ok').click()")
    assert browser.evaluate(shown) == 64


def test_a_screen_reader_finds_its_way(browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages["sample"], 1400)
    nodes = browser.call("Accessibility.getFullAXTree")["nodes"]
    named: dict[str, list[str]] = {}
    for node in nodes:
        role = node.get("role", {}).get("value", "")
        named.setdefault(role, []).append(node.get("name", {}).get("value", ""))
    assert named["heading"][0] == sample().title
    assert "Sections" in named["navigation"]
    assert {"5 failed", "64 ok"} <= set(named["checkbox"])
    assert "Card" in named.get("image", []) + named.get("img", [])
    for role in ("heading", "checkbox", "link", "navigation", "region"):
        assert all(named[role]), role


def test_print_unfolds_every_problem(
    browser: Browser, pages: dict[str, Path], tmp_path: Path
) -> None:
    browser.open(pages["sample"], 800)
    browser.evaluate("document.querySelectorAll('details').forEach(d => d.open = false)")
    folded = "document.querySelector('.finding.{} details > p').checkVisibility()"
    assert browser.evaluate(folded.format("fail")) is False
    browser.call("Emulation.setEmulatedMedia", media="print")
    assert browser.evaluate(folded.format("fail")) is True
    assert browser.evaluate(folded.format("warn")) is True
    assert browser.evaluate(folded.format("ok")) is False
    assert browser.evaluate("getComputedStyle(document.querySelector('nav')).display") == "none"
    browser.pdf(tmp_path / "page.pdf")
    assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF-")


@pytest.fixture
def listener() -> Iterator[tuple[str, list[str]]]:
    """A server on the loopback device, and the paths that it was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_policy_stops_what_would_get_past_the_escaping(
    browser: Browser, tmp_path: Path, listener: tuple[str, list[str]]
) -> None:
    """Markup put into the page on purpose: without the policy it fetches and runs, with it not."""
    base, asked = listener
    attack = (
        f"<img src='{base}/image'><script src='{base}/script'></script>"
        f"<link rel=stylesheet href='{base}/style'><iframe src='{base}/frame'></iframe>"
        "<script>window.ran = true</script><style>body{--hit:1}</style>"
    )
    page = render(sample()).replace("<main>", f"<main>{attack}", 1)
    head, _, tail = page.partition('<meta http-equiv="Content-Security-Policy"')
    unguarded = head + tail.partition(">")[2]
    for text, expected in ((unguarded, True), (page, False)):
        asked.clear()
        (tmp_path / "page.html").write_text(text, "utf-8")
        browser.open(tmp_path / "page.html", 800)
        assert browser.evaluate("window.ran === true") is expected
        hit = "getComputedStyle(document.body).getPropertyValue('--hit')"
        assert (browser.evaluate(hit) == "1") is expected
        assert sorted(asked) == (["/frame", "/image", "/script", "/style"] if expected else [])
