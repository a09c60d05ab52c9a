//! HTTP/2: each request of a connection is judged by itself, and what it names is read in one way or not at all.

table! {
    "http2-not-listed" Http2 "GET http evil.example:{port} /" => "403" Told host_not_listed, twin "GET http allowed.example:{port} /";
    "http2-in-capitals" Http2 "GET http EVIL.example:{port} /" => "403" Told host_not_listed, twin "GET http ALLOWED.example.:{port} /";
    "http2-two-dots" Http2 "GET http allowed.example.. /" => "400" Told bad_destination, twin "GET http allowed.example. /";
    "http2-coalesced" Http2 "GET http allowed.example:{port} /\nthen\nGET http evil.example:{port} /" => "200 403" Told host_not_listed,
        twin "GET http allowed.example:{port} /\nthen\nGET http other.example:{port} /";
    "http2-coalesced-other-way" Http2 "GET http evil.example:{port} /\nthen\nGET http allowed.example:{port} /" => "403 200" Told host_not_listed,
        twin "GET http other.example:{port} /\nthen\nGET http allowed.example:{port} /";
    "http2-redirected" Http2 "GET http allowed.example:{port} /redirect\nthen\nGET http evil.example:{port} /" => "302 403" Told host_not_listed,
        twin "GET http allowed.example:{port} /\nthen\nGET http allowed.example:{port} /";
    "http2-authority-against-host" Http2 "GET http allowed.example /\nhost: evil.example" => "400" Malformed bad_request,
        twin "GET http allowed.example /\nhost: ALLOWED.example";
    "http2-host-against-authority" Http2 "GET http evil.example /\nhost: allowed.example" => "400" Malformed bad_request,
        twin "GET http allowed.example /\nhost: allowed.example";
    "http2-port-against-host" Http2 "GET http allowed.example:{port} /\nhost: allowed.example" => "400" Malformed bad_request,
        twin "GET http allowed.example:{port} /\nhost: allowed.example:{port}";
    "http2-two-hosts" Http2 "GET http - /\nhost: allowed.example\nhost: evil.example" => "400" Malformed bad_request,
        twin "GET http - /\nhost: allowed.example";
    "http2-host-only" Http2 "GET http - /\nhost: evil.example:{port}" => "403" Told host_not_listed,
        twin "GET http - /\nhost: allowed.example:{port}";
    "http2-nobody-named" Http2 "GET http - /" => "400" Malformed bad_request, twin "GET http allowed.example /";
    "http2-two-authorities" Http2 "GET http allowed.example /\n:authority: evil.example" => "reset" Malformed none, twin "GET http allowed.example /";
    "http2-authority-late" Http2 "GET http - /\nhost: allowed.example\n:authority: evil.example" => "reset" Malformed none,
        twin "GET http - /\n:authority: allowed.example\nhost: allowed.example";
    "http2-user" Http2 "GET http allowed.example@evil.example /" => "400" Malformed bad_request, twin "GET http allowed.example /@evil.example";
    "http2-percent" Http2 "GET http allowed%2eexample /" => "reset" Malformed none, twin "GET http allowed.example /%2eexample";
    "http2-slash-in-authority" Http2 "GET http evil.example/.allowed.example /" => "reset" Malformed none, twin "GET http allowed.example /";
    "http2-nul-in-authority" Http2 "GET http allowed.example\0.evil.example /" => "reset" Malformed none, twin "GET http allowed.example /";
    "http2-claims" Http2 "GET http evil.example:{port} /\nx-forwarded-host: allowed.example\nforwarded: host=allowed.example" => "403" Told host_not_listed,
        twin "GET http allowed.example:{port} /\nx-forwarded-host: evil.example\nforwarded: host=evil.example";
    "http2-method-override" Http2 "DELETE http files.example /\nx-http-method-override: GET" => "403" Told denied_by_policy,
        twin "GET http files.example /\nx-http-method-override: DELETE";
    "http2-path-denied" Http2 "GET http files.example /public/../admin" => "403" Told denied_by_policy, twin "GET http files.example /admin/../public";
    // Pseudo-header fields.
    "http2-scheme-https" Http2 "GET https allowed.example /" => "403" Told protocol_not_listed, twin "GET http allowed.example /";
    "http2-scheme-https-in-capitals" Http2 "GET HTTPS allowed.example /" => "403" Told protocol_not_listed, twin "GET HTTP allowed.example /";
    "http2-scheme-ftp" Http2 "GET ftp allowed.example /" => "400" Malformed bad_request, twin "GET http allowed.example /";
    "http2-scheme-gopher" Http2 "GET gopher allowed.example:80 /" => "400" Malformed bad_request, twin "GET http allowed.example:80 /";
    "http2-scheme-missing" Http2 "GET - allowed.example /" => "reset" Malformed none, twin "GET http allowed.example /";
    "http2-scheme-of-a-host" Http2 "GET http://evil.example/? allowed.example /" => "reset" Malformed none, twin "GET http allowed.example /";
    "http2-path-absolute" Http2 "GET http allowed.example http://evil.example/" => "reset" Malformed none,
        twin "GET http allowed.example /http://evil.example/";
    "http2-path-without-slash" Http2 "GET http allowed.example evil.example" => "reset" Malformed none, twin "GET http allowed.example /evil.example";
    "http2-path-with-user" Http2 "GET http allowed.example @evil.example/" => "reset" Malformed none, twin "GET http allowed.example /@evil.example/";
    "http2-path-empty" Http2 "GET http allowed.example " => "reset" Malformed none, twin "GET http allowed.example /";
    "http2-path-missing" Http2 "GET http allowed.example -" => "reset" Malformed none, twin "GET http allowed.example /";
    "http2-path-twice" Http2 "GET http files.example /public\n:path: /admin" => "reset" Malformed none, twin "GET http files.example /public";
    "http2-path-asterisk" Http2 "GET http allowed.example *" => "400" Malformed bad_request, twin "OPTIONS http allowed.example *";
    "http2-asterisk-elsewhere" Http2 "OPTIONS http evil.example:{port} *" => "403" Told host_not_listed, twin "OPTIONS http allowed.example:{port} *";
    "http2-pseudo-unknown" Http2 "GET http allowed.example /\n:host: evil.example" => "reset" Malformed none, twin "GET http allowed.example /\nx-host: evil.example";
    "http2-name-in-capitals" Http2 "GET http allowed.example /\nHost: evil.example" => "reset" Malformed none, twin "GET http allowed.example /\nhost: allowed.example";
    "http2-connection" Http2 "GET http allowed.example /\nconnection: host" => "reset" Malformed none, twin "GET http allowed.example /\nx-connection: host";
    "http2-transfer-encoding" Http2 "POST http allowed.example /\ntransfer-encoding: chunked" => "reset" Malformed none,
        twin "POST http allowed.example /\nx-transfer-encoding: chunked";
    "http2-line-end-in-a-value" Http2 "GET http allowed.example /\nx-a: b\r\rhost: evil.example" => "reset" Malformed none,
        twin "GET http allowed.example /\nx-a: b, host: evil.example";
    "http2-trace" Http2 "TRACE http allowed.example /" => "405" Malformed method_not_allowed, twin "OPTIONS http allowed.example /";
    // Tunnels.
    "http2-connect" Http2 "CONNECT - evil.example:443 -\n> plain evil.example" => "403" Told host_not_listed,
        twin "CONNECT - allowed.example:443 -\n> plain allowed.example";
    "http2-connect-without-port" Http2 "CONNECT - allowed.example -\n> plain allowed.example" => "400" Told bad_destination,
        twin "CONNECT - Allowed.Example.:443 -\n> plain allowed.example";
    "http2-connect-decimal" Http2 "CONNECT - 2130706442:22 -\n> plain a" => "400" Told bad_destination, twin "CONNECT - 127.0.0.10:22 -\n> none";
    "http2-connect-mapped" Http2 "CONNECT - [::ffff:127.0.0.10]:22 -\n> plain a" => "403" Told address_refused,
        twin "CONNECT - 127.0.0.10:22 -\n> none";
    "http2-connect-smtp" Http2 "CONNECT - allowed.example:25 -\n> plain allowed.example" => "403" Told port_not_listed,
        twin "CONNECT - allowed.example:443 -\n> plain allowed.example";
    "http2-connect-for-requests" Http2 "CONNECT - allowed.example:80 -\n> plain allowed.example" => "403" Told tunnel_unread,
        twin "GET http allowed.example:80 /";
    "http2-connect-against-host" Http2 "CONNECT - allowed.example:443 -\nhost: evil.example:443\n> plain allowed.example" => "400" Malformed bad_request,
        twin "CONNECT - allowed.example:443 -\nhost: allowed.example:443\n> plain allowed.example";
    "http2-connect-with-path" Http2 "CONNECT - allowed.example:443 /\n> plain allowed.example" => "reset" Malformed none,
        twin "CONNECT - allowed.example:443 -\n> plain allowed.example";
    "http2-connect-with-scheme" Http2 "CONNECT https allowed.example:443 -\n> plain allowed.example" => "reset" Malformed none,
        twin "CONNECT - allowed.example:443 -\n> plain allowed.example";
    "http2-connect-with-both" Http2 "CONNECT http allowed.example:443 http://evil.example/\n> plain allowed.example" => "reset" Malformed none,
        twin "CONNECT - allowed.example:443 -\n> plain allowed.example";
    "http2-connect-greets-another" Http2 "CONNECT - allowed.example:443 -\n> plain evil.example" => "open alert-112" Told sni_mismatch,
        twin "CONNECT - allowed.example:443 -\n> plain ALLOWED.example";
    "http2-connect-greets-nobody" Http2 "CONNECT - allowed.example:443 -\n> none" => "open alert-112" Told sni_missing,
        twin "CONNECT - allowed.example:443 -\n> records 5 allowed.example";
    "http2-extended-unknown" Http2 "CONNECT http allowed.example /\n:protocol: connect-udp" => "405" Malformed method_not_allowed,
        twin "CONNECT http allowed.example /socket\n:protocol: websocket\nsec-websocket-version: 13\n> plain a";
    "http2-extended-tcp" Http2 "CONNECT http allowed.example /\n:protocol: connect-tcp" => "405" Malformed method_not_allowed,
        twin "CONNECT http allowed.example /socket\n:protocol: websocket\nsec-websocket-version: 13\n> plain a";
    "http2-extended-elsewhere" Http2 "CONNECT http evil.example:{port} /socket\n:protocol: websocket\nsec-websocket-version: 13" => "403" Told host_not_listed,
        twin "CONNECT http allowed.example:{port} /socket\n:protocol: websocket\nsec-websocket-version: 13\n> plain a";
    "http2-extended-without-path" Http2 "CONNECT http allowed.example -\n:protocol: websocket" => "reset" Malformed none,
        twin "CONNECT http allowed.example /socket\n:protocol: websocket\nsec-websocket-version: 13\n> plain a";
    "http2-protocol-of-a-get" Http2 "GET http allowed.example /\n:protocol: websocket" => "reset" Malformed none, twin "GET http allowed.example /";
}
