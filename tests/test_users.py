"""``user_topics``: the cookie of the current user, which sets, renews and deletes itself."""

import re
from datetime import datetime, timedelta, timezone

import pytest
from flask import Flask, Response, jsonify, redirect, render_template_string, request, session
from flask_login import LoginManager, UserMixin, current_user, login_user, logout_user

from clients import HUB_PATH, SECRET, Request
from flask_mercure_sse import MercureSSE, Selector, users

HUB, RECORD = "mercureAuthorization", "mercureAuthorization_record"


@pytest.fixture
def app():
    app = Flask("users")
    app.config.update(SECRET_KEY=SECRET, MERCURE_HUB=True, MERCURE_HUB_TRANSPORT="memory:")
    return app


@pytest.fixture
def mercure(app):
    return prepare(app, MercureSSE(app))


def prepare(app, mercure):
    """Views that log in and out, with a session of Flask and nothing else."""
    app.asked = []
    """The users about whom the function was asked."""
    app.answer, app.change = lambda: "home", lambda response: response
    """What the view answers, and what happens to each response before the extension sees it."""

    @mercure.user_topics
    def topics_of_the_user():
        app.asked.append(session.get("user"))
        if "user" not in session:
            return None
        groups = [mercure.topic("/groups/{}", group) for group in session.get("groups", ())]
        return [mercure.topic("/users/{}", session["user"]), *groups]

    @app.post("/login/<user>")
    def login(user):
        session["user"] = user
        return redirect("/")

    @app.post("/logout")
    def logout():
        session.clear()
        return "Bye."

    @app.post("/groups/<group>")
    def join(group):
        session["groups"] = [*session.get("groups", ()), group]
        return ""

    @app.get("/")
    def home():
        return app.answer()

    @app.after_request
    def change(response):
        return app.change(response)

    return mercure


@pytest.fixture
def client(app, mercure):
    return app.test_client()


@pytest.fixture
def clock(monkeypatch):
    """The time, which a test moves."""

    class Clock:
        now = users._clock()

    monkeypatch.setattr(users, "_clock", lambda: Clock.now)
    return Clock


def cookies(response):
    """The cookies that a response sets, each with its value and its attributes, in lower case."""
    found = {}
    for line in response.headers.getlist("Set-Cookie"):
        first, *rest = line.split("; ")
        name, _, value = first.partition("=")
        attributes = {key.lower(): text for key, _, text in (each.partition("=") for each in rest)}
        found[name] = (value, attributes)
    return {name: each for name, each in found.items() if name != "session"}


def granted(response, token, name=HUB):
    """What the hub's cookie grants."""
    return token.claims(cookies(response)[name][0])["mercure"]["subscribe"]


def test_the_cookie_comes_with_the_login_and_goes_with_the_logout(client, token):
    assert cookies(client.get("/")) == {}
    login = client.post("/login/ada")
    assert granted(login, token) == ["/users/ada"]
    value, attributes = cookies(login)[HUB]
    assert attributes["path"] == HUB_PATH
    assert attributes["max-age"] == str(2 * 24 * 3600)
    _, of_record = cookies(login)[RECORD]
    assert (of_record["path"], of_record["max-age"], "httponly" in of_record) == ("/", attributes["max-age"], True)
    assert cookies(client.get("/")) == {}
    assert client.get_cookie(HUB, path=HUB_PATH).value == value
    logout = client.post("/logout")
    assert {name: (text, each["max-age"]) for name, (text, each) in cookies(logout).items()} == {
        HUB: ("", "0"),
        RECORD: ("", "0"),
    }
    assert client.get_cookie(HUB, path=HUB_PATH) is None
    assert cookies(client.get("/")) == {}


def test_another_user_gets_another_cookie(client, token):
    client.post("/login/ada")
    assert granted(client.post("/login/bob"), token) == ["/users/bob"]


def test_a_session_that_ends_by_itself_takes_the_cookie_along(client):
    client.post("/login/ada")
    client.delete_cookie("session")
    assert cookies(client.get("/"))[HUB][0] == ""


def test_the_cookie_changes_with_the_topics(client, token):
    client.post("/login/ada")
    assert granted(client.post("/groups/7"), token) == ["/users/ada", "/groups/7"]
    assert cookies(client.get("/")) == {}


def test_the_cookie_changes_with_the_payload(mercure, client, token):
    said = {"name": "Ada"}
    mercure.payload_getter(lambda topics: {**said, "topics": list(topics)})
    first = client.post("/login/ada")
    claims = token.claims(cookies(first)[HUB][0])["mercure"]
    assert claims["payload"] == {"name": "Ada", "topics": ["/users/ada"]}
    assert cookies(client.get("/")) == {}
    said["name"] = "Countess"
    assert token.claims(cookies(client.get("/"))[HUB][0])["mercure"]["payload"]["name"] == "Countess"


def test_the_cookie_is_renewed_in_the_second_half_of_its_life(client, clock):
    client.post("/login/ada")
    clock.now += 12 * 3600 - 60
    assert cookies(client.get("/")) == {}
    clock.now += 120
    assert set(cookies(client.get("/"))) == {HUB, RECORD}
    assert cookies(client.get("/")) == {}


def test_a_token_without_an_end_is_not_renewed(app, token, clock):
    app.config["MERCURE_JWT_TTL"] = 0
    prepare(app, MercureSSE(app))
    client = app.test_client()
    login = client.post("/login/ada")
    assert "exp" not in token.claims(cookies(login)[HUB][0])
    assert not any("max-age" in attributes for _, attributes in cookies(login).values())
    clock.now += 10 * 365 * 24 * 3600
    assert cookies(client.get("/")) == {}


@pytest.mark.parametrize("forged", ["", "x", "99999999999.0", "9" * 3000 + ".0", "٣.0", "99999999999.ä"])
def test_a_forged_record_only_has_the_cookie_set_anew(forged, client):
    client.post("/login/ada")
    client.set_cookie(RECORD, forged)
    assert set(cookies(client.get("/"))) == {HUB, RECORD}


def test_the_record_of_another_user_does_not_fit(app, client):
    other = app.test_client()
    other.post("/login/bob")
    client.post("/login/ada")
    client.set_cookie(RECORD, other.get_cookie(RECORD).value)
    assert set(cookies(client.get("/"))) == {HUB, RECORD}


def test_another_key_sets_the_cookie_anew(app, mercure, client):
    client.post("/login/ada")
    mercure.state.subscriber_secret_key = "another secret of more than thirty-two bytes"
    assert set(cookies(client.get("/"))) == {HUB, RECORD}


class TestWhichResponses:
    @pytest.fixture(autouse=True)
    def _waiting(self, client, clock):
        """A user whose cookie should be renewed."""
        client.post("/login/ada")
        clock.now += 20 * 3600

    @pytest.mark.parametrize(
        "headers",
        [
            {"Cache-Control": "public"},
            {"Cache-Control": "public, max-age=0"},
            {"Cache-Control": "max-age=60"},
            {"Cache-Control": "s-maxage=0"},
            {"Expires": (datetime.now(timezone.utc) + timedelta(days=3)).strftime("%a, %d %b %Y %H:%M:%S GMT")},
        ],
    )
    @pytest.mark.parametrize("place", ["view", "after_request", "an earlier after_request"])
    def test_none_that_caches_share(self, headers, place, app):
        def change(response):
            response.headers.update(headers)
            return response

        other = Flask("shared")
        other.config.update(app.config)
        other.after_request(lambda response: other.early(response))
        other.early = lambda response: response
        prepare(other, MercureSSE(other))
        client = other.test_client()
        client.post("/login/ada")
        client.delete_cookie(RECORD)
        if place == "view":
            other.answer = lambda: change(Response("shared"))
        elif place == "after_request":
            other.change = change
        else:
            other.early = change
        for _ in range(2):
            response = client.get("/")
            assert cookies(response) == {}
        # Nor does the question make the response vary with the user.
        assert place == "an earlier after_request" or "Cookie" not in response.vary
        other.answer, other.change, other.early = lambda: "home", lambda response: response, lambda response: response
        assert set(cookies(client.get("/"))) == {HUB, RECORD}

    @pytest.mark.parametrize(
        "control", ["no-cache", "private", "private, max-age=60", "no-store", "max-age=0", "no-cache, max-age=60"]
    )
    def test_all_others_and_no_cache_keeps_the_cookie(self, control, app, client):
        app.answer = lambda: Response("home", headers={"Cache-Control": control})
        response = client.get("/")
        assert set(cookies(response)) == {HUB, RECORD}
        assert "private" in response.cache_control or "no-store" in response.cache_control
        assert "Cookie" in response.vary

    def test_a_response_without_the_cookie_stays_as_it_is(self, client):
        client.get("/")
        response = client.get("/")
        assert cookies(response) == {}
        assert "Cache-Control" not in response.headers

    @pytest.mark.parametrize(
        "path", ["hub", "subscriptions", "client", "static", "unknown", "failed", "unchanged", "options"]
    )
    def test_neither_hub_nor_files_nor_failures(self, path, app, client):
        answers = {"failed": ("failed", 502), "unchanged": ("", 304)}
        urls = {
            "hub": HUB_PATH,
            "subscriptions": f"{HUB_PATH}/subscriptions",
            "client": "/_mercure/0/petasos-client.js",
            "static": "/static/none.css",
            "unknown": "/unknown",
        }
        app.answer = lambda: answers.get(path, "home")
        app.asked.clear()
        response = client.open(urls.get(path, "/"), method="OPTIONS" if path == "options" else "GET")
        assert cookies(response) == {}
        assert app.asked == [], "the function may ask a database"

    def test_the_function_is_asked_once(self, app, client):
        app.asked.clear()
        client.get("/")
        assert app.asked == ["ada"]

    def test_a_view_that_sets_the_cookie_itself_wins(self, app, mercure, client, token):
        app.answer = lambda: mercure.set_authz_cookie(Response(), topics=["/own"])
        assert granted(client.get("/"), token) == ["/own"]

    def test_a_host_that_is_not_trusted_gets_none(self, app, client):
        app.config["TRUSTED_HOSTS"] = ["example.com"]
        assert cookies(client.get("/")) == {}


class TestTheUserInThePage:
    """Tabs of different users must not share a stream: the client reads who the user is, as a digest."""

    @pytest.fixture(autouse=True)
    def page(self, app, mercure):
        app.answer = lambda: render_template_string("{{ mercure_client() }}")

    @staticmethod
    def user(client):
        found = re.findall(r'<meta name="mercure-user" content="([0-9a-f]{32})">', client.get("/").text)
        return found[0] if found else None

    def test_users_differ_and_nobody_has_none(self, client):
        assert self.user(client) is None
        client.post("/login/7")
        seven = self.user(client)
        assert seven is not None
        assert self.user(client) == seven
        client.post("/login/8")
        assert self.user(client) not in (None, seven)
        client.post("/logout")
        assert self.user(client) is None

    def test_other_topics_or_another_payload_make_another_user(self, mercure, client):
        client.post("/login/7")
        before = self.user(client)
        client.post("/groups/1")
        member = self.user(client)
        assert member != before
        mercure.payload_getter(lambda topics: {"name": "Ann"})
        assert self.user(client) not in (None, member)

    def test_what_stands_in_the_page_is_no_record(self, client):
        client.post("/login/7")
        digest = self.user(client)
        for end in ("-1", "0", "99999999999"):
            client.set_cookie(RECORD, f"{end}.{digest}")
            assert HUB in cookies(client.get("/")), "the forged record has the cookie set anew"

    def test_the_function_is_asked_once_for_the_page(self, app, client):
        client.post("/login/7")
        app.answer = lambda: render_template_string(
            "{{ mercure_client() }}{{ mercure_turbo_stream('/users/7', true) }}"
        )
        app.asked.clear()
        client.get("/")
        # And once after the view.
        assert app.asked == ["7", "7"]

    def test_without_a_function_no_page_names_a_user(self):
        app = Flask("nobody")
        MercureSSE(app)
        with app.test_request_context():
            assert "mercure-user" not in render_template_string("{{ mercure_client() }}")


def test_what_the_function_writes_into_the_session_is_kept(app, mercure):
    @mercure.user_topics
    def count():
        session["asked"] = session.get("asked", 0) + 1

    client = app.test_client()
    client.get("/")
    client.get("/")
    with client.session_transaction() as kept:
        assert kept["asked"] == 2


def test_the_function_may_be_a_coroutine_and_return_one_topic(app, mercure, token):
    @mercure.user_topics
    async def everybody():
        return "/news"

    response = app.test_client().get("/")
    assert granted(response, token) == ["/news"]
    assert "Cookie" in response.vary, "also where no session has been looked at"


def test_the_order_of_topics_does_not_matter(mercure, client):
    topics = ["/a", "/b"]
    mercure.user_topics(lambda: topics)
    assert set(cookies(client.get("/"))) == {HUB, RECORD}
    topics.reverse()
    assert cookies(client.get("/")) == {}


def test_the_record_is_sent_when_the_session_is(app, mercure):
    app.config.update(
        SESSION_COOKIE_DOMAIN="example.com",
        SESSION_COOKIE_PATH="/app",
        SESSION_COOKIE_SECURE=True,
        SESSION_COOKIE_SAMESITE="None",
    )
    login = app.test_client().post("/login/ada", base_url="https://www.example.com")
    _, attributes = cookies(login)[RECORD]
    assert (attributes["domain"], attributes["path"], attributes["samesite"]) == ("example.com", "/app", "None")
    assert "secure" in attributes


def test_without_a_function_nothing_happens(app):
    mercure = MercureSSE(app)
    app.add_url_rule("/", "home", lambda: mercure.set_authz_cookie(Response(), topics=["a"]))
    client = app.test_client()
    assert set(cookies(client.get("/"))) == {HUB}
    assert client.get("/_mercure/token").status_code == 404


def test_an_unmarked_selector_is_warned_of_with_the_line_of_the_function(app, mercure, caplog):
    @mercure.user_topics
    def everything():
        return "/users/*"

    app.test_client().get("/")
    (warning,) = (each.message for each in caplog.records if "nothing marks as intended" in each.message)
    assert warning.startswith(__file__)


def test_without_a_key_the_error_names_the_setting():
    app = Flask("keyless")
    app.testing = True
    mercure = MercureSSE(app)
    mercure.user_topics(lambda: "/news")
    app.add_url_rule("/", "home", lambda: "home")
    with pytest.raises(ValueError, match="SECRET_KEY"):
        app.test_client().get("/")


def test_protocol_1_has_a_cookie_of_its_own(app, token):
    app.config["MERCURE_PROTOCOL"] = "1.0"
    prepare(app, MercureSSE(app))
    client = app.test_client()
    login = client.post("/login/ada", base_url="https://localhost")
    assert set(cookies(login)) == {"__Secure-mercure_access_token", "mercure_access_token_record"}
    assert cookies(client.get("/", base_url="https://localhost")) == {}


class TestHubElsewhere:
    @pytest.fixture
    def app(self, app):
        app.config.update(MERCURE_HUB=False, MERCURE_HUB_URL="https://hub.example.com/.well-known/mercure")
        return app

    def test_in_the_same_domain_it_gets_the_cookie(self, client, token):
        login = client.post("/login/ada", base_url="https://app.example.com")
        assert granted(login, token) == ["/users/ada"]
        found = cookies(login)
        assert (found[HUB][1]["domain"], "domain" in found[RECORD][1]) == ("example.com", False)
        assert cookies(client.get("/", base_url="https://app.example.com")) == {}
        gone = cookies(client.post("/logout", base_url="https://app.example.com"))
        assert (gone[HUB][0], gone[HUB][1]["domain"]) == ("", "example.com")

    def test_on_another_site_the_page_asks_for_a_token(self, client, token, caplog):
        assert cookies(client.post("/login/ada")) == {}
        assert cookies(client.get("/")) == {}
        assert len([each for each in caplog.records if "no cookie of this host reaches" in each.message]) == 1
        answer = client.get("/_mercure/token?token")
        assert token.claims(answer.json["token"])["mercure"]["subscribe"] == ["/users/ada"]
        assert answer.json["expires_in"] == 24 * 3600
        assert (answer.headers["Cache-Control"], cookies(answer)) == ("no-store", {})
        assert client.get("/_mercure/token").status_code == 400, "a cookie would not help"

    @pytest.mark.parametrize(
        "headers",
        [
            {"Sec-Fetch-Site": "cross-site"},
            {"Sec-Fetch-Site": "same-site"},
            {"Origin": "https://evil.example"},
            {"Origin": "null"},
        ],
    )
    def test_other_sites_get_no_token(self, headers, client):
        client.post("/login/ada")
        assert client.get("/_mercure/token?token", headers=headers).status_code == 403

    def test_nobody_gets_no_token(self, client):
        assert client.get("/_mercure/token?token").status_code == 401


class TestTheRoute:
    def test_it_renews_the_cookie_of_the_current_user(self, client, token):
        client.post("/login/ada")
        renewed = client.get("/_mercure/token")
        assert (renewed.status_code, renewed.headers["Cache-Control"]) == (204, "no-store")
        assert granted(renewed, token) == ["/users/ada"]
        assert set(cookies(renewed)) == {HUB, RECORD}
        assert cookies(client.get("/")) == {}, "the record is that of the new cookie"

    def test_it_deletes_the_cookie_of_nobody(self, client):
        refused = client.get("/_mercure/token")
        assert (refused.status_code, refused.headers["Cache-Control"]) == (401, "no-store")
        assert {name: value for name, (value, _) in cookies(refused).items()} == {HUB: "", RECORD: ""}

    def test_a_token_that_scripts_can_read_is_not_given_where_the_cookie_is_enough(self, app, client):
        client.post("/login/ada")
        assert client.get("/_mercure/token?token").status_code == 403
        app.debug = True
        assert client.get("/_mercure/token?token").status_code == 200

    def test_only_get_is_answered(self, client):
        assert client.post("/_mercure/token").status_code == 405


class TestFlaskLogin:
    @pytest.fixture
    def app(self, app):
        manager = LoginManager(app)

        class User(UserMixin):
            def __init__(self, id):
                self.id = id

        manager.user_loader(User)

        @app.post("/enter/<id>")
        def enter(id):
            login_user(User(id), remember="remember" in request.args)
            return jsonify(id=current_user.id)

        @app.post("/leave")
        def leave():
            logout_user()
            return "Bye."

        return app

    @pytest.fixture
    def mercure(self, app, mercure):
        @mercure.user_topics
        def topics_of_the_user():
            return [mercure.topic("/users/{}", current_user.id)] if current_user.is_authenticated else None

        return mercure

    def test_login_and_logout(self, client, token):
        assert granted(client.post("/enter/7"), token) == ["/users/7"]
        assert cookies(client.get("/")) == {}
        assert cookies(client.post("/leave"))[HUB][0] == ""
        assert cookies(client.get("/")) == {}

    @pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning")
    def test_a_remembered_user_has_the_cookie_again(self, client, token):
        client.post("/enter/7?remember")
        for name in ("session", RECORD):
            client.delete_cookie(name)
        assert granted(client.get("/"), token) == ["/users/7"]
        with client.session_transaction() as kept:
            assert kept["_user_id"] == "7", "Flask-Login has written it while the function was asked"

    def test_a_login_renews_the_cookie(self, client):
        client.post("/enter/7")
        assert set(cookies(client.post("/enter/7"))) == {HUB, RECORD}

    def test_a_logout_deletes_a_cookie_without_a_record(self, client):
        client.post("/enter/7")
        client.delete_cookie(RECORD)
        assert cookies(client.post("/leave"))[HUB][0] == ""


def jar(*responses):
    """The header of a browser that has received these cookies."""
    kept = {}
    for response in responses:
        for line in response.headers.get_all("Set-Cookie") or ():
            name, _, value = line.partition(";")[0].partition("=")
            kept[name] = value
    return {"Cookie": "; ".join(f"{name}={value}" for name, value in kept.items() if value)}


@pytest.mark.parametrize("where", ["embedded", "standalone"])
def test_private_updates_reach_the_user_and_nobody_after_the_logout(
    where, app, serve, open_stream, subscribe_url, standalone
):
    if where == "standalone":
        # Cookies do not know ports: another port of the same host is the same site.
        hub = standalone("--publisher-secret", SECRET, "--subscriber-secret", SECRET)
        app.config.update(MERCURE_HUB=False, MERCURE_HUB_URL=hub.hub)
    mercure = prepare(app, MercureSSE(app))
    url = serve(app)
    hub_url = hub.hub if where == "standalone" else url + HUB_PATH
    login = Request("POST", f"{url}/login/ada")
    reader = open_stream(subscribe_url(hub_url, "/users/ada"), jar(login))
    logout = Request("POST", f"{url}/logout", jar(login))
    late = open_stream(subscribe_url(hub_url, "/users/ada"), jar(login, logout))
    assert (reader.status, late.status) == (200, 200)
    mercure.publish("/users/ada", "for Ada", private=True)
    mercure.publish("/users/ada", "for everybody")
    # A stream that is open goes on until its token ends.
    assert [reader.event()["data"] for _ in range(2)] == ["for Ada", "for everybody"]
    assert late.event()["data"] == "for everybody"


class TestWhatTheFunctionReturns:
    @pytest.mark.parametrize(
        "made",
        [
            lambda: (f"/{name}" for name in "ab"),
            lambda: {"/a": 1, "/b": 2}.keys(),
            lambda: map(str, ["/a", "/b"]),
            lambda: ("/a", type("Topic", (), {"__mercure_sse_topic__": "/b"})()),
        ],
    )
    def test_whatever_yields_topics_will_do(self, made, mercure, client, token):
        mercure.user_topics(made)
        assert sorted(granted(client.get("/"), token)) == ["/a", "/b"]
        assert cookies(client.get("/")) == {}, "the record fits"

    @pytest.mark.parametrize("nobody", [None, (), "", False, 0])
    def test_nothing_is_nobody(self, nobody, mercure, client):
        mercure.user_topics(lambda: nobody)
        assert cookies(client.get("/")) == {}

    @pytest.mark.parametrize("wrong", [5, True, {"secret": 1}, [None], ["/a", 7], [["/a"]], object()])
    def test_what_is_no_topic_is_refused(self, wrong, app, mercure, client, caplog):
        mercure.user_topics(lambda: wrong)
        assert (client.get("/").text, cookies(client.get("/"))) == ("home", {})
        (first, _) = caplog.records
        assert str(first.exc_info[1]).startswith("user_topics: the function returns topics, each a text or ")
        assert "secret" not in str(first.exc_info[1])
        app.testing = True
        with pytest.raises(TypeError, match="user_topics: the function returns topics"):
            client.get("/")


class TestAFunctionThatFails:
    @pytest.fixture(params=["user_topics", "payload_getter"])
    def broken(self, request, app, mercure, client):
        client.post("/login/ada")

        def fail(*_):
            raise LookupError("no such user")

        getattr(mercure, request.param)(fail)

    def test_the_response_and_the_cookies_stay_as_they_are(self, broken, app, client, caplog):
        app.answer = lambda: ("taken", 409)
        response = client.get("/")
        assert (response.status_code, response.text, cookies(response)) == (409, "taken", {})
        (record,) = caplog.records
        assert record.getMessage() == "user_topics: the cookie of the current user stays as it is"
        assert isinstance(record.exc_info[1], LookupError)

    def test_a_test_sees_the_failure_unless_the_view_has_failed(self, broken, app, client):
        app.testing = True
        with pytest.raises(LookupError):
            client.get("/")
        app.answer = lambda: ("taken", 409)
        assert client.get("/").status_code == 409


class TestACookieThatIsTooLarge:
    """Browsers drop it, so it must not look as if it were there."""

    @pytest.fixture
    def topics(self, mercure):
        topics = [f"/groups/{number:050}" for number in range(90)]
        mercure.user_topics(lambda: topics)
        return topics

    def test_it_is_not_set_and_the_log_says_why(self, topics, client, token, caplog):
        assert [cookies(client.get("/")) for _ in range(2)] == [{}, {}]
        (record,) = caplog.records
        assert record.levelname == "ERROR"
        assert record.getMessage().startswith("user_topics: the cookie for 90 topics would have ")
        assert "Selector" in record.getMessage()

    def test_the_route_gives_a_token_in_its_place(self, topics, client, token):
        assert client.get("/_mercure/token").status_code == 400
        answer = client.get("/_mercure/token?token")
        assert token.claims(answer.json["token"])["mercure"]["subscribe"] == topics

    def test_the_cookie_before_it_is_deleted(self, topics, client):
        del topics[1:]
        assert set(cookies(client.get("/"))) == {HUB, RECORD}
        topics.extend(f"/groups/{number:050}" for number in range(90))
        assert {value for value, _ in cookies(client.get("/")).values()} == {""}
        assert cookies(client.get("/")) == {}

    def test_the_largest_has_the_bytes_that_browsers_keep(self, mercure, client):
        sizes = {}
        for length in range(2800, 3000):
            mercure.user_topics(lambda length=length: "/" + length * "a")
            lines = client.get("/").headers.getlist("Set-Cookie")
            client.delete_cookie(RECORD)
            sizes[length] = len(lines[0]) if lines else None
        assert max(filter(None, sizes.values())) in range(4088, 4094), "Werkzeug warns of a larger one"
        assert sizes[2800] is not None
        assert sizes[2999] is None

    def test_an_element_of_the_page_has_a_token(self, topics, app, client, token):
        app.answer = lambda: render_template_string("{{ mercure_turbo_stream(topic, private=True) }}", topic=topics[0])
        assert 'token="' in client.get("/").text


@pytest.mark.parametrize(
    ("name", "value", "is_shared"),
    [
        ("CDN-Cache-Control", "max-age=60", True),
        ("Cloudflare-CDN-Cache-Control", "max-age=60", True),
        ("Surrogate-Control", "max-age=60, stale-while-revalidate=30", True),
        ("X-Accel-Expires", "60", True),
        ("CDN-Cache-Control", "No-Store", False),
        ("X-Accel-Expires", "0", False),
        ("X-Accel-Expires", "off", False),
    ],
)
@pytest.mark.parametrize("control", [{}, {"Cache-Control": "private"}])
def test_what_only_shared_caches_read_counts(name, value, is_shared, control, app, mercure, client):
    mercure.user_topics(lambda: "/news")
    app.answer = lambda: Response("home", headers={name: value, **control})
    assert set(cookies(client.get("/"))) == (set() if is_shared else {HUB, RECORD})


@pytest.mark.parametrize("call", ["set_authz_cookie", "delete_authz_cookie"])
def test_after_a_view_with_its_own_cookie_the_next_response_has_that_of_the_user(call, app, mercure, client, token):
    client.post("/login/ada")
    app.answer = lambda: getattr(mercure, call)(Response(), topics=["/own"])
    own = client.get("/")
    assert (cookies(own)[RECORD][0], own.headers["Cache-Control"]) == ("", "private")
    app.answer = lambda: "home"
    assert granted(client.get("/"), token) == ["/users/ada"]
    assert cookies(client.get("/")) == {}


class TestRequestsOfPrograms:
    @pytest.fixture
    def mercure(self, app, mercure):
        """The user is that of the header, or that of the session."""
        mercure.user_topics(lambda: "/users/api" if "Authorization" in request.headers else session.get("topics"))
        app.add_url_rule("/enter", "enter", lambda: session.update(topics=["/users/ada"]) or "")
        return mercure

    def test_a_bearer_token_neither_sets_nor_deletes_the_cookie(self, client, token):
        api = {"Authorization": "Bearer x"}
        assert cookies(client.get("/", headers=api)) == {}
        assert granted(client.get("/enter"), token) == ["/users/ada"]
        assert cookies(client.get("/", headers=api)) == {}
        assert cookies(client.get("/")) == {}

    def test_what_browsers_send_by_themselves_is_no_program(self, client, token):
        assert granted(client.get("/", auth=("ada", "secret")), token) == ["/users/api"]


class TestElementsOfThePage:
    """A private stream that the user's cookie does not grant must not be deaf: its element has a token."""

    @pytest.fixture
    def element(self, app, mercure, client):
        client.post("/login/ada")

        def element(topics):
            app.answer = lambda: render_template_string(
                "{{ mercure_turbo_stream(topics, private=True) }}", topics=topics
            )
            return client.get("/").text

        return element

    @pytest.mark.parametrize("topics", ["/users/ada", ["/users/ada"], []])
    def test_the_cookie_is_enough_for_the_topics_of_the_user(self, topics, element):
        assert "token=" not in element(topics)

    @pytest.mark.parametrize("topics", ["/rooms/5", ["/users/ada", "/rooms/5"]])
    def test_others_have_a_token_for_these_topics(self, topics, element, token):
        (found,) = re.findall('token="(.*?)"', element(topics))
        assert token.claims(found)["mercure"]["subscribe"] == ([topics] if isinstance(topics, str) else topics)

    def test_a_user_of_everything_needs_none(self, mercure, element):
        mercure.user_topics(lambda: Selector("*"))
        assert "token=" not in element("/rooms/5")

    def test_nobody_has_one_if_the_template_says_so(self, element, client):
        client.post("/logout")
        assert "token=" in element("/users/ada")

    def test_a_function_that_fails_is_no_reason_to_fail(self, mercure, element):
        mercure.user_topics(lambda: session["no such name"])
        assert "token=" in element("/users/ada")

    def test_outside_of_a_request_no_token_is_made(self, app, mercure):
        app.config["SERVER_NAME"] = "app.example"
        with app.app_context():
            written = render_template_string("{{ mercure_turbo_stream('/users/ada', private=True) }}")
        assert "token=" not in written
