from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from chroma_voice.bench.server_metrics import Histogram, Scraper, parse, read
from chroma_voice.errors import FailedPrecondition, Unavailable

PAGE = """# TYPE turns counter
turns_total{outcome="completed"} 3.0
turns_total{outcome="failed"} 1.0
# TYPE turns_created gauge
# TYPE open gauge
open 2.0
broken NaN
# TYPE wait histogram
wait_bucket{le="0.1",kind="a"} 1.0
wait_bucket{le="0.1",kind="b"} 1.0
wait_bucket{le="0.2",kind="a"} 2.0
wait_bucket{le="+Inf",kind="a"} 2.0
wait_sum 0.3
wait_count 2.0
"""


class Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        status, body = self.server.answer  # pyright: ignore[reportAttributeAccessIssue]
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        return


@pytest.fixture
def page() -> Iterator[HTTPServer]:
    server = HTTPServer(("127.0.0.1", 0), Page)
    server.answer = (200, PAGE.encode())  # pyright: ignore[reportAttributeAccessIssue]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_values_are_summed_over_their_labels() -> None:
    found = parse(PAGE, 1.5)
    assert (found.at_s, found.values["turns_total"], found.values["open"]) == (1.5, 4.0, 2.0)
    assert "broken" not in found.values
    assert found.histograms["wait"].buckets == {0.1: 2.0, 0.2: 2.0, float("inf"): 2.0}


def test_quantiles_are_those_of_promql() -> None:
    found = Histogram({0.1: 50.0, 0.2: 90.0, 0.4: 100.0, float("inf"): 100.0})
    assert found.quantile(0.5) == pytest.approx(0.1)
    assert found.quantile(0.7) == pytest.approx(0.15)
    assert found.quantile(0.95) == pytest.approx(0.3)
    assert Histogram({0.1: 1.0, float("inf"): 10.0}).quantile(0.99) == 0.1
    assert Histogram({}).quantile(0.5) is None
    assert found.since(found).quantile(0.5) is None


def test_a_page_is_read(page: HTTPServer) -> None:
    address = f"127.0.0.1:{page.server_port}"
    assert read(f"{address}/metrics").values == read(f"http://{address}/metrics").values
    scraper = Scraper([f"http://{address}/metrics"], time.monotonic())
    scraper.start()
    scraper.stop()
    assert [scrape.values["open"] for scrape in scraper.scrapes[f"http://{address}/metrics"]] == [2.0, 2.0]


@pytest.mark.parametrize(
    ("answer", "told"),
    [((404, b"no"), "HTTP 404"), ((200, b"<html>a page</html>"), "no page of Prometheus"), ((200, b""), "no page of")],
)
def test_what_is_no_page_of_metrics_is_told(page: HTTPServer, answer: tuple[int, bytes], told: str) -> None:
    page.answer = answer  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(FailedPrecondition, match=told):
        read(f"http://127.0.0.1:{page.server_port}/metrics")


def test_a_page_where_nothing_listens_is_told() -> None:
    with pytest.raises(Unavailable, match=r"no metrics at .*: Connection refused"):
        read("127.0.0.1:1/metrics")
