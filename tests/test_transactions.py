"""Updates that belong to a transaction of SQLAlchemy."""

import asyncio
import socket
import subprocess
import sys
import threading
import time
from urllib.parse import parse_qsl

import gevent
import pytest
from flask import Flask
from sqlalchemy import create_engine, event, select, text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, scoped_session, sessionmaker

from clients import PATIENCE
from flask_mercure_sse import BackgroundStats, HubUnreachableError, InvalidUpdateError, MercureSSE, publishing
from flask_mercure_sse._native import HubFailed


@pytest.fixture
def mercure():
    return MercureSSE(Flask("transactions"))


@pytest.fixture
def session(stack):
    engine = create_engine("sqlite://")
    stack.callback(engine.dispose)
    return stack.enter_context(Session(engine))


@pytest.fixture
def updates(mercure, stack):
    return stack.enter_context(mercure.capture())


def data(updates):
    return [update.data for update in updates]


def test_an_update_is_published_with_the_commit_and_not_before(mercure, session, updates):
    session.execute(text("select 1"))
    given = mercure.publish("a", "1", after_commit=session)
    assert updates == []
    session.commit()
    assert [(update.id, update.data) for update in updates] == [(given, "1")]
    session.execute(text("select 1"))
    session.commit()
    assert len(updates) == 1


def test_a_rollback_and_a_close_drop_it(mercure, session, updates):
    mercure.publish("a", "rolled back", after_commit=session)
    session.rollback()
    session.commit()
    mercure.publish("a", "closed", after_commit=session)
    session.close()
    session.commit()
    mercure.publish("a", "kept", after_commit=session)
    session.commit()
    assert data(updates) == ["kept"]


def test_savepoints_keep_and_drop_their_own(mercure, session, updates):
    mercure.publish("a", "outer", after_commit=session)
    with session.begin_nested():
        mercure.publish("a", "released", after_commit=session)
    assert updates == []
    with session.begin_nested() as savepoint:
        mercure.publish("a", "rolled back", after_commit=session)
        with session.begin_nested():
            mercure.publish("a", "released into what is rolled back", after_commit=session)
        savepoint.rollback()
    mercure.publish("a", "last", after_commit=session)
    session.commit()
    assert data(updates) == ["outer", "released", "last"]


def test_a_rollback_of_all_drops_what_a_savepoint_released(mercure, session, updates):
    session.begin()
    with session.begin_nested():
        mercure.publish("a", "released", after_commit=session)
    session.rollback()
    session.commit()
    assert updates == []


def test_a_commit_that_fails_publishes_nothing(mercure, updates, stack):
    engine = create_engine("sqlite://")
    stack.callback(engine.dispose)
    session = stack.enter_context(Session(engine))
    session.execute(text("pragma foreign_keys = on"))
    session.commit()
    session.execute(text("create table a (id integer primary key)"))
    session.execute(text("create table b (a integer references a deferrable initially deferred)"))
    session.commit()
    session.execute(text("insert into b values (1)"))
    mercure.publish("a", "never", after_commit=session)
    with pytest.raises(Exception, match="FOREIGN KEY"):
        session.commit()
    session.rollback()
    session.commit()
    assert updates == []


def test_scoped_and_asynchronous_sessions_work(mercure, updates, stack):
    engine = create_engine("sqlite://")
    stack.callback(engine.dispose)
    scoped = scoped_session(sessionmaker(engine))
    mercure.publish("a", "scoped", after_commit=scoped)
    scoped.commit()
    mercure.publish("a", "removed", after_commit=scoped)
    scoped.remove()

    async def run():
        engine = create_async_engine("sqlite+aiosqlite://")
        async with AsyncSession(engine) as session:
            await session.execute(text("select 1"))
            await mercure.apublish("a", "asynchronous", after_commit=session)
            await session.commit()
        await engine.dispose()

    asyncio.run(run())
    assert data(updates) == ["scoped", "asynchronous"]


def test_a_batch_waits_for_the_commit_too(mercure, session, updates):
    ids = mercure.publish_many([("a", "1"), ("a", "2")], after_commit=session)
    assert updates == []
    session.commit()
    assert [update.id for update in updates] == ids


def test_a_bad_update_is_refused_before_the_commit(mercure, session, updates):
    with pytest.raises(InvalidUpdateError):
        mercure.publish("a", "b", id="#bad", after_commit=session)
    session.commit()
    assert updates == []


def test_a_hub_that_is_away_does_not_undo_the_commit(fake_hub, session, caplog):
    mercure = MercureSSE(Flask("away"), hub_url=fake_hub(b""), publisher_jwt="j.w.t", after_commit_retry=False)
    mercure.publish("a", "the data", after_commit=session)
    session.commit()
    assert "was not published after the commit" in caplog.text
    assert "the data" not in caplog.text
    session.execute(text("select 1"))
    session.commit()


def test_a_hub_that_is_away_is_waited_for_once_in_a_commit(fake_hub, session, caplog):
    received = []
    url = fake_hub(*[b""] * 10, received=received)
    mercure = MercureSSE(Flask("away"), hub_url=url, publisher_jwt="j.w.t", after_commit_retry=False)
    mercure.publish_many([("a", str(number)) for number in range(4)], after_commit=session)
    mercure.publish("a", "4", after_commit=session)
    session.commit()
    assert len(received) == 1
    assert len([record for record in caplog.records if "was dropped after the commit" in record.message]) == 4


def test_what_an_unavailable_hub_has_not_taken_is_sent_again_in_the_background(fake_hub, session, caplog):
    received = []
    taken = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nid"
    url = fake_hub(b"", taken, taken, taken, received=received)
    mercure = MercureSSE(Flask("away"), hub_url=url, publisher_jwt="j.w.t")
    ids = mercure.publish_many([("a", str(number)) for number in range(3)], after_commit=session)
    session.commit()
    assert mercure.flush(PATIENCE)
    sent = [dict(parse_qsl(each.partition(b"\r\n\r\n")[2].decode())) for each in received]
    assert [(each["data"], each["id"]) for each in sent[1:]] == [(str(n), ids[n]) for n in range(3)]
    assert sent[0] == sent[1]
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "'a' is sent again in the background, after the commit" in caplog.text


def test_what_the_hub_refuses_for_good_is_not_sent_again(fake_hub, session, caplog):
    received = []
    refused = b"HTTP/1.1 403 X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    mercure = MercureSSE(Flask("refused"), hub_url=fake_hub(refused, received=received), publisher_jwt="j.w.t")
    mercure.publish("a", "b", after_commit=session)
    session.commit()
    assert "'a' was not published after the commit" in caplog.text
    assert mercure.background == BackgroundStats()


def test_a_hub_in_memory_that_fails_has_no_queue(session, monkeypatch, caplog):
    mercure = MercureSSE(Flask("embedded"), hub=True, hub_transport="memory:")

    def fail():
        raise HubFailed("it has failed")

    monkeypatch.setattr(mercure.state.embedded, "running", fail)
    mercure.publish_many(["a", "b"], after_commit=session)
    session.commit()
    assert "'a' was not published after the commit: the embedded hub: it has failed" in caplog.text
    assert "'b' was dropped after the commit" in caplog.text
    assert mercure.background == BackgroundStats()


class TestRows:
    """Topic and data of a row, which has its id once it is flushed."""

    @pytest.fixture
    def model(self):
        class Base(DeclarativeBase):
            pass

        class Book(Base):
            __tablename__ = "books"
            id: Mapped[int] = mapped_column(primary_key=True)
            title: Mapped[str]
            state: Mapped[str] = mapped_column(server_default="new")

            @property
            def __mercure_sse_topic__(self):
                return f"/books/{self.id}"

            def __mercure_sse_data__(self):
                return {"id": self.id, "title": self.title, "state": self.state}

        return Book

    @pytest.fixture
    def session(self, session, model):
        model.metadata.create_all(session.get_bind())
        return session

    def test_a_new_row_has_its_id(self, mercure, session, updates, model):
        book = model(title="Walden")
        session.add(book)
        given = mercure.publish(book, after_commit=session)
        book.title = "Walden; or, Life in the Woods"
        session.commit()
        (update,) = updates
        assert (update.topic, update.id) == ("/books/1", given)
        assert update.json() == {"id": 1, "title": "Walden; or, Life in the Woods", "state": "new"}

    def test_data_may_be_a_function(self, mercure, session, updates, model):
        book = model(title="Walden")
        session.add(book)
        mercure.publish("/books", lambda: {"id": book.id}, after_commit=session)
        ids = mercure.publish_many([("/all", lambda: [book.id]), {"topic": book}], after_commit=session)
        session.commit()
        assert data(updates)[:2] == ['{"id": 1}', "[1]"]
        assert [update.topic for update in updates] == ["/books", "/all", "/books/1"]
        assert [update.id for update in updates[1:]] == ids

    def test_a_plain_value_is_taken_at_once(self, mercure, session, updates):
        counted = {"number": 0}
        for number in range(3):
            counted["number"] = number
            mercure.publish("a", counted, after_commit=session)
        session.commit()
        assert [update.json()["number"] for update in updates] == [0, 1, 2]

    def test_a_row_that_is_rolled_back_is_never_asked(self, mercure, session, updates, model):
        def ask():
            raise AssertionError

        with session.begin_nested() as savepoint:
            mercure.publish("a", ask, after_commit=session)
            savepoint.rollback()
        session.add(model(title="Walden"))
        session.commit()
        mercure.publish("a", ask, after_commit=session)
        session.rollback()
        assert updates == []

    def test_a_savepoint_waits_for_the_commit(self, mercure, session, updates, model):
        with session.begin_nested():
            book = model(title="Walden")
            session.add(book)
            mercure.publish(book, after_commit=session)
        book.title = "Cape Cod"
        session.commit()
        assert [update.json()["title"] for update in updates] == ["Cape Cod"]

    @pytest.mark.parametrize(("wrong", "error"), [(lambda: 1 / 0, ZeroDivisionError), (object, TypeError)])
    def test_what_cannot_be_taken_stops_the_commit(self, wrong, error, mercure, session, updates, model):
        session.add(model(title="Walden"))
        topic = wrong() if wrong is object else "a"
        mercure.publish("b", "of the same commit", after_commit=session)
        mercure.publish(topic, wrong, after_commit=session)
        with pytest.raises(error):
            session.commit()
        session.rollback()
        assert (session.scalars(select(model)).all(), updates) == ([], [])

    def test_what_is_known_to_be_wrong_is_refused_at_once(self, mercure, session, model):
        with pytest.raises(InvalidUpdateError):
            mercure.publish(model(title="x"), id="#bad", after_commit=session)
        with pytest.raises(InvalidUpdateError, match=r"^update 1: "):
            mercure.publish_many(["a", {"topic": model(title="x"), "retry": "x"}], after_commit=session)

    def test_what_cannot_be_taken_after_the_commit_is_logged(self, mercure, session, updates, caplog):
        def fail():
            raise HubUnreachableError("the function asked a hub")

        transaction = session.begin()
        nested = session.begin_nested()
        mercure.publish("a", fail, after_commit=session)
        # The savepoint is still open when SQLAlchemy says that the transaction is about to commit.
        transaction.commit()
        assert not nested.is_active
        assert "an update was not published after the commit: the function asked a hub" in caplog.text
        assert updates == []

    @pytest.mark.parametrize("name", ["before_commit", "after_commit"])
    def test_a_listener_of_the_commit_may_publish_a_row(self, name, mercure, session, updates, model):
        book = model(title="Walden", state="old")

        @event.listens_for(session, name)
        def announce(session):
            mercure.publish(book, after_commit=session)

        session.add(book)
        session.flush()
        session.commit()
        assert [update.topic for update in updates] == ["/books/1"]

    def test_an_asynchronous_session_asks_too(self, mercure, updates, model):
        async def run():
            engine = create_async_engine("sqlite+aiosqlite://")
            async with engine.begin() as connection:
                await connection.run_sync(model.metadata.create_all)
            async with AsyncSession(engine) as session:
                book = model(title="Walden")
                session.add(book)
                await mercure.apublish(book, after_commit=session)
                await session.commit()
            await engine.dispose()

        asyncio.run(run())
        assert [update.json()["state"] for update in updates] == ["new"]


def test_an_update_may_come_from_a_listener_of_the_commit(mercure, session, updates):
    @event.listens_for(session, "after_commit")
    def announce(session):
        mercure.publish("a", "from the listener", after_commit=session)

    session.execute(text("select 1"))
    session.commit()
    assert data(updates) == ["from the listener"]


def test_a_listener_that_fails_drops_nothing(mercure, session, updates):
    @event.listens_for(session, "after_commit")
    def fail(session):
        raise KeyError

    mercure.publish("a", "b", after_commit=session)
    with pytest.raises(KeyError):
        session.commit()
    session.close()
    assert data(updates) == ["b"]


def test_a_coroutine_uses_the_session_of_its_thread(mercure, updates, stack):
    engine = create_engine("sqlite://")
    stack.callback(engine.dispose)
    scoped = scoped_session(sessionmaker(engine))
    asked = []

    class Topical:
        @property
        def __mercure_sse_topic__(self):
            asked.append(threading.current_thread())
            return "topical"

    async def run():
        await mercure.apublish(Topical(), "b", after_commit=scoped)
        scoped.commit()

    asyncio.run(run())
    scoped.remove()
    assert data(updates) == ["b"]
    assert set(asked) == {threading.current_thread()}


def test_a_commit_in_an_event_loop_does_not_wait_for_the_hub(stack):
    listener = socket.create_server(("127.0.0.1", 0))  # accepts and never answers
    stack.callback(listener.close)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/.well-known/mercure"
    mercure = MercureSSE(Flask("asynchronous"), hub_url=url, publisher_jwt="j.w.t", read_timeout=2 * PATIENCE)

    async def run():
        engine = create_async_engine("sqlite+aiosqlite://")
        async with AsyncSession(engine) as session:
            await session.execute(text("select 1"))
            await mercure.apublish("a", "b", after_commit=session)
            began = time.monotonic()
            await session.commit()
            assert time.monotonic() - began < PATIENCE
        await engine.dispose()

    asyncio.run(run())
    assert mercure.background.waiting == 1
    for queue in mercure.state.queues.queues:
        queue.drop()


def test_something_else_than_a_session_is_named(mercure):
    with pytest.raises(TypeError, match="after_commit: give a session of SQLAlchemy, not a str"):
        mercure.publish("a", "b", after_commit="session")


def test_sqlalchemy_is_imported_only_when_it_is_used():
    script = "import flask_mercure_sse, flask_mercure_sse.testing, sys; sys.exit('sqlalchemy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_an_interruption_reaches_the_commit_and_every_update_is_accounted_for(session, monkeypatch, caplog):
    app = Flask("interrupted")
    mercure = MercureSSE(app, hub_url="http://localhost/x", publisher_jwt="j.w.t")

    def interrupt(*_args, **_kwargs):
        raise gevent.Timeout

    monkeypatch.setattr(publishing, "request", interrupt)
    for number in range(3):
        mercure.publish(f"topic/{number}", "", after_commit=session)
    with pytest.raises(gevent.Timeout):
        session.commit()
    assert "'topic/0' may not have been published after the commit: Timeout" in caplog.text
    assert "'topic/1' was dropped after the commit" in caplog.text
    assert "'topic/2' was dropped after the commit" in caplog.text
