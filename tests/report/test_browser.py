"""The page in Chromium: what it shows, what its controls do, and that nothing leaves it."""

from __future__ import annotations

import csv
import json
import math
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.report import support
from tests.support.assertions import assert_equal, assert_within

CHROMIUM, DRIVER = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")

pytestmark = pytest.mark.long

# before the page's own script: what its policy refuses is noted
LISTEN = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) => window.violations.push(event.violatedDirective));
"""
WAIT = 10.0  # seconds, for what the browser does in its own time


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    webdriver = pytest.importorskip("selenium.webdriver")
    if not (CHROMIUM.exists() and DRIVER.exists()):
        pytest.skip(f"no browser: {CHROMIUM} and {DRIVER} are of Debian's packages chromium and chromium-driver")
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for argument in (
        "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run",
        f"--user-data-dir={tmp_path_factory.mktemp('profile')}", "--window-size=1200,900",
    ):  # fmt: skip
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    found = webdriver.Chrome(options=options, service=Service(str(DRIVER)))
    found.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": LISTEN})
    yield found
    found.quit()


@pytest.fixture
def shown(browser: Any, page: Path) -> Any:
    """The browser, with the page loaded anew."""
    prefer(browser, "light")
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    browser.get(page.as_uri())
    return browser


@pytest.fixture
def downloads(browser: Any, tmp_path: Path) -> Path:
    browser.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})
    return tmp_path


def prefer(browser: Any, scheme: str) -> None:
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def all_of(browser: Any, selector: str) -> list[Any]:
    found: list[Any] = browser.find_elements("css selector", selector)
    return found


def one(browser: Any, selector: str) -> Any:
    (found,) = all_of(browser, selector)
    return found


def figure(browser: Any, title: str, start: str = "") -> Any:
    """The figure whose title begins so."""
    (found,) = [own for own in all_of(browser, f"{start} figure") if own.text.split("\n")[-1:] and titled(own, title)]
    return found


def titled(element: Any, title: str) -> bool:
    told: str = element.find_element("css selector", "h3").get_property("textContent")
    return told.startswith(title)


def table(element: Any) -> list[list[str]]:
    """The cells of a figure's table, which is opened, with its head."""
    summary = element.find_element("css selector", "summary")
    details = element.find_element("css selector", "details")
    if details.get_attribute("open") is None:
        summary.click()
    rows = wait(lambda: details.find_elements("css selector", "tr"))
    return [[cell.get_property("textContent") for cell in row.find_elements("css selector", "th, td")] for row in rows]


def wait(condition: Any) -> Any:
    """The value of the condition, when that is true."""
    end = time.monotonic() + WAIT
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError("what the browser was to do did not happen")


def assert_shown(name: str, words: list[str], exact: Any) -> None:
    """Each number is shown with four digits, or as a dash. Those of people were float32."""
    assert len(words) == len(exact), name
    for word, number in zip(words, np.asarray(exact, float).tolist(), strict=True):
        if math.isnan(number):
            assert word == "\N{EN DASH}", name
            continue
        last = 10.0 ** (math.floor(math.log10(abs(number))) - 3) if number else 0.0
        assert abs(float(word) - number) <= 0.5 * last * (1 + 1e-3) + 2e-6, f"{name}: {word} is shown for {number}"


def choose(browser: Any, selector: str, position: int) -> None:
    from selenium.webdriver.support.select import Select

    Select(one(browser, selector)).select_by_index(position)


# what is shown


def test_scores_and_the_overview_are_those_of_the_explanation(shown: Any, page: Path, explanation: Any) -> None:
    data = support.data_of(page.read_text("utf-8"))
    scores = {own.get_attribute("data-score"): own.text.split("\n")[1] for own in all_of(shown, "[data-score]")}
    for score in data["overview"]["scores"]:
        assert_shown(score["name"], [scores[score["name"]]], [score["value"]])
    head, *rows = table(figure(shown, "Importance"))
    frame = explanation.importance().frame()
    assert head == ["term", "importance", "low", "high", "share"] and [row[0] for row in rows] == list(frame["term"])
    for n, name in enumerate(head[1:], 1):
        assert_shown(name, [row[n] for row in rows], frame[name])
    head, *rows = table(figure(shown, "Calibration"))
    assert_shown("observed", [row[1] for row in rows], explanation.calibration().bin_observed)
    memory, (head, *rows) = explanation.memory(), table(figure(shown, "Memory"))
    assert_shown("gain", [row[5] for row in rows], [memory.gain[memory.term.index(row[0])] for row in rows])
    missing, (head, *rows) = explanation.missingness(), table(figure(shown, "Missing values"))
    assert_shown("effect", [row[1] for row in rows], [missing.effect[missing.term.index(row[0])] for row in rows])
    stable, (head, *rows) = explanation.stability(), table(figure(shown, "Trust"))
    assert_shown("agreement", [row[4] for row in rows], [stable.agreement[stable.term.index(row[0])] for row in rows])


def test_panels_of_terms_are_those_of_the_explanation(shown: Any, explanation: Any) -> None:
    one(shown, "#open-all").click()
    panels = {own.get_attribute("data-term"): own for own in all_of(shown, "details.panel")}
    assert list(panels) == list(explanation.importance().frame()["term"])
    for name, panel in panels.items():
        figures = wait(lambda panel=panel: panel.find_elements("css selector", "figure"))
        rows = table(figures[0])[1:]
        shape = explanation.shape(name)
        if hasattr(shape, "interaction"):
            assert_shown(name, [row[2] for row in rows], shape.interaction.T.ravel())
            continue
        rows = [row for row in rows if row[0] != "missing"]
        assert_shown(name, [row[1] for row in rows], shape.contribution)
        assert_shown(name, [row[4] for row in rows], shape.n)
        if shape.level:
            assert [row[0] for row in rows] == list(shape.level)
    lag = table(panels["bili"].find_elements("css selector", "figure")[1])[1:]
    answer = explanation.lag_response("bili", lags=len(lag) - 1, values=[])
    assert_shown("change", [row[2] for row in lag], answer.change)


@pytest.mark.parametrize("position", [0, 4])
def test_a_person_is_that_of_the_explanation(position: int, shown: Any, explanation: Any) -> None:
    choose(shown, "#person", position)
    person = explanation.person(explanation.panel.ids[position])
    head, *rows = table(one(shown, "#timeline figure"))
    assert head == ["date", "total", "prediction", *person.term]
    assert [row[0] for row in rows] == [str(stamp).removesuffix(" 00:00:00") for stamp in person.stamp]
    assert_shown("total", [row[1] for row in rows], person.total)
    assert_shown("prediction", [row[2] for row in rows], person.predicted)
    for n, name in enumerate(person.term):
        assert_shown(name, [row[3 + n] for row in rows], person.contribution[:, n])
    rows = table(all_of(shown, "#visit-figures figure")[0])[1:]
    order = [person.term.index(row[0]) for row in rows]
    assert_shown("contribution", [row[2] for row in rows], person.contribution[-1][order])
    assert_shown("change", [row[5] for row in rows], person.change[order])
    for row, term in zip(rows, order, strict=True):
        value = person.value[-1, term]
        assert row[1] == value or "missing" in row[1] or person.term[term] == "bili & stage"
    words = one(shown, "#changed").text
    way = "rose by" if person.total[-1] > person.total[-2] else "fell by"
    assert f"log-odds of dead & gone {way}" in words


def test_names_are_text(shown: Any) -> None:
    one(shown, "#open-all").click()
    for position in range(len(all_of(shown, "#person option"))):
        choose(shown, "#person", position)
    assert shown.title == support.SCRIPT and one(shown, "h1").text == support.SCRIPT
    assert support.SCRIPT in one(shown, "#panels").text and support.BREAK[:15] in one(shown, "#panels").text
    assert support.BREAK in [own.get_property("textContent") for own in all_of(shown, "#person option")]
    assert len(all_of(shown, "script")) == 2 and all_of(shown, "img") == []
    assert shown.execute_script("return window.attacked") is None


# nothing leaves


def requests(browser: Any) -> list[str]:
    """The addresses that were asked for since the last call, but for those that the policy refused."""
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    failed = [own["params"] for own in events if own["method"] == "Network.loadingFailed"]
    refused = {own["requestId"] for own in failed if own.get("blockedReason") == "csp"}
    sent = [own["params"] for own in events if own["method"] == "Network.requestWillBeSent"]
    return [own["request"]["url"] for own in sent if own["requestId"] not in refused]


def test_no_request_leaves_and_nothing_is_refused_while_everything_is_used(
    shown: Any, page: Path, downloads: Path
) -> None:
    for name in ("theme", "close-all", "open-all", "after", "after", "before"):
        one(shown, f"#{name}").click()
    for own in all_of(shown, "figure summary, figure button"):
        own.click()
    wait(lambda: len([own for own in downloads.iterdir() if own.suffix in (".csv", ".svg")]) > 10)
    # blob: is a download, data: an address that is its own content, chrome: the browser's own pages
    asked = [url for url in requests(shown) if not url.startswith(("blob:", "data:", "chrome"))]
    assert set(asked) == {page.as_uri()}
    assert shown.execute_script("return window.violations") == []
    assert [entry["message"] for entry in shown.get_log("browser")] == []


def test_the_policy_refuses_what_an_attack_would_do(shown: Any) -> None:
    """So the test before sees nothing because there is nothing."""
    shown.execute_script("""
        const script = document.createElement("script");
        script.textContent = "window.attacked = true";
        const image = document.createElement("img");
        image.src = "http://192.0.2.1/pixel";
        document.body.append(script, image);
        fetch("http://192.0.2.1/").catch(() => {});
    """)
    wait(lambda: len(shown.execute_script("return window.violations")) >= 3)
    assert set(shown.execute_script("return window.violations")) == {"script-src-elem", "img-src", "connect-src"}
    assert shown.execute_script("return window.attacked") is None
    assert [url for url in requests(shown) if url.startswith("http")] == []
    shown.get_log("browser")  # which has the refusals


# controls


def test_downloads_have_all_digits_and_no_formula(shown: Any, explanation: Any, downloads: Path) -> None:
    figure(shown, "Importance").find_element("xpath", ".//button[text()='CSV']").click()
    path = downloads / "Importance.csv"
    wait(path.exists)
    head, *rows = csv.reader(path.read_text("utf-8").splitlines())
    frame = explanation.importance().frame()
    assert head == list(frame)
    for n, name in enumerate(head[1:], 1):
        assert_equal(name, np.array([float(row[n]) for row in rows]), frame[name].to_numpy())
    at = list(explanation.panel.ids).index("=1+1")
    choose(shown, "#person", at)
    one(shown, "#timeline figure").find_element("xpath", ".//button[text()='CSV']").click()
    (path,) = wait(lambda: list(downloads.glob("id-*.csv")))
    head, *rows = csv.reader(path.read_text("utf-8").splitlines())
    person = explanation.person("=1+1")
    assert_within("total", np.array([float(row[1]) for row in rows]), person.total, 1e-5)
    assert [cell for row in (head, *rows) for cell in row if cell.startswith(("=", "+", "@"))] == []


def test_a_picture_stands_alone(shown: Any, downloads: Path) -> None:
    one(shown, "#timeline figure").find_element("xpath", ".//button[text()='SVG']").click()
    (path,) = wait(lambda: list(downloads.glob("*.svg")))
    root = ElementTree.fromstring(path.read_text("utf-8"))
    name = "{http://www.w3.org/2000/svg}"
    assert root.tag == f"{name}svg" and root.find(f"{name}title") is not None
    lines = root.findall(f"{name}polyline")
    assert len(lines) == 4  # the total and three terms
    strokes = {own.get("stroke") for own in lines}
    assert len(strokes) == 4 and None not in strokes
    assert [own.tag for own in root.iter() if own.get("class") is not None] == []


def test_the_mouse_moves_through_people_visits_and_terms(shown: Any, explanation: Any) -> None:
    ids = list(explanation.panel.ids)

    def person() -> str:
        told: str = one(shown, "#timeline h3").get_property("textContent")
        return told.removeprefix("id ")

    assert person() == ids[0]
    one(shown, "#after").click()
    one(shown, "#after").click()
    assert person() == ids[2]
    one(shown, "#before").click()
    assert person() == ids[1]
    find = one(shown, "#find")
    find.send_keys(ids[5].lower())
    assert person() == ids[5] and one(shown, "#found").text == f"1 of {len(ids)}"
    find.clear()
    find.send_keys("nobody is called so")
    assert one(shown, "#found").text == f"0 of {len(ids)}" and all_of(shown, "#person option") == []
    one(shown, "#after").click()  # does nothing
    find.clear()
    find.send_keys(" ")
    assert one(shown, "#found").text == f"{len(ids)} of {len(ids)}"
    first = all_of(shown, "#visit option")[0].text
    choose(shown, "#visit", 0)
    assert one(shown, "#changed").text.startswith(f"First visit, {first}:")
    assert len(all_of(shown, "#visit-figures figure")) == 1
    drawn = len(all_of(shown, "#timeline polyline"))
    box = next(own for own in all_of(shown, "[data-shown]") if not own.is_selected())
    box.click()
    wait(lambda: len(all_of(shown, "#timeline polyline")) == drawn + 1)
    one(shown, "#close-all").click()
    assert [own for own in all_of(shown, "details.panel") if own.get_attribute("open")] == []
    all_of(shown, "details.panel > summary")[1].click()
    assert len([own for own in all_of(shown, "details.panel") if own.get_attribute("open")]) == 1


def test_the_mouse_reads_a_point(shown: Any, explanation: Any) -> None:
    from selenium.webdriver import ActionChains

    plot = figure(shown, "Importance").find_element("css selector", ".plot")
    ActionChains(shown).move_to_element_with_offset(plot, 0, -plot.size["height"] // 2 + 10).perform()
    first = explanation.importance().frame().iloc[0]
    readout = figure(shown, "Importance").find_element("css selector", ".readout").text
    assert readout.startswith(f"{first['term']}: ")
    assert_shown("importance", [readout.split(": ")[1].split(" (")[0]], [first["importance"]])


def test_the_keyboard_reaches_and_works_every_control(shown: Any, explanation: Any) -> None:
    from selenium.webdriver import ActionChains, Keys

    def press(*keys: str) -> None:
        for key in keys:
            ActionChains(shown).send_keys(key).perform()

    def focused() -> Any:
        return shown.switch_to.active_element

    wanted = shown.execute_script("""
        const kinds = "a[href], button, select, input, summary, [tabindex='0']";
        return [...document.querySelectorAll(kinds)].filter((own) => own.checkVisibility()).length;
    """)
    reached = []
    press(Keys.TAB)
    assert focused().text == "Skip to the content"
    for _ in range(wanted + 5):
        if focused().tag_name == "body":
            break
        reached.append(focused().id)
        press(Keys.TAB)
    assert len(set(reached)) == wanted

    def onto(element: Any) -> None:
        shown.execute_script("arguments[0].focus()", element)

    onto(one(shown, "#theme"))
    press(Keys.SPACE)
    assert one(shown, "#theme").get_attribute("aria-pressed") == "true"
    onto(all_of(shown, "details.panel > summary")[1])
    press(Keys.ENTER)
    assert all_of(shown, "details.panel")[1].get_attribute("open")
    person = one(shown, "#person")
    onto(person)
    press(Keys.ARROW_DOWN)
    assert one(shown, "#timeline h3").get_property("textContent") == f"id {explanation.panel.ids[1]}"
    onto(one(shown, "#after"))
    press(Keys.ENTER)
    id = explanation.panel.ids[2]
    assert one(shown, "#timeline h3").get_property("textContent") == f"id {id}"
    plot, total = one(shown, "#timeline .plot"), explanation.person(id).total
    onto(plot)
    press(Keys.HOME, Keys.ARROW_RIGHT)
    assert plot.get_attribute("aria-valuenow") == "1"
    told = plot.get_attribute("aria-valuetext")
    assert one(shown, "#timeline .readout").text == told
    assert_shown("total", [told.split("total ")[1].split(" (")[0]], [total[1]])
    press(Keys.END)
    assert plot.get_attribute("aria-valuenow") == plot.get_attribute("aria-valuemax") == str(len(total) - 1)
    press(Keys.ARROW_RIGHT)
    assert plot.get_attribute("aria-valuenow") == str(len(total) - 1)
    box = all_of(shown, "[data-shown]")[1]
    onto(box)
    name, before = box.get_attribute("data-shown"), box.is_selected()
    press(Keys.SPACE)
    assert focused().get_attribute("data-shown") == name and focused().is_selected() != before


def test_a_screen_reader_finds_a_name_for_every_control(shown: Any) -> None:
    one(shown, "#open-all").click()
    for own in all_of(shown, "figure summary"):
        own.click()
    nodes = shown.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    kinds = {"button", "slider", "combobox", "searchbox", "checkbox", "link", "table", "region", "DisclosureTriangle"}
    found: dict[str, list[str]] = {}
    for own in nodes:
        role = own.get("role", {}).get("value")
        if role in kinds and not own.get("ignored"):
            found.setdefault(role, []).append(own.get("name", {}).get("value", ""))
    assert {"button", "slider", "combobox", "searchbox", "checkbox", "link", "table", "region"} <= set(found)
    assert {role: names for role, names in found.items() if "" in names} == {}
    headings = [own.tag_name for own in all_of(shown, "h1, h2, h3")]
    assert headings[0] == "h1" and headings.count("h1") == 1 and headings[1] == "h2"
    assert one(shown, "html").get_attribute("lang") == "en" and len(all_of(shown, "main, header, footer, nav")) == 4


# looks


def contrast(browser: Any, front: str, back: str) -> float:
    """The ratio of WCAG 2.1 of two variables of the page's style."""

    def luminance(name: str) -> float:
        probe = (
            "const e = document.createElement('p'); document.body.append(e); e.style.color = `var(${arguments[0]})`;"
        )
        told = browser.execute_script(f"{probe} const c = getComputedStyle(e).color; e.remove(); return c;", name)
        parts = [int(part) / 255 for part in told[told.index("(") + 1 : -1].split(",")[:3]]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return float(np.dot([0.2126, 0.7152, 0.0722], linear))

    high, low = sorted((luminance(front), luminance(back)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_both_schemes_are_as_preferred_and_can_be_read(scheme: str, shown: Any) -> None:
    prefer(shown, scheme)
    button = one(shown, "#theme")
    assert wait(lambda: button.get_attribute("aria-pressed") == str(scheme == "dark").lower())
    for turn in range(3):  # of the button: the other one, and back
        dark = (scheme == "dark") != (turn % 2 == 1)
        paper = shown.execute_script("return getComputedStyle(document.body).backgroundColor")
        assert paper == ("rgb(20, 23, 26)" if dark else "rgb(255, 255, 255)")
        for back in ("--paper", "--panel"):
            for front in ("--ink", "--soft", "--focus"):
                assert contrast(shown, front, back) >= 4.5, f"{front} on {back}, dark: {dark}"
            for front in ("--plus", "--minus", *(f"--{n}" for n in range(6))):
                assert contrast(shown, front, back) >= 3, f"{front} on {back}, dark: {dark}"
        button.click()


def test_a_narrow_screen_needs_no_sideways_scrolling(shown: Any) -> None:
    size = {"width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": False}
    shown.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    one(shown, "#open-all").click()
    widest = "return document.documentElement.scrollWidth"
    assert wait(lambda: shown.execute_script(widest) <= 360)
