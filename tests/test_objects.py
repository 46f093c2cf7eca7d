"""The object protocol."""

import pytest

from flask_mercure_sse import as_topic
from flask_mercure_sse.topics import as_publication


class Book:
    id = 1

    @property
    def __mercure_sse_topic__(self):
        return f"/books/{self.id}"

    def __mercure_sse_data__(self):
        return {"id": self.id}


class ByMethod:
    def __mercure_sse_topic__(self):
        return "/by/method"


class Pair:
    def __mercure_sse__(self):
        return "/pair", {"x": 1}


def test_topics_of_objects():
    assert as_topic(Book()) == "/books/1"
    assert as_topic(ByMethod()) == "/by/method"
    assert as_topic(7) == "7"


@pytest.mark.parametrize(
    ("arguments", "publication"),
    [
        ((Book(), None), (["/books/1"], '{"id": 1}')),
        ((Book(), "given"), (["/books/1"], "given")),
        ((Pair(), None), (["/pair"], '{"x": 1}')),
        (({"a": 1}, None), (["dict"], '{"a": 1}')),
        (("text", None), (["text"], "")),
        ((["a", Book()], "x"), (["a", "/books/1"], "x")),
        (("a", Book()), (["a"], '{"id": 1}')),
    ],
)
def test_publications_of_objects(arguments, publication, app):
    with app.app_context():
        assert as_publication(*arguments) == publication
