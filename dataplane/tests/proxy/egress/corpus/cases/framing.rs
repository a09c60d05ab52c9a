//! Requests of HTTP/1 within and behind requests: fields that are read in two ways, fields that claim something, and several
//! requests on a connection, each of which is judged by itself.

table! {
    // Host.
    "two-hosts" Lines "GET / HTTP/1.1\nHost: allowed.example\nHost: evil.example\n{close}" => "400" Malformed bad_request,
        twin "GET / HTTP/1.1\nHost: allowed.example\nX-Host: evil.example\n{close}";
    "two-hosts-other-way" Lines "GET / HTTP/1.1\nHost: evil.example\nHost: allowed.example\n{close}" => "400" Malformed bad_request,
        twin "GET / HTTP/1.1\nX-Host: evil.example\nHost: allowed.example\n{close}";
    "two-hosts-alike" Lines "GET / HTTP/1.1\nHost: allowed.example\nhost: allowed.example\n{close}" => "400" Malformed bad_request,
        twin "GET / HTTP/1.1\nhOST: allowed.example\n{close}";
    "host-injected" Host "allowed.example\nHost: evil.example" => "400" Malformed bad_request, twin "allowed.example\nX-Host: evil.example";
    "host-injected-with-lf" Raw "GET / HTTP/1.1\r\nHost: allowed.example\nHost: evil.example\r\n\r\n" => "400" Malformed bad_request,
        twin "GET / HTTP/1.1\r\nHost: allowed.example\r\nConnection: close\r\n\r\n";
    "host-injected-into-the-target" Raw "GET http://allowed.example/\rHost:evil.example HTTP/1.1\r\nHost: allowed.example\r\n\r\n" => "400" Malformed bad_request,
        twin "GET http://allowed.example/Host:evil.example HTTP/1.1\r\nHost: allowed.example\r\nConnection: close\r\n\r\n";
    "host-with-comma" Host "allowed.example, evil.example" => "400" Malformed bad_request, twin "allowed.example";
    "host-folded" Lines "GET / HTTP/1.1\nHost: allowed.example\n evil.example\n{close}" => "400" Malformed bad_request,
        twin "GET / HTTP/1.1\nHost: allowed.example\nX-Folded: evil.example\n{close}";
    "field-folded" Lines "GET / HTTP/1.1\nHost: allowed.example\nX-A: b\n\tHost: evil.example\n{close}" => "400" Malformed bad_request,
        twin "GET / HTTP/1.1\nHost: allowed.example\nX-A: b\tHost: evil.example\n{close}";
    "first-field-folded" Lines "GET / HTTP/1.1\n Host: evil.example\nHost: allowed.example\n{close}" => "400" Malformed bad_request,
        twin "GET / HTTP/1.1\nHost: allowed.example\n{close}";
    "space-before-colon" Lines "GET / HTTP/1.1\nHost : evil.example\nHost: allowed.example\n{close}" => "400" Malformed bad_request,
        twin "GET / HTTP/1.1\nHost: allowed.example\n{close}";
    "tab-before-colon" Lines "GET / HTTP/1.1\nHost\t: allowed.example\n{close}" => "400" Malformed bad_request,
        twin "GET / HTTP/1.1\nHost:\tallowed.example\n{close}";
    "no-colon" Lines "GET / HTTP/1.1\nHost allowed.example\nHost: allowed.example\n{close}" => "400" Malformed bad_request,
        twin "GET / HTTP/1.1\nHost: allowed.example\n{close}";
    "nul-in-a-name" Lines "GET / HTTP/1.1\nHost\0: evil.example\nHost: allowed.example\n{close}" => "400" Malformed bad_request,
        twin "GET / HTTP/1.1\nHost: allowed.example\n{close}";
    "line-before-the-request" Raw "\nGET / HTTP/1.1\r\nHost: allowed.example\r\n\r\n" => "400" Malformed bad_request,
        twin "GET / HTTP/1.1\r\nHost: allowed.example\r\nConnection: close\r\n\r\n";
    "lines-without-cr" Raw "GET / HTTP/1.1\nHost: allowed.example\n\n" => "400" Malformed bad_request,
        twin "GET / HTTP/1.1\r\nHost: allowed.example\r\nConnection: close\r\n\r\n";
    "host-slowly" Lines "slowly GET / HTTP/1.1\nHost: evil.example:{port}\n{close}" => "403" Told host_not_listed,
        twin "slowly GET / HTTP/1.1\nHost: allowed.example:{port}\n{close}";
    // What a client claims beside Host decides nothing.
    "x-forwarded-host" Lines "GET / HTTP/1.1\nHost: evil.example:{port}\nX-Forwarded-Host: allowed.example\n{close}" => "403" Told host_not_listed,
        twin "GET / HTTP/1.1\nHost: allowed.example:{port}\nX-Forwarded-Host: evil.example\n{close}";
    "forwarded" Lines "GET / HTTP/1.1\nHost: evil.example:{port}\nForwarded: host=allowed.example\n{close}" => "403" Told host_not_listed,
        twin "GET / HTTP/1.1\nHost: allowed.example:{port}\nForwarded: host=evil.example\n{close}";
    "x-original-host" Lines "GET / HTTP/1.1\nHost: evil.example:{port}\nX-Original-Host: allowed.example\n{close}" => "403" Told host_not_listed,
        twin "GET / HTTP/1.1\nHost: allowed.example:{port}\nX-Original-Host: evil.example\n{close}";
    "x-host" Lines "GET / HTTP/1.1\nHost: evil.example:{port}\nX-Host: allowed.example\n{close}" => "403" Told host_not_listed,
        twin "GET / HTTP/1.1\nHost: allowed.example:{port}\nX-Host: evil.example\n{close}";
    "x-forwarded-server" Lines "GET / HTTP/1.1\nHost: evil.example:{port}\nX-Forwarded-Server: allowed.example\n{close}" => "403" Told host_not_listed,
        twin "GET / HTTP/1.1\nHost: allowed.example:{port}\nX-Forwarded-Server: evil.example\n{close}";
    "x-http-host-override" Lines "GET / HTTP/1.1\nHost: evil.example:{port}\nX-HTTP-Host-Override: allowed.example\n{close}" => "403" Told host_not_listed,
        twin "GET / HTTP/1.1\nHost: allowed.example:{port}\nX-HTTP-Host-Override: evil.example\n{close}";
    "x-original-url" Lines "GET /admin HTTP/1.1\nHost: files.example\nX-Original-URL: /public\n{close}" => "403" Told denied_by_policy,
        twin "GET /public HTTP/1.1\nHost: files.example\nX-Original-URL: /admin\n{close}";
    "x-rewrite-url" Lines "GET /admin HTTP/1.1\nHost: files.example\nX-Rewrite-URL: /public\n{close}" => "403" Told denied_by_policy,
        twin "GET /public HTTP/1.1\nHost: files.example\nX-Rewrite-URL: /admin\n{close}";
    "x-forwarded-for" Lines "GET / HTTP/1.1\nHost: own.example\nX-Forwarded-For: 127.0.0.3\n{close}" => "403" Told not_exported,
        twin "GET / HTTP/1.1\nHost: allowed.example\nX-Forwarded-For: 192.0.2.1\n{close}";
    "method-override" Lines "DELETE / HTTP/1.1\nHost: files.example\nX-HTTP-Method-Override: GET\n{close}" => "403" Told denied_by_policy,
        twin "GET / HTTP/1.1\nHost: files.example\nX-HTTP-Method-Override: DELETE\n{close}";
    "x-method-override" Lines "DELETE / HTTP/1.1\nHost: files.example\nX-Method-Override: GET\n{close}" => "403" Told denied_by_policy,
        twin "POST / HTTP/1.1\nHost: files.example\nX-Method-Override: DELETE\nContent-Length: 0\n{close}";
    "method-in-the-query" Absolute "http://evil.example:{port}/?_method=GET&host=allowed.example" => "403" Told host_not_listed,
        twin "http://allowed.example:{port}/?_method=CONNECT&host=evil.example";
    "referer-and-origin" Lines "GET / HTTP/1.1\nHost: evil.example:{port}\nOrigin: http://allowed.example\nReferer: http://allowed.example/\n{close}"
        => "403" Told host_not_listed,
        twin "GET / HTTP/1.1\nHost: allowed.example:{port}\nOrigin: http://evil.example\nReferer: http://evil.example/\n{close}";
    // What Connection may not take away.
    "connection-host" Lines "GET / HTTP/1.1\nHost: allowed.example\nConnection: close, host\n\n" => "400" Malformed bad_request,
        twin "GET / HTTP/1.1\nHost: allowed.example\nConnection: close, x-host\n\n";
    "connection-host-of-another" Lines "GET / HTTP/1.1\nHost: evil.example:{port}\nConnection: close, x-host\nX-Host: allowed.example\n\n"
        => "403" Told host_not_listed, twin "GET / HTTP/1.1\nHost: allowed.example:{port}\nConnection: close, x-host\nX-Host: evil.example\n\n";
    "connection-forwarded" Lines "GET / HTTP/1.1\nHost: allowed.example\nConnection: close, X-Forwarded-For\nX-Forwarded-For: 192.0.2.1\n\n"
        => "400" Malformed bad_request,
        twin "GET / HTTP/1.1\nHost: allowed.example\nConnection: close, X-Other\nX-Forwarded-For: 192.0.2.1\n\n";
    "connection-no-list" Lines "GET / HTTP/1.1\nHost: allowed.example\nConnection: close; host\n\n" => "400" Malformed bad_request,
        twin "GET / HTTP/1.1\nHost: allowed.example\nConnection: close, , te\n\n";
    "proxy-connection" Lines "GET http://evil.example:{port}/ HTTP/1.1\nHost: evil.example:{port}\nProxy-Connection: Host\n{close}" => "403" Told host_not_listed,
        twin "GET http://allowed.example:{port}/ HTTP/1.1\nHost: allowed.example:{port}\nProxy-Connection: Host\n{close}";
    // Methods.
    "trace" Lines "TRACE / HTTP/1.1\nHost: allowed.example\n{close}" => "405" Malformed method_not_allowed,
        twin "OPTIONS / HTTP/1.1\nHost: allowed.example\n{close}";
    "method-in-lower-case" Lines "delete / HTTP/1.1\nHost: files.example\n{close}" => "403" Told denied_by_policy,
        twin "get / HTTP/1.1\nHost: files.example\n{close}";
    "method-denied" Lines "DELETE / HTTP/1.1\nHost: files.example\n{close}" => "403" Told denied_by_policy,
        twin "PUT / HTTP/1.1\nHost: files.example\nContent-Length: 0\n{close}";
    "connect-in-small-letters" Lines "connect allowed.example:443 HTTP/1.1\nHost: allowed.example:443\n{close}" => "400" Malformed bad_request,
        twin "get / HTTP/1.1\nHost: allowed.example\n{close}";
    "get-in-small-letters" Lines "get http://evil.example:{port}/ HTTP/1.1\nHost: evil.example:{port}\n{close}" => "403" Told host_not_listed,
        twin "gEt http://allowed.example:{port}/ HTTP/1.1\nHost: allowed.example:{port}\n{close}";
    "method-with-a-tab" Lines "GE\tT / HTTP/1.1\nHost: allowed.example\n{close}" => "400" Malformed bad_request,
        twin "GE-T / HTTP/1.1\nHost: allowed.example\n{close}";
    "method-too-long" Lines "GETGETGETGETGETGETGETGETGETGETGETGET / HTTP/1.1\nHost: allowed.example\n{close}" => "400" Malformed bad_request,
        twin "GETGETGETGET / HTTP/1.1\nHost: allowed.example\n{close}";
    "websocket" Lines "GET /socket HTTP/1.1\nHost: evil.example:{port}\nConnection: upgrade\nUpgrade: websocket\nSec-WebSocket-Version: 13\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\n\nGET / HTTP/1.1\nHost: evil.example:{port}\n{close}"
        => "400" Malformed bad_request,
        twin "GET / HTTP/1.1\nHost: allowed.example:{port}\nConnection: upgrade, close\nUpgrade: websocket\nSec-WebSocket-Version: 13\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\n\n";
    "websocket-elsewhere" Lines "GET /socket HTTP/1.1\nHost: evil.example:{port}\nConnection: upgrade, close\nUpgrade: websocket\nSec-WebSocket-Version: 13\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\n\n"
        => "403" Told host_not_listed,
        twin "GET / HTTP/1.1\nHost: allowed.example:{port}\nConnection: upgrade, close\nUpgrade: websocket\nSec-WebSocket-Version: 13\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\n\n";
    // Several requests on a connection.
    "pipelined" Lines "GET / HTTP/1.1\nHost: allowed.example:{port}\n\nGET / HTTP/1.1\nHost: evil.example:{port}\n{close}" => "200 403" Told host_not_listed,
        twin "GET / HTTP/1.1\nHost: allowed.example:{port}\n\nGET / HTTP/1.1\nHost: other.example:{port}\n{close}";
    "pipelined-other-way" Lines "GET / HTTP/1.1\nHost: evil.example:{port}\n\nGET / HTTP/1.1\nHost: allowed.example:{port}\n{close}" => "403 200" Told host_not_listed,
        twin "GET / HTTP/1.1\nHost: other.example:{port}\n\nGET / HTTP/1.1\nHost: allowed.example:{port}\n{close}";
    "pipelined-absolute" Lines "GET http://allowed.example/ HTTP/1.1\nHost: allowed.example\n\nGET http://evil.example:{port}/ HTTP/1.1\nHost: evil.example:{port}\n{close}"
        => "200 403" Told host_not_listed,
        twin "GET http://allowed.example/ HTTP/1.1\nHost: allowed.example\n\nGET http://other.example/ HTTP/1.1\nHost: other.example\n{close}";
    "pipelined-mismatch" Lines "GET / HTTP/1.1\nHost: allowed.example\n\nGET http://evil.example/ HTTP/1.1\nHost: allowed.example\n{close}"
        => "200 400" Malformed bad_request,
        twin "GET / HTTP/1.1\nHost: allowed.example\n\nGET http://allowed.example/ HTTP/1.1\nHost: allowed.example\n{close}";
    "pipelined-behind-a-connect" Lines "CONNECT evil.example:443 HTTP/1.1\nHost: evil.example:443\n\nGET / HTTP/1.1\nHost: allowed.example\n{close}"
        => "403" Told host_not_listed,
        twin "GET / HTTP/1.1\nHost: allowed.example\n\nGET / HTTP/1.1\nHost: allowed.example\n{close}";
    "connect-behind-a-request" Lines "GET / HTTP/1.1\nHost: allowed.example\n\nCONNECT evil.example:443 HTTP/1.1\nHost: evil.example:443\n\n"
        => "200 403" Told host_not_listed,
        twin "GET / HTTP/1.1\nHost: allowed.example\n\nCONNECT allowed.example:443 HTTP/1.1\nHost: allowed.example:443\n\n{hello plain allowed.example}";
    "redirected" Lines "GET /redirect HTTP/1.1\nHost: allowed.example:{port}\n\nGET / HTTP/1.1\nHost: evil.example:{port}\n{close}" => "302 403" Told host_not_listed,
        twin "GET / HTTP/1.1\nHost: allowed.example:{port}\n\nGET / HTTP/1.1\nHost: other.example:{port}\n{close}";
    // Bodies that are requests, and requests that are bodies.
    "body-cut-short" Lines "POST / HTTP/1.1\nHost: allowed.example\nContent-Length: 0\n\nGET / HTTP/1.1\nHost: evil.example\n{close}" => "200 403" Told host_not_listed,
        twin "POST / HTTP/1.1\nHost: allowed.example\nContent-Length: 38\nConnection: close\n\nGET / HTTP/1.1\nHost: evil.example\n\n";
    "get-with-a-request-behind" Lines "GET / HTTP/1.1\nHost: allowed.example\n\nGET http://evil.example/ HTTP/1.1\nHost: evil.example\n{close}"
        => "200 403" Told host_not_listed,
        twin "GET / HTTP/1.1\nHost: allowed.example\nContent-Length: 57\nConnection: close\n\nGET http://evil.example/ HTTP/1.1\nHost: evil.example\n\n";
    "chunked-with-a-request-behind" Lines "POST / HTTP/1.1\nHost: allowed.example\nTransfer-Encoding: chunked\n\n0\n\nGET / HTTP/1.1\nHost: evil.example\n{close}"
        => "200 403" Told host_not_listed,
        twin "POST / HTTP/1.1\nHost: allowed.example\nTransfer-Encoding: chunked\nConnection: close\n\n26\nGET / HTTP/1.1\nHost: evil.example\n\n\n0\n\n";
    "length-and-chunked" Lines "POST / HTTP/1.1\nHost: allowed.example\nContent-Length: 5\nTransfer-Encoding: chunked\n\n0\n\nGET / HTTP/1.1\nHost: evil.example\n{close}"
        => "400" Malformed bad_request, twin "POST / HTTP/1.1\nHost: allowed.example\nTransfer-Encoding: chunked\nConnection: close\n\n0\n\n";
    "chunked-and-length" Lines "POST / HTTP/1.1\nHost: allowed.example\nTransfer-Encoding: chunked\nContent-Length: 0\n\n0\n\n" => "400" Malformed bad_request,
        twin "POST / HTTP/1.1\nHost: allowed.example\nContent-Length: 5\nConnection: close\n\n0\n\n";
    "two-lengths" Lines "POST / HTTP/1.1\nHost: allowed.example\nContent-Length: 0\nContent-Length: 38\n\nGET / HTTP/1.1\nHost: evil.example\n\n"
        => "400" Malformed bad_request,
        twin "POST / HTTP/1.1\nHost: allowed.example\nContent-Length: 38\nConnection: close\n\nGET / HTTP/1.1\nHost: evil.example\n\n";
    "length-list" Lines "POST / HTTP/1.1\nHost: allowed.example\nContent-Length: 0, 0\n\n" => "400" Malformed bad_request,
        twin "POST / HTTP/1.1\nHost: allowed.example\nContent-Length: 0\n{close}";
    "length-with-plus" Lines "POST / HTTP/1.1\nHost: allowed.example\nContent-Length: +1\n\nx" => "400" Malformed bad_request,
        twin "POST / HTTP/1.1\nHost: allowed.example\nContent-Length: 1\nConnection: close\n\nx";
    "length-hexadecimal" Lines "POST / HTTP/1.1\nHost: allowed.example\nContent-Length: 0x1\n\nx" => "400" Malformed bad_request,
        twin "POST / HTTP/1.1\nHost: allowed.example\nContent-Length: 01\nConnection: close\n\nx";
    "coding-unknown" Lines "POST / HTTP/1.1\nHost: allowed.example\nTransfer-Encoding: xchunked\n\n0\n\n" => "400" Malformed bad_request,
        twin "POST / HTTP/1.1\nHost: allowed.example\nTransfer-Encoding: Chunked\nConnection: close\n\n0\n\n";
    "coding-twice" Lines "POST / HTTP/1.1\nHost: allowed.example\nTransfer-Encoding: chunked\nTransfer-Encoding: identity\n\n0\n\n" => "400" Malformed bad_request,
        twin "POST / HTTP/1.1\nHost: allowed.example\nTransfer-Encoding: chunked\nConnection: close\n\n0\n\n";
    "coding-before-chunked" Lines "POST / HTTP/1.1\nHost: allowed.example\nTransfer-Encoding: gzip, chunked\n\n0\n\n" => "501" Malformed not_implemented,
        twin "POST / HTTP/1.1\nHost: allowed.example\nTransfer-Encoding: chunked\nContent-Encoding: gzip\nConnection: close\n\n0\n\n";
    "coding-with-space" Lines "POST / HTTP/1.1\nHost: allowed.example\nTransfer-Encoding : chunked\nContent-Length: 5\n\n0\n\n" => "400" Malformed bad_request,
        twin "POST / HTTP/1.1\nHost: allowed.example\nContent-Length: 5\nConnection: close\n\n0\n\n";
    "coding-with-vertical-tab" Lines "POST / HTTP/1.1\nHost: allowed.example\nTransfer-Encoding: \u{b}chunked\n\n0\n\n" => "400" Malformed bad_request,
        twin "POST / HTTP/1.1\nHost: allowed.example\nTransfer-Encoding: \tchunked\nConnection: close\n\n0\n\n";
    "coding-before-1-1" Lines "POST / HTTP/1.0\nHost: allowed.example\nTransfer-Encoding: chunked\n\n0\n\n" => "400" Malformed bad_request,
        twin "POST / HTTP/1.0\nHost: allowed.example\nContent-Length: 5\n\n0\n\n";
    "body-is-a-greeting" Lines "POST / HTTP/1.1\nHost: evil.example:{port}\nContent-Length: 3\nConnection: close\n\n{x 16 03 01}" => "403" Told host_not_listed,
        twin "POST / HTTP/1.1\nHost: allowed.example:{port}\nContent-Length: 3\nConnection: close\n\n{x 16 03 01}";
}
