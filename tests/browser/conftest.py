"""A running dashboard and a real Chromium for the tests of this folder; both are skipped where they cannot run."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hero_ray.store import open_store
from tests import dashboard_data, machine

ARTIFACTS = Path(__file__).parent / "artifacts"
Serve = Callable[[str], str]


@pytest.fixture(scope="session")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """Start `hero-ray dashboard` on a database; gives its address."""
    pytest.importorskip("streamlit")
    from hero_ray.cli import dashboard

    running: list[subprocess.Popen[bytes]] = []
    known: dict[str, str] = {}

    def start(url: str) -> str:
        if url in known:
            return known[url]
        port = machine.free_port()
        log = tmp_path_factory.mktemp("dashboard") / "log"
        with log.open("wb") as sink:
            environment = dashboard.environment(url, allow_cancel=False) | {"OMP_NUM_THREADS": "1"}
            process = subprocess.Popen(
                dashboard.command("127.0.0.1", port), env=environment, stdout=sink, stderr=subprocess.STDOUT
            )
        running.append(process)
        address = f"http://127.0.0.1:{port}"
        machine.wait_until_answers(f"{address}/_stcore/health", process, said=log.read_text)
        known[url] = address
        return address

    yield start
    for process in running:
        process.kill()  # it holds nothing worth an orderly end, which takes Streamlit seconds
        process.wait()


@pytest.fixture(scope="session")
def demo_results(request: pytest.FixtureRequest) -> str:
    """A database made by a real, small sweep of the embedded model; `HERO_RAY_TEST_DB` names one made before."""
    return os.environ.get("HERO_RAY_TEST_DB") or str(request.getfixturevalue("demo").url)


@pytest.fixture(scope="session", params=["drawn", pytest.param("swept", marks=pytest.mark.slow)])
def results(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A database of drawn rows, for a quick look, and the one made by a sweep."""
    if request.param == "swept":
        return str(request.getfixturevalue("demo_results"))
    url = f"sqlite:///{tmp_path_factory.mktemp('drawn') / 'results.db'}"
    with open_store(url) as store:
        dashboard_data.fill_run(store, "drawn", dashboard_data.grid())
    return url


@pytest.fixture(scope="session")
def written(demo_results: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Addresses of a report, a share bundle and a page of it about one method, of the demo's run."""
    from hero_ray.cli.dashboard import write_bundle
    from hero_ray.results.contenders import every_model
    from hero_ray.results.report import document, page

    folder = tmp_path_factory.mktemp("pages")
    with open_store(demo_results, read_only=True) as store:
        bundle = write_bundle(store, "latest", folder / "bundle")
        (folder / "report.html").write_text(page.to_html(document.build(every_model(store, bundle["run_id"])[0])))
    pages = {"report": folder / "report.html", "bundle": Path(bundle["path"])}
    pages["method"] = next(Path(bundle["path"]).parent.glob("method-*-hero.html"))
    return {name: path.as_uri() for name, path in pages.items()}


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A headless Chromium from the system.

    For one module: while it runs, Playwright holds an event loop that tests elsewhere must not meet.
    """
    sync_api = pytest.importorskip("playwright.sync_api")
    path = machine.chromium()
    if path is None:
        pytest.skip("no Chromium on this machine")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, headless=True, args=machine.CHROMIUM_FLAGS)
        yield browser
        browser.close()


class Visitor:
    """One browser tab that remembers what went wrong in it.

    Attributes:
        page: Playwright's page.
        problems: console errors and exceptions.
        outside: requests to any other host.
    """

    def __init__(self, page: Any, address: str) -> None:
        self.page, self.address = page, address
        self.problems: list[str] = []
        self.outside: list[str] = []
        page.set_default_timeout(120_000)  # of a crowded machine; nothing here waits that long otherwise
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("request", self._request)

    def _console(self, message: Any) -> None:
        # Opened on a sub-page, Streamlit's client looks for its server below that path first and gets a 404.
        probing = "_stcore/" in str(message.location.get("url", ""))
        if message.type == "error" and not probing:
            self.problems.append(message.text)

    def _request(self, request: Any) -> None:
        if not request.url.startswith((self.address, self.address.replace("http", "ws"), "data:", "blob:")):
            self.outside.append(request.url)

    def open(self, path: str = "", chart: bool = False) -> Any:
        """Go to a page and wait until it is drawn."""
        self.page.goto(f"{self.address}/{path}")
        self.page.wait_for_selector("h1")
        if chart:
            self.page.wait_for_selector(".js-plotly-plot .scatterlayer .point", state="attached")
        self.settle()
        return self.page

    def settle(self) -> None:
        """Wait until the script behind the page has run to its end and what it sent is drawn."""
        self.page.wait_for_timeout(250)  # for a click to reach the server
        self.page.wait_for_selector("[data-testid=stApp][data-test-script-state=notRunning]")
        self.page.wait_for_function("!document.querySelector('[data-testid=stStatusWidget]')")
        self.page.wait_for_timeout(150)

    def keep(self, name: str) -> None:
        """Save a picture of the whole page for people to look at, if `HERO_RAY_PICTURES` asks for it."""
        if not os.environ.get("HERO_RAY_PICTURES"):
            return
        ARTIFACTS.mkdir(exist_ok=True)
        size = dict(self.page.viewport_size)
        height = self.page.evaluate("(document.querySelector('[data-testid=stMain]') || document.body).scrollHeight")
        self.page.set_viewport_size({"width": size["width"], "height": min(max(size["height"], height + 20), 4000)})
        self.page.wait_for_timeout(900)
        self.page.screenshot(path=str(ARTIFACTS / f"{name}.png"))
        self.page.set_viewport_size(size)


@pytest.fixture(scope="module")
def person(chromium: Any) -> Iterator[Any]:
    """Whoever opens the tabs: a browser that was here before has the dashboard's megabytes of script compiled."""
    context = chromium.new_context()
    yield context
    context.close()


@pytest.fixture
def visit(person: Any, serve: Serve) -> Iterator[Callable[..., Visitor]]:
    """Open a tab on the dashboard of a database; afterwards nothing may have gone wrong in it."""
    visitors: list[Visitor] = []

    def start(url: str, width: int = 1440, scheme: str = "light") -> Visitor:
        page = person.new_page()
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme=scheme)
        visitors.append(Visitor(page, serve(url)))
        return visitors[-1]

    yield start
    for visitor in visitors:
        visitor.page.close()
    for visitor in visitors:
        assert visitor.problems == []
        assert visitor.outside == []
