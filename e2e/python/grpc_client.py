"""Calls grpc_server.py through a proxy and checks every answer, status and trailer. Prints `ok NAME` per check.

Usage: grpc_client.py ADDRESS HOST [CA_FILE]
"""

import queue
import sys

import grpc

DEADLINE = 20


def channel():
    address, host = sys.argv[1:3]
    if len(sys.argv) == 3:
        return grpc.insecure_channel(address, (("grpc.default_authority", host),))
    with open(sys.argv[3], "rb") as file:
        credentials = grpc.ssl_channel_credentials(file.read())
    return grpc.secure_channel(address, credentials, (("grpc.ssl_target_name_override", host),))


def expect(name, actual, wanted):
    if actual != wanted:
        sys.exit(f"{name}: {actual!r} instead of {wanted!r}")


def unary(channel):
    call = channel.unary_unary("/echo.Echo/Unary")
    answer, rpc = call.with_call(b"hello", timeout=DEADLINE, metadata=(("x-request", "one"),))
    expect("answer", answer, b"hello")
    expect("initial metadata", dict(rpc.initial_metadata()).get("x-initial"), "served")
    expect("trailer", dict(rpc.trailing_metadata()).get("x-trailer"), "one")
    big = bytes(range(256)) * 4096
    expect("1 MiB", call(big, timeout=DEADLINE), big)
    expect("empty", call(b"", timeout=DEADLINE), b"")


def failure(channel):
    try:
        channel.unary_unary("/echo.Echo/Fail")(b"x", timeout=DEADLINE)
    except grpc.RpcError as error:
        expect("code", error.code(), grpc.StatusCode.NOT_FOUND)
        expect("details", error.details(), "no such thing: x")
        expect("trailer", dict(error.trailing_metadata()).get("x-trailer"), "failed")
    else:
        sys.exit("a failing call succeeded")


def server_stream(channel):
    answers = list(channel.unary_stream("/echo.Echo/ServerStream")(b"1000", timeout=DEADLINE))
    expect("answers", answers, [str(number).encode() for number in range(1000)])


def client_stream(channel):
    messages = iter([b"x" * 1000] * 1000)
    expect("answer", channel.stream_unary("/echo.Echo/ClientStream")(messages, timeout=DEADLINE), b"1000000")


def both_stream(channel):
    """Each message is sent only after the answer to the one before: nothing may be held back."""
    messages = queue.Queue()
    answers = channel.stream_stream("/echo.Echo/BothStream")(iter(messages.get, None), timeout=DEADLINE)
    for number in range(200):
        messages.put(str(number).encode())
        expect("answer", next(answers), str(number).encode())
    messages.put(None)
    expect("rest", list(answers), [])


def deadline(channel):
    try:
        channel.unary_unary("/echo.Echo/Hang")(b"", timeout=0.5)
    except grpc.RpcError as error:
        expect("code", error.code(), grpc.StatusCode.DEADLINE_EXCEEDED)
    else:
        sys.exit("a call without end ended")


def main():
    with channel() as open_channel:
        for check in (unary, failure, server_stream, client_stream, both_stream, deadline):
            check(open_channel)
            print("ok", check.__name__)


main()
