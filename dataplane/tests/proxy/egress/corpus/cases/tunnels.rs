//! CONNECT: what is asked for, what is greeted in the tunnel, and what requests in it name, are one and the same.

table! {
    "connect-not-listed" Connect "evil.example:443" => "403" Told host_not_listed, twin "ALLOWED.example.:443";
    "connect-not-listed-slowly" Connect "slowly evil.example:443" => "403" Told host_not_listed, twin "slowly allowed.example:443";
    "connect-over-tls" Tls "CONNECT evil.example:443 HTTP/1.1\nHost: evil.example:443\n\n" => "403" Told host_not_listed,
        twin "CONNECT allowed.example:443 HTTP/1.1\nHost: allowed.example:443\n\n{hello plain allowed.example}";
    "connect-against-host" Lines "CONNECT evil.example:443 HTTP/1.1\nHost: allowed.example:443\n\n" => "400" Malformed bad_request,
        twin "CONNECT allowed.example:443 HTTP/1.1\nHost: Allowed.Example:443\n\n{hello plain allowed.example}";
    "host-against-connect" Lines "CONNECT allowed.example:443 HTTP/1.1\nHost: evil.example:443\n\n" => "400" Malformed bad_request,
        twin "CONNECT allowed.example:443 HTTP/1.1\nHost: ALLOWED.example\n\n{hello plain allowed.example}";
    "connect-against-port" Lines "CONNECT allowed.example:443 HTTP/1.1\nHost: allowed.example:80\n\n" => "400" Malformed bad_request,
        twin "CONNECT allowed.example:443 HTTP/1.1\nHost: allowed.example:443\n\n{hello plain allowed.example}";
    "connect-to-an-url" Connect "http://allowed.example:443/" => "400" Malformed bad_request, twin "allowed.example:443";
    "connect-to-a-path" Connect "allowed.example:443/" => "400" Malformed bad_request, twin "allowed.example:443";
    "connect-to-a-query" Connect "allowed.example:443?evil.example" => "400" Malformed bad_request, twin "allowed.example:443";
    "connect-to-everything" Connect "*:443" => "400" Malformed bad_request, twin "a.wild.example:443";
    "connect-to-the-root" Lines "CONNECT / HTTP/1.1\nHost: allowed.example:443\n\n" => "400" Malformed bad_request,
        twin "CONNECT allowed.example:443 HTTP/1.1\nHost: allowed.example:443\n\n{hello plain allowed.example}";
    "connect-with-length" Lines "CONNECT allowed.example:443 HTTP/1.1\nHost: allowed.example:443\nContent-Length: 5\n\nhello" => "400" Malformed bad_request,
        twin "CONNECT allowed.example:443 HTTP/1.1\nHost: allowed.example:443\nContent-Length: 0\n\n{hello plain allowed.example}";
    "connect-with-chunks" Lines "CONNECT allowed.example:443 HTTP/1.1\nHost: allowed.example:443\nTransfer-Encoding: chunked\n\n0\n\n" => "400" Malformed bad_request,
        twin "CONNECT allowed.example:443 HTTP/1.1\nHost: allowed.example:443\nProxy-Connection: keep-alive\n\n{hello plain allowed.example}";
    "connect-with-upgrade" Lines "CONNECT allowed.example:443 HTTP/1.1\nHost: allowed.example:443\nConnection: upgrade\nUpgrade: websocket\n\n"
        => "400" Malformed bad_request,
        twin "CONNECT allowed.example:443 HTTP/1.1\nHost: allowed.example:443\nConnection: keep-alive\n\n{hello plain allowed.example}";
    "connect-with-claims" Lines "CONNECT evil.example:443 HTTP/1.1\nHost: evil.example:443\nX-Forwarded-Host: allowed.example:443\n\n" => "403" Told host_not_listed,
        twin "CONNECT allowed.example:443 HTTP/1.1\nHost: allowed.example:443\nX-Forwarded-Host: evil.example:443\n\n{hello plain allowed.example}";
    // The greeting in the tunnel.
    "tunnel-greets-another" Connect "allowed.example:443 plain evil.example" => "open alert-112" Told sni_mismatch,
        twin "allowed.example:443 plain ALLOWED.example";
    "tunnel-greets-another-listed" Connect "allowed.example:443 plain other.example" => "open alert-112" Told sni_mismatch,
        twin "other.example:443 plain other.example";
    "tunnel-greets-another-of-the-wildcard" Connect "a.wild.example:443 plain b.wild.example" => "open alert-112" Told sni_mismatch,
        twin "b.wild.example:443 plain b.wild.example";
    "tunnel-greets-slowly" Connect "slowly allowed.example:443 plain evil.example" => "open alert-112" Told sni_mismatch,
        twin "slowly allowed.example:443 plain allowed.example";
    "tunnel-greets-in-records" Connect "allowed.example:443 records 9 evil.example" => "open alert-112" Told sni_mismatch,
        twin "allowed.example:443 records 9 allowed.example";
    "tunnel-greets-in-an-odd-version" Connect "allowed.example:443 version 2 999 evil.example" => "open alert-112" Told sni_mismatch,
        twin "allowed.example:443 version 2 999 allowed.example";
    "tunnel-greets-in-an-odd-version-and-records" Connect "allowed.example:443 version 2 3 evil.example" => "open alert-112" Told sni_mismatch,
        twin "allowed.example:443 version 2 3 allowed.example";
    "tunnel-greets-in-an-odd-version-slowly" Connect "slowly allowed.example:443 version 15 2 evil.example" => "open alert-112" Told sni_mismatch,
        twin "slowly allowed.example:443 version 15 2 allowed.example";
    "tunnel-greets-behind-an-alert" Connect "allowed.example:443 alerted allowed.example" => "open alert-49" Told not_tls,
        twin "allowed.example:443 plain allowed.example";
    "tunnel-greets-nobody" Connect "allowed.example:443 none" => "open alert-112" Told sni_missing, twin "allowed.example:443 plain allowed.example";
    "tunnel-greets-two" Connect "allowed.example:443 twice allowed.example evil.example" => "open alert-49" Told not_tls,
        twin "allowed.example:443 plain allowed.example";
    "tunnel-greets-by-two-lists" Connect "allowed.example:443 lists allowed.example evil.example" => "open alert-49" Told not_tls,
        twin "allowed.example:443 plain allowed.example";
    "tunnel-greets-an-address" Connect "allowed.example:443 plain 127.0.0.10" => "open alert-49" Told not_tls,
        twin "allowed.example:443 plain allowed.example";
    "tunnel-greets-with-dot" Connect "allowed.example:443 plain allowed.example." => "open alert-49" Told not_tls,
        twin "allowed.example.:443 plain allowed.example";
    "tunnel-greets-too-long" Connect "allowed.example:443 padded 17000 allowed.example" => "open alert-49" Told not_tls,
        twin "allowed.example:443 padded 12000 allowed.example";
    "tunnel-greets-in-too-many-records" Connect "allowed.example:443 records 1 allowed.example" => "open alert-49" Told not_tls,
        twin "allowed.example:443 records 3 allowed.example";
    "tunnel-greets-with-more-behind" Connect "allowed.example:443 behind allowed.example" => "open alert-49" Told not_tls,
        twin "allowed.example:443 plain allowed.example";
    "tunnel-greets-in-ssl2" Connect "allowed.example:443 {x 80 2e 01 03 01 00 15 00 00 00 10}" => "open closed" Told not_tls,
        twin "allowed.example:443 plain allowed.example";
    "tunnel-of-ssh" Connect "allowed.example:443 {x 53 53 48 2d 32 2e 30 2d 78 0d 0a}" => "open closed" Told not_tls,
        twin "allowed.example:443 plain allowed.example";
    "tunnel-of-smtp" Connect "allowed.example:443 {x 45 48 4c 4f 20 78 0d 0a}" => "open closed" Told not_tls,
        twin "allowed.example:443 plain allowed.example";
    "tunnel-of-a-request" Lines "CONNECT allowed.example:443 HTTP/1.1\nHost: allowed.example:443\n\nGET / HTTP/1.1\nHost: allowed.example\n\n"
        => "open closed" Told not_tls,
        twin "CONNECT allowed.example:80 HTTP/1.1\nHost: allowed.example:80\n\nGET / HTTP/1.1\nHost: allowed.example\n{close}";
    "tunnel-of-another-request" Lines "CONNECT allowed.example:443 HTTP/1.1\nHost: allowed.example:443\n\nGET http://evil.example/ HTTP/1.1\nHost: evil.example\n\n"
        => "open closed" Told not_tls,
        twin "CONNECT allowed.example:443 HTTP/1.1\nHost: allowed.example:443\n\n{hello plain allowed.example}";
    "tunnel-of-http2" Lines "CONNECT allowed.example:443 HTTP/1.1\nHost: allowed.example:443\n\nPRI * HTTP/2.0\n\nSM\n\n" => "open closed" Told not_tls,
        twin "CONNECT allowed.example:443 HTTP/1.1\nHost: allowed.example:443\n\n{hello plain allowed.example}";
    // Requests in the tunnel.
    "tunnel-for-another-host" Lines "CONNECT allowed.example:80 HTTP/1.1\nHost: allowed.example:80\n\nGET / HTTP/1.1\nHost: evil.example\n{close}"
        => "open 403" Told authority_mismatch,
        twin "CONNECT allowed.example:80 HTTP/1.1\nHost: allowed.example:80\n\nGET / HTTP/1.1\nHost: Allowed.Example.\n{close}";
    "tunnel-for-another-listed-host" Lines "CONNECT allowed.example:80 HTTP/1.1\nHost: allowed.example:80\n\nGET / HTTP/1.1\nHost: other.example\n{close}"
        => "open 403" Told authority_mismatch,
        twin "CONNECT other.example:80 HTTP/1.1\nHost: other.example:80\n\nGET / HTTP/1.1\nHost: other.example\n{close}";
    "tunnel-for-another-port" Lines "CONNECT allowed.example:80 HTTP/1.1\nHost: allowed.example:80\n\nGET / HTTP/1.1\nHost: allowed.example:{port}\n{close}"
        => "open 403" Told authority_mismatch,
        twin "CONNECT allowed.example:{port} HTTP/1.1\nHost: allowed.example:{port}\n\nGET / HTTP/1.1\nHost: allowed.example:{port}\n{close}";
    "tunnel-for-an-url" Lines "CONNECT allowed.example:80 HTTP/1.1\nHost: allowed.example:80\n\nGET http://evil.example/ HTTP/1.1\nHost: evil.example\n{close}"
        => "open 403" Told authority_mismatch,
        twin "CONNECT allowed.example:80 HTTP/1.1\nHost: allowed.example:80\n\nGET http://allowed.example/ HTTP/1.1\nHost: allowed.example\n{close}";
    "tunnel-in-a-tunnel" Lines "CONNECT allowed.example:80 HTTP/1.1\nHost: allowed.example:80\n\nCONNECT allowed.example:80 HTTP/1.1\nHost: allowed.example:80\n\n"
        => "open 405" Malformed method_not_allowed,
        twin "CONNECT allowed.example:80 HTTP/1.1\nHost: allowed.example:80\n\nOPTIONS * HTTP/1.1\nHost: allowed.example\n{close}";
    "tunnel-in-a-tunnel-elsewhere" Lines "CONNECT allowed.example:80 HTTP/1.1\nHost: allowed.example:80\n\nCONNECT evil.example:443 HTTP/1.1\nHost: evil.example:443\n\n"
        => "open 403" Told authority_mismatch,
        twin "CONNECT allowed.example:80 HTTP/1.1\nHost: allowed.example:80\n\nDELETE / HTTP/1.1\nHost: allowed.example\n{close}";
    "tunnel-with-a-second-request" Lines "CONNECT allowed.example:80 HTTP/1.1\nHost: allowed.example:80\n\nGET / HTTP/1.1\nHost: allowed.example\n\nGET / HTTP/1.1\nHost: evil.example\n{close}"
        => "open 200 403" Told authority_mismatch,
        twin "CONNECT allowed.example:80 HTTP/1.1\nHost: allowed.example:80\n\nGET / HTTP/1.1\nHost: allowed.example\n\nGET / HTTP/1.1\nHost: allowed.example\n{close}";
    "tunnel-with-two-hosts" Lines "CONNECT allowed.example:80 HTTP/1.1\nHost: allowed.example:80\n\nGET / HTTP/1.1\nHost: allowed.example\nHost: evil.example\n{close}"
        => "open 400" Malformed bad_request,
        twin "CONNECT allowed.example:80 HTTP/1.1\nHost: allowed.example:80\n\nGET / HTTP/1.1\nHost: allowed.example\nX-Host: evil.example\n{close}";
    "tunnel-with-a-hidden-request" Lines "CONNECT allowed.example:80 HTTP/1.1\nHost: allowed.example:80\n\nPOST / HTTP/1.1\nHost: allowed.example\nContent-Length: 0\nTransfer-Encoding: chunked\n\n0\n\nGET / HTTP/1.1\nHost: evil.example\n{close}"
        => "open 400" Malformed bad_request,
        twin "CONNECT allowed.example:80 HTTP/1.1\nHost: allowed.example:80\n\nPOST / HTTP/1.1\nHost: allowed.example\nTransfer-Encoding: chunked\nConnection: close\n\n0\n\n";
    "tunnel-of-tls-for-requests" Lines "CONNECT allowed.example:80 HTTP/1.1\nHost: allowed.example:80\n\n{hello plain allowed.example}"
        => "open 400" Malformed bad_request,
        twin "CONNECT allowed.example:443 HTTP/1.1\nHost: allowed.example:443\n\n{hello plain allowed.example}";
    "tunnel-to-a-listed-denied-path" Lines "CONNECT files.example:80 HTTP/1.1\nHost: files.example:80\n\nGET /admin HTTP/1.1\nHost: files.example\n{close}"
        => "open 403" Told denied_by_policy,
        twin "CONNECT files.example:80 HTTP/1.1\nHost: files.example:80\n\nGET /public HTTP/1.1\nHost: files.example\n{close}";
    "tunnel-to-others" Lines "CONNECT own.example:80 HTTP/1.1\nHost: own.example:80\n\nGET / HTTP/1.1\nHost: own.example\n{close}" => "403" Told not_exported,
        twin "CONNECT other.example:80 HTTP/1.1\nHost: other.example:80\n\nGET / HTTP/1.1\nHost: other.example\n{close}";
}
