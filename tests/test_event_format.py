"""The parser of event streams reads all line ends as the standard says, and a stream that is cut anywhere."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from flask_mercure_sse import Event, HubError, sse
from flask_mercure_sse.sse import RETRY_SECONDS_MAX, Parser


def by_the_standard(stream: bytes) -> tuple[list[Event], str, float | None]:
    """The HTML standard, "Parsing an event stream" and "Interpreting an event stream", step by step on a whole stream.

    Returns the events, the last event ID, and the reconnection time in seconds.
    """
    text = stream.decode(errors="replace").removeprefix("\ufeff")
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    lines.pop()  # The end of the stream ends no line.
    data = event_type = last_event_id = published_id = ""
    found, retry = [], None
    for line in lines:
        if line == "":
            published_id = last_event_id
            if data != "":
                found.append(Event(published_id, event_type or "message", data[:-1]))
            data = event_type = ""
            continue
        if line.startswith(":"):
            continue
        field, value = line, ""
        if ":" in line:
            field, value = line.split(":", 1)
            value = value[1:] if value.startswith(" ") else value
        if field == "event":
            event_type = value
        elif field == "data":
            data += value + "\n"
        elif field == "id" and "\0" not in value:
            last_event_id = value
        elif field == "retry" and value and all(character in "0123456789" for character in value):
            retry = int(value) / 1000
    return found, published_id, retry


def parsed(parts):
    parser = Parser()
    return [event for part in parts for event in parser.feed(part)], parser.last_event_id, parser.retry


def cut(stream, places):
    """The stream in parts, some of them empty."""
    ends = sorted(place % (len(stream) + 1) for place in places)
    return [stream[start:end] for start, end in zip([0, *ends], [*ends, len(stream)], strict=True)]


line_ends = st.sampled_from([b"\n", b"\r", b"\r\n"])
values = st.one_of(
    st.text(max_size=6).map(lambda text: text.encode(errors="replace")),
    st.binary(max_size=6),
    st.sampled_from(
        [b"", b" ", b"  x", b":", b"a\0b", b"17", b"007", b"-1", b"\xc2\xb2", b"\xef\xbb\xbf", "é€😀".encode()]
    ),
)
fields = st.sampled_from(
    [b"data", b"data", b"id", b"event", b"retry", b"", b"other", b" data", b"Data", b"\xef\xbb\xbfdata"]
)
lines = st.one_of(
    st.builds(lambda field, colon, value: field + colon + value, fields, st.sampled_from([b":", b": "]), values),
    fields,
    st.just(b""),
)
streams = st.builds(
    lambda start, pairs, rest: start + b"".join(line + end for line, end in pairs) + rest,
    st.sampled_from([b"", b"", b"\xef\xbb\xbf", b"\xef\xbb\xbf\xef\xbb\xbf"]),
    st.lists(st.tuples(lines, line_ends), max_size=12),
    lines,
)


@settings(max_examples=1000, deadline=None)
@given(st.one_of(streams, st.binary(max_size=80)), st.lists(st.integers(0, 1000), max_size=12))
@example(b"data: a\r\n\n", list(range(9)))
@example(b"data: a\r\n\r\ndata: b\r\r\n", list(range(24)))
@example(b"\xef\xbb\xbfdata: \xe2\x82\xac\n\n", list(range(16)))
def test_any_stream_cut_anywhere_is_read_as_the_standard_says(stream, places):
    found, last_event_id, retry = by_the_standard(stream)
    expected = found, last_event_id, retry if retry is None else min(retry, RETRY_SECONDS_MAX)
    assert parsed([stream]) == expected
    assert parsed(cut(stream, places)) == expected
    assert parsed([stream[at : at + 1] for at in range(len(stream))]) == expected


@pytest.mark.parametrize(("digits", "seconds"), [("0" * 40 + "2000", 2), ("9" * 5000, RETRY_SECONDS_MAX), ("0", 0)])
def test_a_pause_may_have_any_number_of_digits(digits, seconds):
    assert parsed([f"retry: {digits}\n".encode()])[2] == seconds


def test_comments_between_lines_of_data_do_not_lift_the_limit(monkeypatch):
    monkeypatch.setattr(sse, "EVENT_BYTES_MAX", 100)
    with pytest.raises(HubError, match="more than 100 bytes"):
        parsed([b"data: " + b"x" * 10 + b"\n:\n"] * 20)
