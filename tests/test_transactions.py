"""Updates that belong to a transaction of SQLAlchemy."""

import asyncio
import socket
import subprocess
import sys
import threading
import time

import gevent
import pytest
from flask import Flask
from sqlalchemy import create_engine, event, text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from clients import PATIENCE
from flask_mercure_sse import InvalidUpdateError, MercureSSE, publishing


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
    mercure = MercureSSE(Flask("away"), hub_url=fake_hub(b""), publisher_jwt="j.w.t")
    mercure.publish("a", "the data", after_commit=session)
    session.commit()
    assert "was not published after the commit" in caplog.text
    assert "the data" not in caplog.text
    session.execute(text("select 1"))
    session.commit()


def test_a_hub_that_is_away_is_waited_for_once_in_a_commit(fake_hub, session, caplog):
    received = []
    mercure = MercureSSE(Flask("away"), hub_url=fake_hub(*[b""] * 10, received=received), publisher_jwt="j.w.t")
    mercure.publish_many([("a", str(number)) for number in range(4)], after_commit=session)
    mercure.publish("a", "4", after_commit=session)
    session.commit()
    assert len(received) == 1
    assert len([record for record in caplog.records if "was dropped after the commit" in record.message]) == 4


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
