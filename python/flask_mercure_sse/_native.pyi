"""Types of the compiled module: the petasos hub, its server and its token signer.

No call holds the interpreter while it waits.
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
    "after_fork",
    "before_fork",
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
"""The version of the package, which is that of the hub in it."""

class InvalidUpdate(ValueError):
    """An update, topic, matcher or setting breaks a rule of the protocol; the message says which and what to change."""

class LogUnavailable(ConnectionError):
    """The store of the log does not answer. The update may or may not have been published; a later call may succeed."""

class LogFull(OSError):
    """The log has no room for the update: it was not published."""

class NoRoom(OSError):
    """The process has no room: it may open no more files or threads, the hub may have no more connections, or too many
    bytes of updates wait for the store of the log. Nothing was published."""

class HubFailed(RuntimeError):
    """The log cannot be used, or the hub has failed. The next use starts the hub again."""

class HubStopped(RuntimeError):
    """The hub has been stopped, and publishes no more."""

@final
class Hub:
    """The hub inside this process.

    Making one starts nothing. The engine and its threads start at first use, in the process that uses them: a forked
    process has an engine of its own.
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
        retry: float = 3.0,
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
        """Check the settings. Nothing is opened before the first use.

        Args:
            publisher_key, subscriber_key: verify the tokens of that role: a shared secret, or a public key in PEM.
                None: every token of that role is refused.
            anonymous: whether a subscriber needs no token.
            subscriptions: whether the hub publishes subscription events and serves the subscriptions API.
            publish: whether POST is accepted; otherwise it is answered 405.
            keep_alive: seconds between signs of life on an idle stream; 0: none.
            retry: seconds that browsers wait before they connect again, a tenth more or less; 0: as they like.
            history_max: updates that are kept for reconnections; None: 500 in memory, 100,000 in another log.
            cors_origins: origins whose pages may subscribe: ("*",), or origins such as https://example.com and
                https://*.example.com. By default none.
            publish_origins: origins that may POST with the cookie, besides the hub's own. By default none.
            cookie_name: the cookie that may carry a token. By default mercureAuthorization.
            subscription_event_type: the type of subscription events. By default Subscription.
            cors_loopback_credentials: whether, with ("*",), cookies are allowed where page and hub both have loopback
                names, as in development.
            public_url: the hub's URL as clients know it. The hub serves its metadata under it, and it is the audience
                of 1.0 tokens. None: the audience is http://localhost/.well-known/mercure.
            transport: where the log is, such as redis://localhost:6379. None: in memory.
            own_process: whether the process does nothing else. Then the soft limit of open files is raised to the hard
                limit at the start.
            exposed: whether other machines reach the hub directly. Then secrets that documentation publishes are
                refused.

        Raises:
            InvalidUpdate: a setting cannot be used; the message names it.
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

        Args:
            topics: a topic, or several: the first is the canonical one.
            retry: milliseconds, in digits.

        Raises:
            InvalidUpdate: the update breaks a rule.
            LogUnavailable: the store of the log does not answer. The update may or may not have been published.
            LogFull: the log has no room.
            NoRoom: the process has no room, or 64 MiB of updates wait for the store already.
            HubFailed, HubStopped: as start.
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
        """Begin to append one update, and return a file descriptor from which the outcome can be read: a greenlet can
        wait for it while other greenlets run.

        Until its end, the descriptor yields "ok", a space and the id; or the name of an exception of publish, a space
        and its text. It is in non-blocking mode, and the caller owns it. The arguments are those of publish.

        Raises:
            InvalidUpdate: the update breaks a rule.
            NoRoom: as publish.
            LogUnavailable, HubFailed, HubStopped: as start.
        """

    def connect(self, *, may_pass_client: bool = False) -> int:
        """Open one HTTP/1.1 connection to this hub, and return the file descriptor of the client's end.

        Args:
            may_pass_client: if an answer is a stream, the hub sends its head and then waits for one of three things,
                for a minute at most. A message with another head and two descriptors (SCM_RIGHTS): the hub writes that
                head and the stream to the first one, and discards what it reads from the second one. A byte without
                descriptors: the stream follows on this connection. The end of this connection. The first call raises
                the soft limit of open files to the hard one.

        The caller owns the descriptor: socket.socket(fileno=hub.connect()). It is one end of a Unix socket pair, in
        non-blocking mode.

        Raises:
            NoRoom: the hub has no room for another connection.
            LogUnavailable, HubFailed, HubStopped: as start.
        """

    def end_passed(self) -> None:
        """Begin to end the streams of passed clients, once they have what has been published. The hub goes on.

        Raises:
            LogUnavailable, NoRoom, HubFailed, HubStopped: as start.
        """

    def watch_subscriptions(self) -> int:
        """Open a stream of the subscription events that follow, and return the file descriptor from which to read it.

        The events are in SSE format. The stream begins with a comment, and has no other comments. It ends with the hub.
        The stream is no subscription itself. The descriptor is in non-blocking mode, and the caller owns it.

        Raises:
            NoRoom, LogUnavailable, HubFailed, HubStopped: as start.
        """

    def last_event_id(self) -> str:
        """The id of the newest update, to begin a stream after it; "earliest" if there is none.

        No store is asked. If the log is in a store, the update is the newest that this process has delivered, which may
        be some milliseconds old.

        Raises:
            LogUnavailable, NoRoom, HubFailed, HubStopped: as start.
        """

    def metrics(self) -> str | None:
        """The metrics of the hub, in the text format of Prometheus. None: it does not run in this process.

        It waits a tenth of a second at most, for a look at the log.

        >>> print(Hub().metrics())
        None
        """

    def start(self) -> None:
        """Start the engine of this process now, unless it runs. The first use of another method does the same.

        Raises:
            LogUnavailable: the store of the log does not answer.
            NoRoom: the process may open no more files or threads.
            HubFailed: the log cannot be used, or the hub broke down while it started.
            HubStopped: the hub has been stopped.
        """

    def stop(self) -> None:
        """End every stream and refuse every later call. Returns after five seconds at the latest. Idempotent."""

@final
class Server:
    """A listening socket in front of a hub, served by the engine's threads: no Python is in the path of a message."""

    def __new__(cls, hub: Hub, host: str = "127.0.0.1", port: int = 0) -> Self:
        """Bind the address and begin to serve.

        Args:
            port: 0: the system chooses a free port.

        Raises:
            OSError: the address cannot be bound.
            LogUnavailable, NoRoom, HubFailed, HubStopped: as Hub.start.
        """

    @property
    def host(self) -> str: ...
    @property
    def port(self) -> int:
        """The bound port."""

    @property
    def streams_max(self) -> int:
        """How many streams may be open at once: as many as the limit of open files has room for."""

    def wait_until_hub_fails(self) -> None:
        """Wait until the hub has failed: it delivers nothing any more. Never returns if the hub does not fail.

        For a process that is only a hub, which ends then. A server does not start the hub again.
        """

    def stop(self, drain_seconds: float = 5.0) -> None:
        """Stop accepting, end the hub's streams, and let requests finish for at most drain_seconds. Idempotent.

        Returns within two seconds after that time, even if the store of the log does not answer.
        """

def sign_token(claims: str, key: str | bytes, typ: str = "JWT") -> str:
    """Sign a JSON object as a JWS, with HS256 if the key is a shared secret.

    Args:
        key: a shared secret, or a private key in PEM.
        typ: "at+jwt" for a token of protocol 1.0.

    Raises:
        ValueError: the key is empty or cannot sign, or the claims are no JSON object.
    """

def print_line(line: str, *, error: bool = False) -> None:
    """Write one line to standard output, or to standard error. Never waits and never fails: a line for which the stream
    has no room is dropped.
    """

def flush_lines(seconds: float = 0.2) -> None:
    """Wait until printed and logged lines are written, for at most that time for each of the two streams.

    Raises:
        ValueError: the number is negative.
    """

def end_process_after_drain(drain_seconds: float, code: int) -> None:
    """End the process with that exit code 1.75 seconds after the drain, even if a part of it hangs: a thread that needs
    no interpreter ends it.

    Raises:
        ValueError: the number is negative.
        OSError: the system has no thread left.
    """

def before_fork() -> None:
    """Before this process forks: wait until no thread of its hubs holds a lock that the child would find held for ever.
    Until :func:`after_fork`, none takes one."""

def after_fork() -> None:
    """After a fork, in both processes and on the thread that has called :func:`before_fork`: go on."""

def check_key(key: str | bytes) -> str | None:
    """Check a shared secret, or a public key in PEM, and start nothing.

    Returns why a secret is weak (it is short, or an example from documentation) and the remedy. None: it is not weak.

    Raises:
        ValueError: the hub does not take the key, such as a public key without its PEM lines in whatever encoding. The
            message says what to give instead.
    """

def check_update(
    topics: Sequence[str], data: str = "", *, id: str | None = None, type: str | None = None, retry: str | None = None
) -> None:
    """Check an update by the rules of the protocol, and publish nothing.

    Raises:
        InvalidUpdate: the update breaks a rule.
    """

def expand_subscriptions_path(
    matcher: str | None = None, subscriber: str | None = None, match_type: str = "exact"
) -> str:
    """The path of subscriptions in the 1.0 API, every value percent-encoded once.

    Raises:
        ValueError: a subscriber without a matcher, or a match_type that is neither "exact" nor "urlpattern".

    >>> expand_subscriptions_path("https://example.com/:id", match_type="urlpattern")
    '/.well-known/mercure/subscriptions/urlpattern/https%3A%2F%2Fexample.com%2F%3Aid'
    """

def expand_subscription_topic(topic: str | None = None, subscriber: str | None = None) -> str:
    """The path of subscriptions in the 0.x API, every value percent-encoded once.

    Raises:
        ValueError: a subscriber without a topic.

    >>> expand_subscription_topic("https://example.com/{id}")
    '/.well-known/mercure/subscriptions/https%3A%2F%2Fexample.com%2F%7Bid%7D'
    """
