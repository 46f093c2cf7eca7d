"""Types of the compiled module: the petasos hub, its server and its token signer.

Everything here returns quickly: nothing waits for the network while it holds the interpreter.
"""

from collections.abc import Sequence
from typing import Final, Self, final

__all__ = [
    "Hub",
    "HubFailed",
    "HubStopped",
    "InvalidUpdate",
    "LogFull",
    "LogUnavailable",
    "NoRoom",
    "Server",
    "__version__",
    "check_key",
    "check_update",
    "end_process_after_drain",
    "expand_subscription_topic",
    "expand_subscriptions_path",
    "flush_lines",
    "print_line",
    "sign_token",
]

__version__: Final[str]

class InvalidUpdate(ValueError):
    """An update, topic, matcher or setting breaks a rule of the protocol; the message says which and what to change."""

class LogUnavailable(ConnectionError):
    """The store of the log does not answer. The update may or may not have been published; a later call may succeed."""

class LogFull(OSError):
    """The log has no room for the update: it was not published."""

class NoRoom(OSError):
    """The process has no room: it may open no more files or threads, or the hub may have no more connections. Nothing
    was published."""

class HubFailed(RuntimeError):
    """The log cannot be used, or the hub broke down while it started."""

class HubStopped(RuntimeError):
    """The hub has been stopped: it publishes nothing any more."""

@final
class Hub:
    """The hub inside this process.

    Making one starts nothing: the engine and its threads start at first use, in the process that uses it
    (a fork gets an engine of its own).
    """

    def __new__(
        cls,
        *,
        publisher_key: str | bytes | None = None,
        subscriber_key: str | bytes | None = None,
        anonymous: bool = True,
        subscriptions: bool = True,
        publish: bool = True,
        keep_alive: float = 15.0,
        history_max: int | None = None,
        cors_origins: Sequence[str] = ...,
        publish_origins: Sequence[str] = ...,
        cookie_name: str = ...,
        subscription_event_type: str | None = ...,
        cors_loopback_credentials: bool = False,
        public_url: str | None = None,
        transport: str | None = None,
        own_process: bool = False,
        exposed: bool = False,
    ) -> Self:
        """Check the settings.

        publisher_key, subscriber_key: HMAC secrets of the 0.x tokens; None refuses every token of that role. anonymous:
        whether a subscriber needs no token. subscriptions: whether subscription events and the API exist. publish:
        whether POST is answered (else 405). keep_alive: seconds between comments on an idle stream, 0 turns them off.
        history_max: how many updates are kept for reconnection; None: 500 in memory, 100,000 elsewhere. cors_origins:
        ("*",), or origins such as https://example.com and https://*.example.com; by default none. publish_origins:
        origins that may POST with the cookie, besides the hub's own; by default none. cookie_name: the cookie that may
        carry a token; by default mercureAuthorization.
        subscription_event_type: the type of subscription events; by default Subscription. cors_loopback_credentials:
        with ("*",), allow cookies where page and hub are both on loopback names, as in development. public_url: the
        hub's URL as clients know it: metadata is served under it, and 1.0 tokens name it as their audience; without it,
        they name http://localhost/.well-known/mercure. transport: where the log is, such as redis://localhost:6379;
        None: in memory. own_process: whether the hub has the process to itself; if so, the soft limit of open files is
        raised to the hard limit at the start. exposed: whether other machines reach the hub directly; if so, a secret
        that documentation publishes is refused. Nothing is opened before the first use.

        Raises InvalidUpdate (a ValueError) that names the setting.
        """

    @property
    def warnings(self) -> list[str]:
        """Warnings about arguments that work and are probably not meant. Each begins with the argument's name."""

    def publish(
        self,
        topics: str | Sequence[str],
        data: str = "",
        private: bool = False,
        id: str | None = None,
        type: str | None = None,
        retry: str | None = None,
    ) -> str:
        """Append one update to the log and return its id.

        topics: one, or several of which the first is the canonical one. retry: milliseconds, in digits.

        Raises InvalidUpdate, LogUnavailable, LogFull, NoRoom, HubFailed, HubStopped.
        """

    def submit(
        self,
        topics: str | Sequence[str],
        data: str = "",
        private: bool = False,
        id: str | None = None,
        type: str | None = None,
        retry: str | None = None,
    ) -> int:
        """Begin to append one update and return a file descriptor to read the outcome from: for those whose waiting
        must leave other greenlets alone.

        Until its end it gives "ok", a space and the id, or the name of an exception of publish, a space and its text.
        The caller owns the descriptor, which is in non-blocking mode. The arguments are those of publish.

        Raises InvalidUpdate, and what connect raises.
        """

    def connect(self) -> int:
        """Open one HTTP/1.1 connection to this hub and return the file descriptor of the client's end.

        The caller owns the descriptor: socket.socket(fileno=hub.connect()). It is one end of a Unix socket pair, in
        non-blocking mode. Raises NoRoom when the hub has no room for another connection, and what start raises.
        """

    def watch_subscriptions(self) -> int:
        """Open a stream of the subscription events that follow, and return the file descriptor to read it from.

        The events are in SSE format. The first comment says that the stream has begun; there is none while it is idle.
        It ends with the hub, or when the log is lost. It is no subscription itself. The caller owns the descriptor,
        which is in non-blocking mode. Raises what start raises.
        """

    def start(self) -> None:
        """Start the engine of this process now, if it does not run: what the first use of another method does.

        Raises LogUnavailable, NoRoom, HubFailed if the log cannot be used, HubStopped.
        """

    def stop(self) -> None:
        """End every stream and refuse what follows, in five seconds at the latest. Idempotent."""

@final
class Server:
    """A listening socket in front of a hub, served by threads of its own; no Python in the path of a message."""

    def __new__(cls, hub: Hub, host: str = "127.0.0.1", port: int = 0) -> Self:
        """Bind and begin to serve. Raises OSError when the address cannot be bound."""

    @property
    def host(self) -> str: ...
    @property
    def port(self) -> int:
        """The bound port; the system's choice when port was 0."""

    @property
    def streams_max(self) -> int:
        """The streams that may be open at once, which the limit of open files has room for."""

    def stop(self, drain_seconds: float = 5.0) -> None:
        """Stop accepting, end the hub's streams, wait at most that long for requests under way. Idempotent.

        It returns within two seconds after that time, also if the hub's log does not answer.
        """

def sign_token(claims: str, key: str | bytes, typ: str = "JWT") -> str:
    """Sign a JSON object as a JWS, with HS256 for a shared secret. typ: "at+jwt" for a token of protocol 1.0.

    Raises ValueError for an empty key or claims that are no JSON object.
    """

def print_line(line: str, *, error: bool = False) -> None:
    """Write one line to standard output, or to standard error. It neither waits nor fails: a line that the stream does
    not take is dropped.
    """

def flush_lines(seconds: float = 0.2) -> None:
    """Wait until printed and logged lines are written, for at most that time for each of the two streams.

    Raises ValueError for a negative number.
    """

def end_process_after_drain(drain_seconds: float, code: int) -> None:
    """End the process with that exit code 1.75 seconds after the drain, even if a part of it hangs: a thread does that
    which needs no interpreter. Raises ValueError for a negative number, OSError if the system has no thread left.
    """

def check_key(key: str | bytes) -> str | None:
    """Check a shared secret, or a public key in PEM, and start nothing.

    Returns why a secret is weak (it is short, or an example from documentation) and the remedy; None: it is not weak.

    Raises ValueError that says what to give instead, such as for a public key without its PEM lines, in any encoding.
    """

def check_update(
    topics: Sequence[str], data: str = "", *, id: str | None = None, type: str | None = None, retry: str | None = None
) -> None:
    """Check an update by the rules of the protocol and publish nothing. Raises InvalidUpdate."""

def expand_subscriptions_path(
    matcher: str | None = None, subscriber: str | None = None, match_type: str = "exact"
) -> str:
    """The path of subscriptions in the 1.0 API, every value percent-encoded once.

    Raises ValueError for a subscriber without a matcher, and for a match_type that is neither "exact" nor "urlpattern".

    >>> expand_subscriptions_path("https://example.com/:id", match_type="urlpattern")
    '/.well-known/mercure/subscriptions/urlpattern/https%3A%2F%2Fexample.com%2F%3Aid'
    """

def expand_subscription_topic(topic: str | None = None, subscriber: str | None = None) -> str:
    """The path of subscriptions in the 0.x API, every value percent-encoded once.

    Raises ValueError for a subscriber without a topic.

    >>> expand_subscription_topic("https://example.com/{id}")
    '/.well-known/mercure/subscriptions/https%3A%2F%2Fexample.com%2F%7Bid%7D'
    """
