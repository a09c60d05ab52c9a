"""Talks to a WebSocket echo through a proxy and checks every message. Prints `ok NAME` per check.

Usage: websocket_client.py URL HOST MEBIBYTES [CA_FILE]
"""

import asyncio
import os
import ssl
import sys
from urllib.parse import urlsplit

from websockets.asyncio.client import connect

PIECE = 1 << 20
DEADLINE = 300


def expect(name, actual, wanted):
    if actual != wanted:
        sys.exit(f"{name}: got something else than was sent")


async def small(socket):
    for number in range(200):
        await socket.send(f"message {number}")
        expect("text", await socket.recv(), f"message {number}")
    await socket.send(b"\0\xff" * 10)
    expect("binary", await socket.recv(), b"\0\xff" * 10)


async def fragments(socket):
    await socket.send(["a", "b", "c"])
    expect("fragments", await socket.recv(), "abc")


async def ping(socket):
    await asyncio.wait_for(await socket.ping(), DEADLINE)


async def bulk(socket):
    piece = os.urandom(PIECE)
    count = int(sys.argv[3])

    async def send():
        for _ in range(count):
            await socket.send(piece)

    async def receive():
        for _ in range(count):
            expect("piece", await socket.recv(), piece)

    await asyncio.gather(send(), receive())


async def main():
    url, host = sys.argv[1:3]
    parts = urlsplit(url)
    tls = ssl.create_default_context(cafile=sys.argv[4]) if parts.scheme == "wss" else None
    options = {"server_hostname": host} if tls else {}
    # The host of the URL goes into the request; the connection goes to the address.
    async with connect(
        f"{parts.scheme}://{host}{parts.path}",
        host=parts.hostname, port=parts.port, ssl=tls, max_size=None, compression=None, proxy=None, **options,
    ) as socket:
        for check in (small, fragments, ping, bulk):
            await asyncio.wait_for(check(socket), DEADLINE)
            print("ok", check.__name__)


asyncio.run(main())
