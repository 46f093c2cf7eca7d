"""Changes of models that are published with their commit."""

import asyncio
import gc
import logging
import re
import sys
import weakref
from contextlib import nullcontext

import pytest
from flask import Flask, current_app, g, has_app_context, request
from flask_sqlalchemy import SQLAlchemy
from jinja2 import DictLoader
from sqlalchemy import ForeignKey, create_engine, delete, event, func, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship, scoped_session, sessionmaker
from sqlalchemy.orm.exc import ObjectDeletedError
from sqlalchemy.pool import StaticPool

from flask_mercure_sse import InvalidUpdateError, MercureSSE, transactions, turbo


@pytest.fixture
def app():
    return Flask("models")


@pytest.fixture
def mercure(app):
    return MercureSSE(app)


@pytest.fixture
def updates(mercure, stack):
    return stack.enter_context(mercure.capture())


@pytest.fixture
def base():
    class Base(DeclarativeBase):
        pass

    return Base


@pytest.fixture
def unpublished(base):
    """A model and its relatives, of which nothing is published yet."""

    class Author(base):
        __tablename__ = "authors"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]

    class Book(base):
        __tablename__ = "books"
        id: Mapped[int] = mapped_column(primary_key=True)
        title: Mapped[str]
        password_hash: Mapped[str] = mapped_column(default="secret")
        state: Mapped[str] = mapped_column(server_default="new")
        author_id: Mapped[int | None] = mapped_column(ForeignKey("authors.id"))
        author = relationship(Author, backref="books")

        @property
        def label(self):
            return f"{self.title} ({self.state})"

    Book.Author = Author
    return Book


@pytest.fixture
def session(stack, unpublished, base):
    engine = create_engine("sqlite://")
    stack.callback(engine.dispose)
    base.metadata.create_all(engine)
    return stack.enter_context(Session(engine))


@pytest.fixture
def model(mercure, unpublished):
    return mercure.broadcasts(unpublished, topic="/books/{id}", data=("id", "title"))


@pytest.fixture
def book(session, model):
    """A row that was there before."""
    with session.begin():
        session.execute(text("insert into books (title, password_hash) values ('Walden', 'secret')"))
    return session.get(model, 1)


def seen(updates):
    return [(update.topic, update.type, update.json()) for update in updates]


def test_each_change_is_published_with_its_commit(mercure, session, model, updates):
    book = model(title="Walden")
    session.add(book)
    session.flush()
    assert updates == []
    session.commit()
    book.title = "Cape Cod"
    session.commit()
    session.delete(book)
    session.commit()
    assert seen(updates) == [
        ("/books/1", "insert", {"id": 1, "title": "Walden"}),
        ("/books/1", "update", {"id": 1, "title": "Cape Cod"}),
        ("/books/1", "delete", {"id": 1}),
    ]
    assert not any(update.private for update in updates)
    session.commit()
    assert len(updates) == 3


@pytest.mark.parametrize("flush", [False, True])
def test_several_changes_of_a_row_are_one_update(flush, session, model, updates):
    def change(*objects, **values):
        for each in objects:
            for name, value in values.items():
                setattr(each, name, value)
        if flush:
            session.flush()

    both = [model(title="a"), model(title="b")]
    session.add_all(both)
    change()
    change(*both, title="c")
    change(both[0], title="d")
    session.commit()
    assert seen(updates) == [
        ("/books/1", "insert", {"id": 1, "title": "d"}),
        ("/books/2", "insert", {"id": 2, "title": "c"}),
    ]
    updates.clear()
    change(both[0], title="e")
    session.delete(both[0])
    change(both[1], title="f")
    change(both[1], title="g")
    session.commit()
    assert sorted(seen(updates)) == [("/books/1", "delete", {"id": 1}), ("/books/2", "update", {"id": 2, "title": "g"})]


def test_a_row_that_came_and_went_is_not_published(session, model, updates):
    gone = model(title="gone")
    session.add(gone)
    session.flush()
    session.delete(gone)
    session.flush()
    session.commit()
    assert updates == []


def test_a_row_in_place_of_a_deleted_one_is_an_update(session, model, book, updates):
    session.delete(book)
    session.flush()
    session.add(model(id=1, title="another"))
    session.commit()
    assert seen(updates) == [("/books/1", "update", {"id": 1, "title": "another"})]


def test_what_changes_no_column_is_not_published(session, model, book, updates):
    book.title = "Walden"
    author = model.Author(name="Thoreau")
    session.add(author)
    session.commit()
    # The list is another one, and the column of the book with it: that is a change.
    author.books.append(book)
    session.commit()
    assert [kind for _, kind, _ in seen(updates)] == ["update"]
    session.refresh(author)
    author.books = list(author.books)
    book.title = book.title + ""
    session.commit()
    assert len(updates) == 1


def test_a_rollback_publishes_nothing(session, model, book, updates):
    book.title = "Cape Cod"
    session.flush()
    session.rollback()
    session.delete(book)
    session.flush()
    session.close()
    session.commit()
    assert updates == []


def test_a_commit_that_fails_publishes_nothing(session, model, book, updates):
    session.add(model(title="b"))
    session.flush()
    session.expunge(book)
    session.add(model(id=1, title="the number is taken"))
    with pytest.raises(Exception, match="UNIQUE"):
        session.commit()
    session.rollback()
    session.commit()
    assert updates == []


def test_savepoints_keep_and_drop_their_own(session, model, book, updates):
    book.title = "outer"
    with session.begin_nested() as savepoint:
        book.title = "rolled back"
        dropped = model(title="rolled back")
        session.add(dropped)
        session.flush()
        savepoint.rollback()
    with session.begin_nested():
        session.add(model(title="released"))
    session.commit()
    assert seen(updates) == [
        ("/books/1", "update", {"id": 1, "title": "outer"}),
        ("/books/2", "insert", {"id": 2, "title": "released"}),
    ]


def test_a_delete_that_a_savepoint_takes_back_is_an_update_of_what_was_before(session, model, book, updates):
    book.title = "before"
    with session.begin_nested() as savepoint:
        session.delete(book)
        session.flush()
        savepoint.rollback()
    session.commit()
    assert seen(updates) == [("/books/1", "update", {"id": 1, "title": "before"})]


def test_a_savepoint_that_is_open_at_the_commit_is_published_too(session, model, updates):
    transaction = session.begin()
    session.begin_nested()
    session.add(model(title="Walden"))
    transaction.commit()
    assert not session.in_transaction(), "nothing is loaded again"
    assert seen(updates) == [("/books/1", "insert", {"id": 1, "title": "Walden"})]


def test_changes_of_other_listeners_of_the_commit_are_in_the_update(session, model, book, updates):
    @event.listens_for(session, "before_commit")
    def change(session):
        assert book in session.dirty, "nothing is flushed before other listeners have seen it"
        book.title += "!"

    book.title = "a"
    session.commit()
    assert seen(updates) == [("/books/1", "update", {"id": 1, "title": "a!"})]


@pytest.mark.parametrize("is_savepoint", [False, True])
def test_the_work_grows_with_the_number_of_flushes_and_not_faster(is_savepoint, session, model, updates):
    """Each flush and each savepoint ends a transaction of the session."""

    def lines(flushes):
        count = 0

        def trace(frame, kind, _):
            nonlocal count
            if frame.f_code.co_filename != transactions.__file__:
                return None
            count += kind == "line"
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            for _ in range(flushes):
                with session.begin_nested() if is_savepoint else nullcontext():
                    session.add(model(title="a"))
                    session.flush()
            session.commit()
        finally:
            sys.settrace(before)
        return count

    few, many = lines(50), lines(200)
    assert len(updates) == 250
    # Four times as many flushes: four times the work.
    assert many < 5 * few


def test_the_order_is_that_of_the_changes_and_of_what_is_published_beside_them(mercure, session, model, updates):
    mercure.publish("/first", "", after_commit=session)
    session.add(model(title="a"))
    session.flush()
    mercure.publish("/second", "", after_commit=session)
    session.add(model(title="b"))
    session.commit()
    assert [update.topic for update in updates] == ["/first", "/books/1", "/second", "/books/2"]


def test_only_the_changes_that_are_wanted_are_published(mercure, session, unpublished, updates):
    mercure.broadcasts(unpublished, topic="/new", on="insert", data=("title",))
    mercure.broadcasts(unpublished, topic="/gone/{id}", on=("delete",))
    book = unpublished(title="a")
    session.add(book)
    session.flush()
    book.title = "b"
    session.commit()
    book.title = "c"
    session.commit()
    session.delete(book)
    session.commit()
    brief = unpublished(title="brief")
    session.add(brief)
    session.flush()
    session.delete(brief)
    session.commit()
    assert seen(updates) == [("/new", "insert", {"title": "b"}), ("/gone/1", "delete", {"id": 1})]


class TestArguments:
    def test_a_decorator_returns_the_class(self, mercure, base, updates):
        @mercure.broadcasts(topic="/songs/{id}", data=("id",))
        class Song(base):
            __tablename__ = "songs"
            id: Mapped[int] = mapped_column(primary_key=True)

        assert issubclass(Song, base)

    def test_values_stand_in_topics_as_topic_puts_them(self, mercure, session, unpublished, updates):
        mercure.broadcasts(unpublished, topic=["/books/{title}", "/authors/{author.name}"], data=("label",))
        session.add(unpublished(title="a/b*", author=unpublished.Author(name="{x}")))
        session.commit()
        (update,) = updates
        assert update.topics == ("/books/a%2Fb%2A", "/authors/%7Bx%7D")
        assert update.json() == {"label": "a/b* (new)"}

    def test_everything_may_be_a_function(self, mercure, session, unpublished, updates):
        mercure.broadcasts(
            unpublished,
            topic=lambda book: [mercure.topic("/b/{}", book.id), "/all"],
            data=lambda book: f"title: {book.title}",
            private=lambda book: book.title == "b",
            type="book",
        )
        session.add_all([unpublished(title="a"), unpublished(title="b")])
        session.commit()
        assert [(each.topics, each.data, each.private, each.type) for each in updates] == [
            (("/b/1", "/all"), "title: a", False, "book"),
            (("/b/2", "/all"), "title: b", True, "book"),
        ]

    def test_each_change_may_have_its_own(self, mercure, session, unpublished, updates):
        mercure.broadcasts(
            unpublished,
            topic="/books/{id}",
            data={"insert": ("title",), "update": lambda book: "new", "delete": ("title",)},
            type={"insert": "", "update": True},
            private=True,
        )
        book = unpublished(title="a")
        session.add(book)
        session.commit()
        book.title = "b"
        session.commit()
        session.delete(book)
        session.commit()
        assert [(each.data, each.type, each.private) for each in updates] == [
            ('{"title": "a"}', None, True),
            ("new", "/books/1", True),
            ('{"title": "b"}', "delete", True),
        ]

    def test_an_object_may_bring_topic_and_data(self, mercure, session, unpublished, updates):
        unpublished.__mercure_sse_topic__ = property(lambda book: f"/own/{book.id}")
        unpublished.__mercure_sse_data__ = lambda book: {"own": book.title}
        mercure.broadcasts(unpublished)
        book = unpublished(title="a")
        session.add(book)
        session.commit()
        session.delete(book)
        session.commit()
        assert seen(updates) == [("/own/1", "insert", {"own": "a"}), ("/own/1", "delete", {"id": 1})]

    def test_a_template_has_the_object(self, app, mercure, session, unpublished, updates):
        app.jinja_loader = DictLoader({"book.html": "<b>{{ book.title }}</b> {{ item.state }} {{ change }}"})
        mercure.broadcasts(unpublished, topic="/books/{id}", template="book.html")
        book = unpublished(title="<a>")
        session.add(book)
        session.commit()
        session.delete(book)
        session.commit()
        assert [update.data for update in updates] == ["<b>&lt;a&gt;</b> new insert", '{"id": 1}']

    def test_data_may_be_an_action_of_turbo(self, app, mercure, session, unpublished, updates):
        app.jinja_loader = DictLoader({"book.html": "{{ book.title }}"})
        mercure.broadcasts(
            unpublished,
            topic="/books",
            data={
                "insert": lambda book: turbo.append("books", template="book.html", book=book),
                "delete": lambda book: turbo.remove(f"book_{book.id}"),
            },
            on=("insert", "delete"),
            type="",
        )
        book = unpublished(title="<a>")
        session.add(book)
        session.commit()
        session.delete(book)
        session.commit()
        assert [(update.data, update.type) for update in updates] == [
            ('<turbo-stream action="append" target="books"><template>&lt;a&gt;</template></turbo-stream>', None),
            ('<turbo-stream action="remove" target="book_1"></turbo-stream>', None),
        ]

    def test_a_template_is_rendered_in_the_request_of_its_application(self, app, mercure, base, updates, stack):
        other = Flask("other")
        app.jinja_loader = other.jinja_loader = DictLoader({"line.html": "{{ order_line.id }} {{ url_for('view') }}"})

        class OrderLine(base):
            __tablename__ = "lines"
            id: Mapped[int] = mapped_column(primary_key=True)

        mercure.broadcasts(OrderLine, topic="/lines", template="line.html")
        engine = create_engine("sqlite://")
        stack.callback(engine.dispose)
        base.metadata.create_all(engine)

        @app.route("/view")
        def view():
            g.kept = request.path
            with Session(engine) as session:
                session.add(OrderLine())
                session.commit()
            return g.kept

        assert app.test_client().get("/view").text == "/view"
        app.config["SERVER_NAME"] = "example.com"
        # Another application is the current one, which has no such template.
        with other.app_context(), Session(engine) as session:
            session.add(OrderLine())
            session.commit()
        assert [update.data for update in updates] == ["1 /view", "2 http://example.com/view"]

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({}, "say what an insert publishes"),
            ({"on": ("update",)}, "say what an update publishes"),
            ({"data": {"insert": ("id",)}}, "say what an update publishes"),
            ({"data": ("id",), "topic": None}, "give a topic"),
            ({"data": ("id",), "topic": "/books/{}"}, "names of attributes in braces"),
            ({"data": ("id",), "topic": "/books/{id:d}"}, "without a format"),
            ({"data": ("id",), "topic": "/books/*"}, "no braces and no"),
            ({"data": ("id",), "topic": 7}, "topic: write a text or a function"),
            ({"data": "id"}, "write a tuple of names"),
            ({"data": {"inserted": ("id",)}}, '"insert", "update" and "delete" as keys'),
            ({"data": ("id",), "on": ("change",)}, 'write some of "insert"'),
            ({"data": ("id",), "on": ()}, 'write some of "insert"'),
            ({"data": ("id",), "template": "a.html"}, "and not both"),
            ({"template": ("a.html",)}, "write the name of a template"),
        ],
    )
    def test_what_cannot_be_used_is_refused_at_once(self, arguments, message, mercure, unpublished):
        with pytest.raises(ValueError, match=message):
            mercure.broadcasts(unpublished, **{"topic": "/books/{id}", **arguments})

    @pytest.mark.parametrize("wrong", ["Book", object()])
    def test_something_else_than_a_class_is_refused(self, wrong, mercure):
        with pytest.raises(TypeError, match="model"):
            mercure.broadcasts(wrong, topic="/x", data=("id",))

    def test_without_sqlalchemy_the_error_says_so(self, mercure, monkeypatch):
        monkeypatch.setitem(sys.modules, "sqlalchemy", None)
        with pytest.raises(TypeError, match=r"^broadcasts: give a model of SQLAlchemy, which is not installed$"):
            mercure.broadcasts(type("Book", (), {}), topic="/x", data=("id",))

    def test_no_column_is_published_that_was_not_named(self, session, model, updates):
        session.add(model(title="a"))
        session.commit()
        assert "secret" not in updates[0].data


class TestErrors:
    """A function that fails stops the commit, as with ``after_commit``."""

    @pytest.mark.parametrize("flush", [False, True])
    def test_nothing_is_committed(self, flush, mercure, session, unpublished, updates):
        mercure.broadcasts(unpublished, topic="/books/{id}", data=lambda book: 1 / 0)
        session.add(unpublished(title="a"))
        if flush:
            session.flush()
        with pytest.raises(ZeroDivisionError):
            session.commit()
        session.rollback()
        session.commit()
        assert (session.scalars(select(unpublished)).all(), updates) == ([], [])

    def test_a_delete_fails_at_its_flush(self, mercure, session, unpublished, updates):
        mercure.broadcasts(unpublished, topic=lambda book: 1 / 0, on="delete")
        session.add(unpublished(title="a"))
        session.commit()
        session.delete(session.get(unpublished, 1))
        with pytest.raises(ZeroDivisionError):
            session.flush()
        session.rollback()
        assert len(session.scalars(select(unpublished)).all()) == 1
        assert updates == []

    def test_a_value_that_is_no_part_of_a_topic_names_the_model(self, mercure, session, unpublished, updates):
        mercure.broadcasts(unpublished, topic="/authors/{author_id}", data=("id",))
        session.add(unpublished(title="a"))
        with pytest.raises(InvalidUpdateError, match=r"broadcasts\(Book\): .*None or empty"):
            session.commit()

    def test_a_hub_that_is_away_does_not_undo_the_commit(self, fake_hub, session, unpublished, caplog):
        mercure = MercureSSE(Flask("away"), hub_url=fake_hub(b""), publisher_jwt="j.w.t", after_commit_retry=False)
        mercure.broadcasts(unpublished, topic="/books/{id}", data=("title",))
        session.add_all([unpublished(title="one"), unpublished(title="two")])
        session.commit()
        assert "'/books/1' was not published after the commit" in caplog.text
        assert "'/books/2' was dropped after the commit" in caplog.text
        assert len(session.scalars(select(unpublished)).all()) == 2


def test_what_a_deleted_row_publishes_is_read_before_it_is_gone(mercure, session, unpublished, updates):
    mercure.broadcasts(
        unpublished, topic="/authors/{author.name}", data={"delete": lambda book: [book.label]}, on="delete"
    )
    session.add(unpublished(title="a", author=unpublished.Author(name="t")))
    session.commit()
    session.delete(session.get(unpublished, 1))
    session.commit()
    assert seen(updates) == [("/authors/t", "delete", ["a (new)"])]


class TestRelatedObjectsInTopics:
    @pytest.fixture
    def shop(self, base):
        class Shop(base):
            __tablename__ = "shops"
            id: Mapped[int] = mapped_column(primary_key=True)
            books = relationship("Book", back_populates="shop", cascade="all, delete-orphan")

        return Shop

    @pytest.fixture
    def book(self, base):
        class Book(base):
            __tablename__ = "books"
            id: Mapped[int] = mapped_column(primary_key=True)
            title: Mapped[str] = mapped_column(default="a")
            shop_id: Mapped[int | None] = mapped_column(ForeignKey("shops.id"))
            shop = relationship("Shop", back_populates="books")

        return Book

    @pytest.fixture
    def session(self, stack, base, shop, book):
        """Two shops, and a book in the first."""
        engine = create_engine("sqlite://")
        stack.callback(engine.dispose)
        base.metadata.create_all(engine)
        session = stack.enter_context(Session(engine))
        with session.begin():
            session.execute(text("insert into shops values (1), (2), (3)"))
            session.execute(text("insert into books values (1, 'a', 1)"))
        return session

    def test_a_delete_of_an_orphan_is_published_where_it_was(self, mercure, session, shop, book, updates):
        mercure.broadcasts(book, topic="/shops/{shop.id}/books", data=("id",))
        first = session.get(shop, 1)
        first.books.remove(first.books[0])
        session.commit()
        assert seen(updates) == [("/shops/1/books", "delete", {"id": 1})]

    @pytest.mark.parametrize("topic", ["/shops/{shop.id}/books", "/shops/{shop.idd}/books", "/shops/{shops.id}/books"])
    def test_what_is_missing_is_named(self, topic, mercure, session, book, updates):
        mercure.broadcasts(book, topic=topic, data=("id",))
        session.add(book())
        with pytest.raises(InvalidUpdateError, match=r"broadcasts\(Book\): topic: .*\{shops?\.idd?\}"):
            session.commit()
        session.rollback()
        assert (updates, len(session.scalars(select(book)).all())) == ([], 1)

    def test_a_missing_attribute_in_data_is_named(self, mercure, session, book, updates):
        mercure.broadcasts(book, topic="/books", data=("id", "titel"))
        session.add(book())
        with pytest.raises(InvalidUpdateError, match=r"broadcasts\(Book\): data: .*titel"):
            session.commit()

    @pytest.mark.parametrize("topic", ["/shops/{shop.id}/books", "/shops/{shop_id}/books"])
    @pytest.mark.parametrize("is_loaded", [False, True])
    def test_a_row_that_moves_leaves_its_old_topic(self, topic, is_loaded, mercure, session, shop, book, updates):
        mercure.broadcasts(book, topic=topic, data=("title",))
        one = session.get(book, 1)
        if is_loaded:
            assert one.shop.id == 1
        else:
            session.expire(one)
        one.shop = session.get(shop, 2)
        session.flush()
        one.title = "b"
        session.flush()
        one.shop = session.get(shop, 3)
        session.commit()
        moved = [("/shops/1/books", "delete", {"id": 1}), ("/shops/3/books", "update", {"title": "b"})]
        assert seen(updates) == moved
        one.title = "c"
        session.commit()
        # The commit has expired the object, so the equal value counts as a change, but not as a move.
        one.shop = session.get(shop, 3)
        session.commit()
        assert seen(updates) == [*moved, *[("/shops/3/books", "update", {"title": "c"})] * 2]

    def test_a_row_moved_by_its_foreign_key_leaves_its_old_topic(self, mercure, session, book, updates):
        mercure.broadcasts(book, topic=["/books/{id}", "/shops/{shop_id}"], data=("id",), type={"delete": "gone"})
        session.get(book, 1).shop_id = 2
        session.commit()
        assert [(each.topics, each.type) for each in updates] == [
            (("/shops/1",), "gone"),
            (("/books/1", "/shops/2"), "update"),
        ]

    def test_a_row_that_moves_and_goes_is_deleted_where_it_was(self, mercure, session, book, updates):
        mercure.broadcasts(book, topic="/shops/{shop_id}", data=("id",))
        one = session.get(book, 1)
        one.shop_id = 2
        session.flush()
        session.delete(one)
        session.flush()
        session.commit()
        assert seen(updates) == [("/shops/1", "delete", {"id": 1})]

    def test_a_row_deleted_and_added_elsewhere_has_moved(self, mercure, session, book, updates):
        mercure.broadcasts(book, topic="/shops/{shop_id}", data=("id",))
        session.delete(session.get(book, 1))
        session.flush()
        session.add(book(id=1, shop_id=2))
        session.commit()
        assert seen(updates) == [("/shops/1", "delete", {"id": 1}), ("/shops/2", "update", {"id": 1})]

    @pytest.mark.parametrize("topic", ["/books/{id}", "/books"])
    def test_a_changed_primary_key_is_another_row(self, topic, mercure, session, book, updates):
        mercure.broadcasts(book, topic=topic, data=("id", "title"))
        session.get(book, 1).id = 7
        session.commit()
        assert seen(updates) == [
            (topic.format(id=1), "delete", {"id": 1}),
            (topic.format(id=7), "update", {"id": 7, "title": "a"}),
        ]

    @pytest.mark.parametrize(("on", "kinds"), [(("update",), ["update"]), (("insert", "delete"), ["delete"])])
    def test_a_row_that_moves_publishes_what_is_wanted(self, on, kinds, mercure, session, book, updates):
        mercure.broadcasts(book, topic="/shops/{shop_id}", data=("id",), on=on)
        session.get(book, 1).shop_id = 2
        session.commit()
        assert [kind for _, kind, _ in seen(updates)] == kinds

    def test_a_row_that_gets_its_first_shop_moves_from_nowhere(self, mercure, session, book, updates):
        session.add(book(id=2))
        session.commit()
        mercure.broadcasts(book, topic="/shops/{shop_id}", data=("id",))
        session.get(book, 2).shop_id = 2
        session.commit()
        assert seen(updates) == [("/shops/2", "update", {"id": 2})]

    def test_a_rollback_moves_nothing(self, mercure, session, book, updates):
        mercure.broadcasts(book, topic="/shops/{shop_id}", data=("id",))
        one = session.get(book, 1)
        with session.begin_nested() as savepoint:
            one.shop_id = 2
            session.flush()
            savepoint.rollback()
        one.title = "b"
        session.commit()
        assert seen(updates) == [("/shops/1", "update", {"id": 1})]


def test_subclasses_and_mixins_are_published(mercure, base, stack, updates):
    class Announced:
        id: Mapped[int] = mapped_column(primary_key=True)

    mercure.broadcasts(Announced, topic="/{kind}/{id}", data=("id",))

    class Animal(Announced, base):
        __tablename__ = "animals"
        kind: Mapped[str]
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "animal"}  # noqa: RUF012

    class Dog(Animal):
        __tablename__ = "dogs"
        id: Mapped[int] = mapped_column(ForeignKey("animals.id"), primary_key=True)
        name: Mapped[str]
        __mapper_args__ = {"polymorphic_identity": "dog"}  # noqa: RUF012

    engine = create_engine("sqlite://")
    stack.callback(engine.dispose)
    base.metadata.create_all(engine)
    with Session(engine) as session:
        dog = Dog(name="Rex")
        session.add_all([Animal(), dog])
        session.commit()
        dog.name = "Max"
        session.commit()
        session.delete(dog)
        session.commit()
    assert seen(updates) == [
        ("/animal/1", "insert", {"id": 1}),
        ("/dog/2", "insert", {"id": 2}),
        ("/dog/2", "update", {"id": 2}),
        ("/dog/2", "delete", {"id": 2}),
    ]


def test_the_second_call_with_the_same_topic_takes_the_place_of_the_first(mercure, session, unpublished, updates):
    def create_app():
        mercure.broadcasts(unpublished, topic=lambda book: "/function", data=("title",))
        return mercure.broadcasts(unpublished, topic="/text", data=("title",))

    for _ in range(3):
        create_app()
    session.add(unpublished(title="a"))
    session.commit()
    assert [update.topic for update in updates] == ["/function", "/text"]


def test_functions_of_one_line_with_other_values_are_others(mercure, session, unpublished, updates):
    def create_app():
        app = Flask("another")
        for kind in ("a", "b"):
            mercure.broadcasts(unpublished, topic=lambda book, kind=kind: f"/default/{kind}", data=("id",))
        for kind in ("a", "b"):
            mercure.broadcasts(unpublished, topic=of(app, kind), data=("id",))

    def of(app, kind):
        return lambda book: f"/{app.name}/{kind}"

    for _ in range(2):
        create_app()
    session.add(unpublished(title="a"))
    session.commit()
    assert [update.topic for update in updates] == ["/default/a", "/default/b", "/another/a", "/another/b"]


def test_each_extension_publishes_on_its_own_hub(mercure, session, model, updates, stack):
    other = MercureSSE(Flask("other"))
    theirs = stack.enter_context(other.capture())
    other.broadcasts(model, topic="/theirs/{id}", data=("id",))
    session.add(model(title="a"))
    session.commit()
    assert [[update.topic for update in each] for each in (updates, theirs)] == [["/books/1"], ["/theirs/1"]]


def test_an_extension_with_several_applications_publishes_for_the_current_one(session, unpublished, stack):
    mercure, apps = MercureSSE(), [Flask("first"), Flask("second")]
    mercure.broadcasts(unpublished, topic="/books/{id}", data=("id",))
    captured = []
    for app in apps:
        mercure.init_app(app)
        with app.app_context():
            captured.append(stack.enter_context(mercure.capture()))
    with apps[0].app_context():
        session.add(unpublished(title="a"))
        session.commit()
    assert [len(each) for each in captured] == [1, 0]


def test_without_an_application_nothing_is_published_and_that_is_logged(session, unpublished, caplog):
    mercure = MercureSSE()
    mercure.broadcasts(unpublished, topic="/books/{id}", data=("id",))
    for title in "ab":
        session.add(unpublished(title=title))
        session.commit()
    assert len([each for each in caplog.records if "changes of Book are not published" in each.message]) <= 1
    assert len(session.scalars(select(unpublished)).all()) == 2


def test_a_model_does_not_keep_an_application_alive(session, unpublished):
    mercure = MercureSSE(Flask("brief"))
    mercure.broadcasts(unpublished, topic="/books/{id}", data=("id",))
    gone = weakref.ref(mercure)
    del mercure
    gc.collect()
    assert gone() is None
    session.add(unpublished(title="a"))
    session.commit()


@pytest.mark.parametrize("is_debug", [True, False])
def test_a_bulk_statement_warns_in_debug_mode(is_debug, app, mercure, session, model, updates, caplog):
    app.debug = is_debug
    caplog.set_level(logging.WARNING)
    session.execute(insert(model), [{"title": "a"}, {"title": "b"}])
    session.execute(update(model).values(title="c"))
    session.execute(delete(model).where(model.id == 1))
    session.scalars(select(func.count()).select_from(model)).one()
    session.execute(insert(model.Author), [{"name": "t"}])
    session.commit()
    assert updates == []
    warnings = [each.message for each in caplog.records if "without their objects" in each.message]
    assert len(warnings) == is_debug
    assert all("rows of Book" in each for each in warnings)


def test_a_row_that_a_bulk_statement_deletes_is_not_shown(session, model, book, updates):
    book.title = "changed"
    session.add(model(title="new"))
    session.flush()
    session.execute(delete(model))
    session.commit()
    assert updates == []


def test_a_row_that_another_program_has_deleted_is_not_shown(session, model, book, updates):
    book.title = "changed"
    session.flush()
    session.execute(text("delete from books"))
    session.expire(book)
    session.commit()
    assert updates == []


def test_a_missing_relative_of_a_row_is_not_taken_for_the_row(mercure, session, unpublished, updates):
    mercure.broadcasts(unpublished, topic="/books", data=lambda book: author.name)
    author = unpublished.Author(name="t")
    session.add_all([author, unpublished(title="a")])
    session.flush()
    session.execute(text("delete from authors"))
    session.expire(author)
    with pytest.raises(ObjectDeletedError):
        session.commit()


class TestApplicationContexts:
    """``teardown_appcontext`` often closes the session of the thread, which is the one that commits."""

    @pytest.fixture
    def scoped(self, app, stack, unpublished, base):
        engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
        stack.callback(engine.dispose)
        base.metadata.create_all(engine)
        scoped = scoped_session(sessionmaker(engine))
        app.teardown_appcontext(lambda _: scoped.remove())
        stack.callback(scoped.remove)
        return scoped

    def test_a_commit_outside_of_a_context_closes_no_session(self, scoped, model, updates):
        book = model(title="a")
        scoped.add(book)
        scoped.commit()
        book.title = "b"
        scoped.commit()
        scoped.delete(book)
        scoped.commit()
        assert [kind for _, kind, _ in seen(updates)] == ["insert", "update", "delete"]
        assert scoped.scalars(select(model)).all() == []

    def test_a_commit_in_another_application_closes_no_session(self, app, scoped, model, updates):
        other = Flask("other")

        @other.post("/books")
        def add():
            scoped.add(model(title=current_app.name))
            scoped.commit()
            return current_app.name

        assert other.test_client().post("/books").text == "other"
        assert seen(updates) == [("/books/1", "insert", {"id": 1, "title": "other"})]
        assert len(scoped.scalars(select(model)).all()) == 1

    @pytest.mark.parametrize("is_in_other", [False, True])
    def test_a_template_after_a_commit_closes_no_session(self, is_in_other, app, mercure, scoped, unpublished, updates):
        app.jinja_loader = DictLoader({"book.html": "{{ book.id }} {{ config.NAME }}"})
        app.config["NAME"] = "shop"
        book = unpublished(title="a")
        with Flask("other").app_context() if is_in_other else nullcontext():
            scoped.add(book)
            mercure.turbo.append("/books", "list", template="book.html", book=book, after_commit=scoped)
            scoped.commit()
        assert [re.findall("<template>(.*)</template>", update.data) for update in updates] == [["1 shop"]]
        assert len(scoped.scalars(select(unpublished)).all()) == 1

    def test_the_context_ends_with_the_function(self, app, mercure, session, unpublished, updates):
        def data(book):
            g.seen = True
            return current_app.name

        mercure.broadcasts(unpublished, topic="/books", data=data)
        session.add(unpublished(title="a"))
        session.commit()
        assert (has_app_context(), updates[0].data) == (False, "models")
        mercure.broadcasts(unpublished, topic="/books", data=lambda book: 1 / 0)
        session.add(unpublished(title="b"))
        with pytest.raises(ZeroDivisionError):
            session.commit()
        assert not has_app_context()


class TestExpressions:
    """A value that the database computes is not known to the object until it is loaded again."""

    @pytest.mark.parametrize("flush", [False, True])
    def test_a_column_set_by_an_expression_is_a_change(self, flush, session, model, book, updates):
        book.title = func.upper("cape cod")
        if flush:
            session.flush()
        session.commit()
        book.title = model.title + "!"
        session.commit()
        assert [data["title"] for _, _, data in seen(updates)] == ["CAPE COD", "CAPE COD!"]

    def test_defaults_that_are_loaded_at_once_hide_no_change(self, mercure, base, stack, updates):
        @mercure.broadcasts(topic="/counters/{id}", data=("n",))
        class Counter(base):
            __tablename__ = "counters"
            __mapper_args__ = {"eager_defaults": True}  # noqa: RUF012
            id: Mapped[int] = mapped_column(primary_key=True)
            n: Mapped[int] = mapped_column(default=0)

        engine = create_engine("sqlite://")
        stack.callback(engine.dispose)
        base.metadata.create_all(engine)
        with Session(engine) as session:
            counter = Counter()
            session.add(counter)
            session.commit()
            counter.n = Counter.n + 1
            session.commit()
            counter.n = counter.n + 0
            session.commit()
        assert [data for _, _, data in seen(updates)] == [{"n": 0}, {"n": 1}]

    def test_a_change_of_a_later_listener_is_a_change(self, session, model, book, updates):
        @event.listens_for(model, "before_update")
        def change(_mapper, _connection, item):
            item.title = "stamped"

        book.author = model.Author(name="t")
        book.author = None
        session.commit()
        updates.clear()
        book.title = "Walden"
        session.commit()
        assert seen(updates) == [("/books/1", "update", {"id": 1, "title": "stamped"})]


def test_an_asynchronous_session_publishes(mercure, model, base, updates):
    async def run():
        engine = create_async_engine("sqlite+aiosqlite://")
        async with engine.begin() as connection:
            await connection.run_sync(base.metadata.create_all)
        async with AsyncSession(engine) as session:
            book = model(title="a")
            session.add(book)
            await session.commit()
            await session.refresh(book)
            book.title = "b"
            await session.commit()
            await session.refresh(book)
            await session.delete(book)
            await session.commit()
        await engine.dispose()

    mercure.broadcasts(model, topic="/label", data=("label",), on=("insert",))
    asyncio.run(run())
    assert seen(updates) == [
        ("/books/1", "insert", {"id": 1, "title": "a"}),
        # A column that only the database knows is loaded.
        ("/label", "insert", {"label": "a (new)"}),
        ("/books/1", "update", {"id": 1, "title": "b"}),
        ("/books/1", "delete", {"id": 1}),
    ]


def test_models_of_flask_sqlalchemy_are_published(app, mercure, updates):
    app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite://"
    db = SQLAlchemy(app)

    @mercure.broadcasts(topic="/books/{id}", data=("title",))
    class Book(db.Model):
        id: Mapped[int] = mapped_column(primary_key=True)
        title: Mapped[str]

    with app.app_context():
        db.create_all()
        db.session.add(Book(title="a"))
        db.session.commit()
        db.session.add(Book(title="b"))
        db.session.rollback()
        db.session.remove()
        for engine in db.engines.values():
            engine.dispose()
    assert seen(updates) == [("/books/1", "insert", {"title": "a"})]


def test_changes_reach_subscribers(session, unpublished, app, serve, open_stream, subscribe_url):
    app.debug = True
    mercure = MercureSSE(app)
    mercure.broadcasts(unpublished, topic="/books/{id}", data=("title",))
    stream = open_stream(subscribe_url(serve(app) + "/.well-known/mercure", "/books/{id}"))
    session.add(unpublished(title="a"))
    session.commit()
    received = stream.event()
    assert (received["event"], received["data"]) == ("insert", '{"title": "a"}')
