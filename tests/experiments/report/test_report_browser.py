"""The page in headless Chromium: nothing is cut off or lies on something else, and what the script does."""

import re

import chromium
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_up_runs import change_config, policy_run, regret_run

from duelenv.experiments.report.page import write_report

pytestmark = [
    pytest.mark.browser,
    pytest.mark.exhaustive,
    pytest.mark.skipif(
        chromium.found() is None, reason=f"none of {', '.join(chromium.NAMES)} is found: apt-get install chromium"
    ),
]

NASTY = "<script>document.title = 'taken'</script> " + "unbreakable" * 30 + " \u202e turned"
WORLDS = {"x": {"feedback": "bernoulli"}, "y": {"feedback": "argmax"}}
AGENTS = {"random": 1.0, "an_agent_whose_name_is_longer_than_others": 0.9} | {f"agent_{n}": 0.5 for n in range(12)}


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with chromium.Browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """A run of a policy, with texts, and one of many agents in two worlds."""
    root = tmp_path_factory.mktemp("runs")
    policy = change_config(policy_run(root / "policy", text=NASTY), description="Who is best? " * 20)
    rows = pq.read_table(policy / "labels.parquet").to_pylist()
    odds = [{**row, "win": 0.25 if row["row"] else 0.75, "tie": 0.0} for row in rows]
    pq.write_table(pa.Table.from_pylist(odds), policy / "labels.parquet")
    regret = regret_run(root / "regret", AGENTS, variants=WORLDS, baseline="random-x", seeds=3)
    return {run.name: write_report(run).as_uri() for run in (policy, regret)}


@pytest.mark.parametrize("name", ["policy", "regret"])
@pytest.mark.parametrize("width", [360, 800, 1280])
def test_nothing_is_cut_off_and_nothing_lies_on_something_else(browser, pages, name, width):
    for dark in (False, True):
        browser.look(width, 900, dark)
        browser.open(pages[name])
        browser.run(OPEN)
        assert browser.run(cut(width)) == []
        assert browser.run("document.documentElement.scrollWidth") <= width
        assert browser.run(OVERLAPPING) == []
        assert browser.run(chromium.FAINT) == []
    shown = browser.run("[...document.images].map(one => one.currentSrc.length > 0 && one.naturalWidth > 0)")
    assert shown and all(shown)


@pytest.mark.parametrize("name", ["policy", "regret"])
def test_paper_has_room_for_all(browser, pages, name):
    browser.look(718, 1000)  # A4 less Chromium's margins
    browser("Emulation.setEmulatedMedia", media="print")
    browser.open(pages[name])
    browser.run(OPEN)
    assert browser.run("document.documentElement.scrollWidth") <= 718
    assert browser.run(cut(718)) == []
    assert browser.run(OVERLAPPING) == []
    assert browser.run("getComputedStyle(document.querySelector('thead')).display") == "table-header-group"
    browser("Emulation.setEmulatedMedia", media="")


def test_heads_stay_in_sight_and_sort(browser, pages):
    browser.look(1280, 500)
    browser.open(pages["regret"])
    table = "document.querySelectorAll('#results details table')[0]"
    middle = f"scrollTo(0, {table}.rows[8].getBoundingClientRect().top + scrollY)"
    assert browser.run(f"{middle}; {table}.tHead.rows[0].cells[0].getBoundingClientRect().top") == 0
    names = f"[...{table}.tBodies[0].rows].map(row => row.cells[0].textContent.trim())"
    values = f"[...{table}.tBodies[0].rows].map(row => Number(row.cells[1].dataset.value))"
    press = f"{table}.tHead.rows[0].cells[%d].querySelector('button').click()"
    browser.run(press % 0)
    assert browser.run(names) == sorted(browser.run(names), key=natural)
    browser.run(press % 1)
    assert browser.run(values) == sorted(browser.run(values))
    browser.run(press % 1)
    assert browser.run(values) == sorted(browser.run(values), reverse=True)
    assert browser.run(f"{table}.tHead.rows[0].cells[1].getAttribute('aria-sort')") == "descending"


def test_duels_are_filtered_by_text_agent_round_winner_and_odds(browser, pages):
    browser.look(1280)
    browser.open(pages["policy"])
    matching = "Number(document.querySelector('output').textContent.match(/of ([\\d,]+) that/)[1].replace(',', ''))"
    total = browser.run(matching)
    assert total == 3 * 4 * 10 * 2
    assert browser.run("document.querySelectorAll('.duels li:not([hidden])').length") == 20

    def put(name, value):
        field = f"document.querySelector('form').elements['{name}']"
        browser.run(f"{field}.value = '{value}'; {field}.dispatchEvent(new Event('input', {{bubbles: true}}))")
        return browser.run(matching)

    assert put("text", "UNBREAKABLE") == total / 2
    assert put("agent", "1") == total / 6
    assert put("from", "3") == total / 6 * 0.8
    assert put("won", "tie") == 0  # those with the long text were won by the first
    assert put("won", "first") == total / 6 * 0.8
    assert put("high", "0.5") == 0
    browser.run("document.querySelector('[type=reset]').click()")
    browser.until(f"{matching} === {total}")
    assert put("low", "0.5") == total / 2
    assert put("low", "") == total
    assert put("won", "odd") == 0
    browser.run("document.querySelector('[type=reset]').click()")
    browser.until(f"{matching} === {total}")
    browser.run("document.querySelector('.more').click()")
    assert browser.run("document.querySelectorAll('.duels li:not([hidden])').length") == 40


def test_nothing_of_a_text_is_done_and_nothing_is_asked_of_the_network(browser, pages):
    browser.events.clear()
    browser.look(1280)
    browser.open(pages["policy"])
    assert browser.run("document.title") == "made-up · duelenv"
    assert browser.complaints() == []
    assert {address.partition(":")[0] for address in browser.requested()} <= {"file", "data"}
    browser.run("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"document.title = `taken`\">')")
    browser.until("document.querySelector('img[src=x]').complete")
    assert browser.run("document.title") != "taken"
    assert browser.complaints()


def test_without_scripts_all_of_it_is_there(browser, pages):
    browser.look(1280)
    browser("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser("Page.navigate", url=pages["policy"])
        browser.until("document.readyState === 'complete' && document.title.startsWith('made-up')")
        assert browser.run("document.querySelectorAll('.duels li:not([hidden])').length") == 240
        assert browser.run("getComputedStyle(document.querySelector('form')).display") == "none"
        assert browser.run("document.querySelectorAll('th button').length") == 0
    finally:
        browser("Emulation.setScriptExecutionDisabled", value=False)


def cut(width):
    """What sticks out of a page of some width, and boxes whose content does not fit into them."""
    return CUT.replace("WIDTH", str(width))


def natural(name):
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


#: Everything is to be looked at.
OPEN = "for (const one of document.querySelectorAll('details')) one.open = true"

CUT = """[...document.querySelectorAll('body *')].filter((one) => {
  const box = one.getBoundingClientRect();
  if (!box.width || !box.height || one.closest('select')) return false;
  const out = box.left < -0.5 || box.right > WIDTH + 0.5;
  const full = ['TD', 'TH', 'DD', 'DT', 'P', 'LI', 'PRE', 'SUMMARY', 'FIGURE'].includes(one.tagName)
    && one.scrollWidth > one.clientWidth + 1;
  return out || full;
}).map((one) => one.outerHTML.slice(0, 120))"""

#: Pairs of boxes that ought to be apart: children of one parent with texts or pictures, and words of one cell.
OVERLAPPING = """[...document.querySelectorAll('body *')].flatMap((parent) => {
  if (parent.closest('picture, select')) return [];
  const boxes = [...parent.children].filter((one) => getComputedStyle(one).position !== 'absolute')
    .flatMap((one) => [...one.getClientRects()].map((box) => ({one, box})))
    .filter(({box}) => box.width > 0 && box.height > 0);
  return boxes.flatMap((a, place) => boxes.slice(place + 1, place + 40).filter((b) => a.one !== b.one
    && Math.min(a.box.right, b.box.right) - Math.max(a.box.left, b.box.left) > 1
    && Math.min(a.box.bottom, b.box.bottom) - Math.max(a.box.top, b.box.top) > 2
  ).map((b) => `${a.one.outerHTML.slice(0, 60)} on ${b.one.outerHTML.slice(0, 60)}`));
})"""
