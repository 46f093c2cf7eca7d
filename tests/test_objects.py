"""The object protocol."""

from datetime import date, datetime, timezone
from decimal import Decimal
from functools import partial
from uuid import UUID

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


class Model(dict):
    def __init__(self):
        super().__init__(a=1)

    def __str__(self):
        return "a model"


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
        ((Model(), None), (["Model"], '{"a": 1}')),
        ((Model(), "x"), (["a model"], "x")),
        ((UUID(int=7), "x"), ([str(UUID(int=7))], "x")),
        (("a", lambda: Book()), (["a"], '{"id": 1}')),
        (("a", partial(dict, b=2)), (["a"], '{"b": 2}')),
        (("text", None), (["text"], "")),
        ((["a", Book()], "x"), (["a", "/books/1"], "x")),
        (("a", Book()), (["a"], '{"id": 1}')),
    ],
)
def test_publications_of_objects(arguments, publication, app):
    with app.app_context():
        assert as_publication(*arguments) == publication


@pytest.mark.parametrize(
    "arguments",
    [
        ({"a": 1},),
        ({"a": 1}, "x"),
        (7, "x"),
        (7,),
        (None,),
        (None, "x"),
        (True, "x"),
        (Decimal("9.99"), "price"),
        (date(2024, 2, 29), "x"),
        (datetime(2024, 2, 29, tzinfo=timezone.utc),),
        (["a", 7], "x"),
        ([{"a": 1}],),
        (object(), "x"),
        (print, "x"),
    ],
)
def test_a_value_in_place_of_the_topic_is_refused_with_the_right_order(arguments, mercure):
    kind = type(arguments[0][-1] if isinstance(arguments[0], list) else arguments[0]).__name__
    with pytest.raises(TypeError, match=rf"^publish\(topic, data\): '{kind}' is no topic.*: publish\(\"greeting\", "):
        mercure.publish(*arguments, type="greeting")
    with pytest.raises(TypeError, match=r"^update 1: publish\(topic, data\): "):
        mercure.publish_many(["a", arguments])


def test_data_without_a_form_in_json_is_an_error_that_names_the_topic(mercure):
    for arguments in (("/x", object()), (["/x", "/y"], lambda: [object()])):
        with pytest.raises(
            TypeError, match=r"^the data of the update on topic '/x': Object of type object is not JSON"
        ):
            mercure.publish(*arguments)


def test_an_error_of_the_function_that_makes_the_data_stays(mercure):
    def fails():
        raise TypeError("its own")

    with pytest.raises(TypeError, match=r"^its own$"):
        mercure.publish("/x", fails)
