"""What the browser tests ask of a page. Every check returns what is wrong, so that a test can plant a fault."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


@dataclass
class Visit:
    """One page in one window, with all that it printed, threw, opened and asked for."""

    page: Any
    trouble: list[str] = field(default_factory=list)

    def open_details(self) -> None:
        self.page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")

    def violations(self) -> list[str]:
        """Rules of axe that the page breaks, with the elements; closed details are opened first."""
        from axe_playwright_python.sync_playwright import Axe

        self.open_details()
        options = {"runOnly": {"type": "tag", "values": RULES}, "resultTypes": ["violations"]}
        found = Axe().run(self.page, options=options).response["violations"]
        return [f"{rule['id']}: {node['target']}" for rule in found for node in rule["nodes"]]

    def overflow(self, inside: str = "body") -> list[str]:
        """Elements that stick out to the right of the window, unless they scroll in a box of their own inside of it."""
        return self.page.evaluate(
            """inside => {
              const root = document.documentElement, width = root.clientWidth, whole = document.querySelector(inside);
              const cut = e => getComputedStyle(e).overflowX !== 'visible';
              const boxed = e => e !== whole && (cut(e) || boxed(e.parentElement));
              const out = [...whole.querySelectorAll('*')]
                .filter(e => !boxed(e.parentElement) && e.getBoundingClientRect().right > width + 0.5)
                .map(e => `${e.tagName}.${e.getAttribute('class')}: ${Math.round(e.getBoundingClientRect().right)}`);
              if (root.scrollWidth > width) out.push(`page: ${root.scrollWidth}`);
              return out;
            }""",
            inside,
        )

    def tree(self) -> list[tuple[str, str]]:
        """Role and name of everything that the browser tells a screen reader, in reading order."""
        session = self.page.context.new_cdp_session(self.page)
        nodes = {node["nodeId"]: node for node in session.send("Accessibility.getFullAXTree")["nodes"]}
        below = {child for node in nodes.values() for child in node.get("childIds", ())}
        stack, order = [key for key in nodes if key not in below], []
        while stack:
            node = nodes[stack.pop()]
            if not node["ignored"]:
                order.append((node["role"]["value"], node.get("name", {}).get("value", "")))
            stack += [key for key in reversed(node.get("childIds", [])) if key in nodes]
        return order

    def tab_stops(self) -> list[dict[str, Any]]:
        """Press Tab through the page: tag, text, target, outline of every stop, in order."""
        self.page.evaluate(
            """() => {
              window.stops = [];
              document.addEventListener('focusin', ({target}) => {
                if (window.stops.some(stop => stop.target === target)) return;  // round the page, from the top again
                const style = getComputedStyle(target);
                window.stops.push({
                  target, tag: target.tagName, text: target.textContent, href: target.getAttribute('href'),
                  outline: style.outlineStyle === 'none' ? 0 : parseFloat(style.outlineWidth)});
              });
            }"""
        )
        most = self.page.locator("a, summary, button, input, select, [tabindex]").count() + 1
        for _ in range(most):
            self.page.keyboard.press("Tab")
        return self.page.evaluate("window.stops.map(({target, ...stop}) => stop)")


@contextmanager
def visit(
    browser: Any, path: Path, *, width: int = 1280, scheme: str = "light", height: int = 900, site: Path | None = None
) -> Iterator[Visit]:
    """Open a local file. Requests for others, but those of its site, are noted and refused."""
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
    context.set_default_timeout(20_000)
    page = context.new_page()
    seen = Visit(page)
    address, below = path.resolve().as_uri(), None if site is None else f"{site.resolve().as_uri()}/"

    def gate(route: Any) -> None:
        own = route.request.url == address or (below is not None and route.request.url.startswith(below))
        if not own:
            seen.trouble.append(f"request: {route.request.url}")
        (route.continue_ if own else route.abort)()

    context.route("**/*", gate)
    page.on("console", lambda message: seen.trouble.append(f"console: {message.text}"))
    page.on("pageerror", lambda error: seen.trouble.append(f"error: {error}"))
    page.on("dialog", lambda dialog: (seen.trouble.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    page.on("popup", lambda popup: seen.trouble.append(f"popup: {popup.url}"))
    try:
        page.goto(address)
        yield seen
    finally:
        context.close()


def executed(page: Any) -> bool:
    """Tell whether a hostile name ran as a script (they all set the same variable)."""
    return bool(json.loads(page.evaluate("JSON.stringify(window.executed !== undefined)")))


@contextmanager
def chromium() -> Iterator[Any]:
    """Start Debian's Chromium; Playwright never downloads one. Without it the test is skipped."""
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("chromium not found: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--disable-gpu", "--disable-quic"])
        yield browser
        browser.close()
