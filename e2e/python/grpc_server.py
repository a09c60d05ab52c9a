"""A gRPC server without generated code: messages are plain bytes.

Usage: grpc_server.py PORT
"""

import sys
import time
from concurrent.futures import ThreadPoolExecutor

import grpc


def unary(request, context):
    metadata = dict(context.invocation_metadata())
    context.send_initial_metadata((("x-initial", "served"),))
    context.set_trailing_metadata((("x-trailer", metadata.get("x-request", "")),))
    return request


def fail(request, context):
    context.set_trailing_metadata((("x-trailer", "failed"),))
    context.abort(grpc.StatusCode.NOT_FOUND, "no such thing: " + request.decode())


def server_stream(request, context):
    for number in range(int(request)):
        yield str(number).encode()


def client_stream(requests, context):
    return str(sum(len(request) for request in requests)).encode()


def both_stream(requests, context):
    for request in requests:
        yield request


def hang(request, context):
    while context.is_active():
        time.sleep(0.05)
    return b""


def main():
    server = grpc.server(ThreadPoolExecutor(max_workers=16))
    server.add_generic_rpc_handlers((
        grpc.method_handlers_generic_handler("echo.Echo", {
            "Unary": grpc.unary_unary_rpc_method_handler(unary),
            "Fail": grpc.unary_unary_rpc_method_handler(fail),
            "Hang": grpc.unary_unary_rpc_method_handler(hang),
            "ServerStream": grpc.unary_stream_rpc_method_handler(server_stream),
            "ClientStream": grpc.stream_unary_rpc_method_handler(client_stream),
            "BothStream": grpc.stream_stream_rpc_method_handler(both_stream),
        }),
    ))
    if server.add_insecure_port(f"127.0.0.1:{sys.argv[1]}") == 0:
        sys.exit("cannot listen")
    server.start()
    server.wait_for_termination()


main()
