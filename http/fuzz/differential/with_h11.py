#!/usr/bin/env python3
"""The same bytes to us and to Python's h11. Reads what `differential COUNT SEED dump` writes.

    cargo run --release -p annulet-http-differential -- 200000 1 dump | differential/with_h11.py

Needs h11 (pip install h11). Each class of difference must stand in differences.md.
"""

import pathlib
import sys

import h11

JUDGED = (pathlib.Path(__file__).resolve().parent.parent / "differences.md").read_text()


def hear(data):
    """A list of ("request", method, target, body), then one of ("refuses: …",), ("goes on",), ("has closed",)."""
    # As much as we take of a head.
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=16 * 1024)
    events = []
    method, target, body = None, b"", b""
    try:
        connection.receive_data(data)
        connection.receive_data(b"")
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Request):
                method, target, body = event.method.decode("ascii"), target_of(event), b""
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                events.append(("request", method, target, body))
                # A 2xx to CONNECT would turn the connection into a tunnel.
                status = 501 if method == "CONNECT" else 200
                connection.send(h11.Response(status_code=status, headers=[("content-length", "0")]))
                connection.send(h11.EndOfMessage())
                if connection.our_state is not h11.DONE or connection.their_state is not h11.DONE:
                    return events + [("has closed",)]
                connection.start_next_cycle()
            elif event is h11.PAUSED:
                # It switches protocols, or would like to.
                return events + [("has closed",)]
            else:
                # No more data, or the end between two requests.
                return events + [("goes on",)]
    except h11.RemoteProtocolError as error:
        said = str(error)
        if "peer unexpectedly closed connection" in said or "peer closed connection without sending" in said:
            return events + [("goes on",)]
        return events + [(f"refuses: {reason(said)}",)]


def target_of(request):
    """The host of the target, or of the Host field, then path and query."""
    target = bytes(request.target)
    scheme, mark, rest = target.partition(b"://")
    if mark and scheme.isalpha():
        end = min((at for at in (rest.find(b"/"), rest.find(b"?")) if at >= 0), default=len(rest))
        target = rest[end:]
        return rest[:end] + b" " + (target if target.startswith(b"/") else b"/" + target)
    return dict(request.headers).get(b"host", b"") + b" " + target


def reason(said):
    """A message without what is quoted in it."""
    for mark in ("b'", 'b"', "bytearray", " {", ": '"):
        said = said.partition(mark)[0]
    return said.strip(" :")


def ours(fields):
    events = []
    for field in fields:
        if field.startswith("request "):
            _, method, target, body = field.split(" ", 3)
            events.append(("request", method, bytes.fromhex(target), bytes.fromhex(body)))
        else:
            events.append((field,))
    return events


def difference(ours, theirs):
    for one, other in zip(ours, theirs):
        if one == other:
            continue
        if one[0].startswith("refuses") and other[0].startswith("refuses"):
            return None
        # Between two requests and behind the last are both the end.
        if {one[0], other[0]} == {"goes on", "has closed"}:
            return None
        if other[0] == "has closed":
            return "annulet hears on, h11 has closed"
        if one[0] == other[0] == "request":
            if (one[1], one[3]) == (other[1], other[3]):
                return "the same request is for somebody else to h11"
            return "another request is heard by h11"
        say = {"request": "goes on"}
        return f"annulet {say.get(one[0], one[0])}, h11 {say.get(other[0], other[0])}"
    return None


def main():
    classes, count = {}, 0
    for line in sys.stdin:
        if "\t" not in line:
            # What the other program says at its end.
            continue
        data, *fields = line.rstrip("\n").split("\t")
        data = bytes.fromhex(data)
        count += 1
        found = difference(ours(fields), hear(data))
        if found:
            seen, example = classes.get(found, (0, data))
            classes[found] = (seen + 1, min(example, data, key=len))
    unknown = 0
    for name, (seen, example) in sorted(classes.items()):
        is_judged = f"`{name}`" in JUDGED
        unknown += not is_judged
        print(f"{'judged' if is_judged else 'NOT JUDGED'}: {name}: {seen} times, such as {example!r}")
    print(f"{count} inputs, {len(classes)} classes of difference, {unknown} not judged")
    return 1 if unknown else 0


if __name__ == "__main__":
    sys.exit(main())
