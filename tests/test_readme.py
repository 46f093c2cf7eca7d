"""The code in README.md runs as it stands."""

import re
from pathlib import Path

import pytest

README = Path(__file__).parent.parent / "README.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", README.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


@pytest.fixture
def readme(monkeypatch):
    """The names that the first block makes."""
    monkeypatch.setenv("FLASK_DEBUG", "0")
    names = {"__name__": "readme"}
    exec(BLOCKS[0], names)
    names["app"].config["SECRET_KEY"] = "k" * 32
    return names


def test_the_blocks_run_in_their_order(readme, serve, open_stream, subscribe_url, token):
    topics = ("topic", "/users/7")
    jwt = token.sign({"mercure": {"subscribe": ["*"]}}, "k" * 32)
    for block in BLOCKS[1:3]:
        exec(block, readme)
    stream = open_stream(subscribe_url(serve(readme["app"]) + "/.well-known/mercure", *topics, authorization=jwt))
    client = readme["app"].test_client()
    assert client.get("/inbox").status_code == 403
    assert client.post("/messages").status_code == 204
    assert stream.event()["data"] == "message"
    assert client.post("/greet/7").status_code == 204
    assert stream.event()["data"] == '{"text": "for you"}'


def test_every_setting_is_in_the_table():
    from flask_mercure_sse.settings import NAMES, config_key

    text = (README.parent / "docs/reference/settings.md").read_text(encoding="utf-8")
    assert [name for name in NAMES if f"| `{config_key(name)}` |" not in text] == []


def test_each_project_of_the_comparison_has_its_sources():
    """A reader can check each statement about others."""
    text = README.read_text(encoding="utf-8")
    (heading,) = re.findall(r"^\| \| Flask-Mercure-SSE \| (.*) \|$", text, re.MULTILINE)
    sources = (README.parent / "docs/comparison.md").read_text(encoding="utf-8")
    projects = [re.sub(r" \d.*", "", name) for name in heading.split(" | ")]
    assert len(projects) == 4
    for name in projects:
        assert f"\n## {name}\n" in sources
        licence = text.partition("| Licence |")[2].partition("\n")[0].split(" | ")[1:][projects.index(name)]
        section = sources.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
        assert f"| {licence.strip(' |')} | `LICENSE`" in section
