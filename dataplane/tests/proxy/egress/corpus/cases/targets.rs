//! Targets of requests: user information, schemes, fragments and slashes, and what the target and `Host` say of each other.

table! {
    // User information.
    "user" Lines "GET http://allowed.example@evil.example:{port}/ HTTP/1.1\nHost: evil.example:{port}\n{close}" => "400" Malformed bad_request,
        twin "GET http://allowed.example:{port}/ HTTP/1.1\nHost: allowed.example:{port}\n{close}";
    "user-of-an-allowed-host" Lines "GET http://evil.example@allowed.example/ HTTP/1.1\nHost: allowed.example\n{close}" => "400" Malformed bad_request,
        twin "GET http://allowed.example/evil.example@ HTTP/1.1\nHost: allowed.example\n{close}";
    "user-and-password" Absolute "http://allowed.example:80@evil.example:{port}/" => "400" Malformed bad_request, twin "http://allowed.example:80/";
    "user-in-host" Host "allowed.example@evil.example:{port}" => "400" Malformed bad_request, twin "allowed.example:{port}";
    "user-empty" Absolute "http://@allowed.example/" => "400" Malformed bad_request, twin "http://allowed.example/";
    "user-twice" Absolute "http://a@allowed.example@evil.example/" => "400" Malformed bad_request, twin "http://allowed.example/a@allowed.example@";
    "user-encoded" Absolute "http://allowed.example%40evil.example/" => "400" Malformed bad_request, twin "http://allowed.example/%40evil.example";
    "user-connect" Connect "allowed.example@evil.example:443" => "400" Malformed bad_request, twin "allowed.example:443";
    "user-and-port-connect" Connect "allowed.example:443@evil.example:443" => "400" Malformed bad_request, twin "allowed.example:443";
    // What stands behind the host.
    "fragment" Absolute "http://evil.example#allowed.example/" => "400" Malformed bad_request, twin "http://allowed.example/?allowed.example";
    "fragment-with-user" Absolute "http://evil.example#@allowed.example/" => "400" Malformed bad_request, twin "http://allowed.example/@allowed.example/";
    "fragment-in-the-path" Absolute "http://allowed.example/#@evil.example/" => "400" Malformed bad_request, twin "http://allowed.example/@evil.example/";
    "query" Absolute "http://evil.example:{port}?allowed.example" => "403" Told host_not_listed, twin "http://allowed.example:{port}?evil.example";
    "query-with-user" Absolute "http://evil.example:{port}?@allowed.example/" => "403" Told host_not_listed, twin "http://allowed.example:{port}?@evil.example/";
    "path" Absolute "http://evil.example:{port}/@allowed.example/" => "403" Told host_not_listed, twin "http://allowed.example:{port}/@evil.example/";
    "path-with-scheme" Absolute "http://evil.example:{port}/http://allowed.example/" => "403" Told host_not_listed,
        twin "http://allowed.example:{port}/http://evil.example/";
    "semicolon" Absolute "http://evil.example;allowed.example/" => "400" Malformed bad_request, twin "http://allowed.example/;evil.example";
    "comma" Absolute "http://allowed.example,evil.example/" => "400" Malformed bad_request, twin "http://allowed.example/,evil.example";
    "ampersand" Absolute "http://allowed.example&evil.example/" => "400" Malformed bad_request, twin "http://allowed.example/&evil.example";
    "backslash" Absolute "http://evil.example\\@allowed.example/" => "400" Malformed bad_request, twin "http://allowed.example/@allowed.example/";
    "backslash-for-dot" Absolute "http://allowed.example\\.evil.example/" => "400" Malformed bad_request, twin "http://allowed.example/.evil.example/";
    "backslashes-for-slashes" Lines "GET http:\\\\allowed.example\\ HTTP/1.1\nHost: allowed.example\n{close}" => "400" Malformed bad_request,
        twin "GET http://allowed.example/ HTTP/1.1\nHost: allowed.example\n{close}";
    "backslash-in-the-path" Absolute "http://allowed.example/\\evil.example/" => "400" Malformed bad_path, twin "http://allowed.example/evil.example/";
    "slash-missing" Lines "GET http:/allowed.example/ HTTP/1.1\nHost: allowed.example\n{close}" => "400" Malformed bad_request,
        twin "GET http://allowed.example/ HTTP/1.1\nHost: allowed.example\n{close}";
    "slashes-missing" Lines "GET http:allowed.example HTTP/1.1\nHost: allowed.example\n{close}" => "400" Malformed bad_request,
        twin "GET http://allowed.example HTTP/1.1\nHost: allowed.example\n{close}";
    "slash-too-many" Lines "GET http:///allowed.example/ HTTP/1.1\nHost: allowed.example\n{close}" => "400" Malformed bad_request,
        twin "GET http://allowed.example//allowed.example/ HTTP/1.1\nHost: allowed.example\n{close}";
    "scheme-missing" Lines "GET //allowed.example/ HTTP/1.1\nHost: evil.example:{port}\n{close}" => "403" Told host_not_listed,
        twin "GET //evil.example/ HTTP/1.1\nHost: allowed.example:{port}\n{close}";
    "host-only" Lines "GET allowed.example HTTP/1.1\nHost: allowed.example\n{close}" => "400" Malformed bad_request,
        twin "GET /allowed.example HTTP/1.1\nHost: allowed.example\n{close}";
    "authority-form-of-a-get" Lines "GET allowed.example:80 HTTP/1.1\nHost: allowed.example:80\n{close}" => "400" Malformed bad_request,
        twin "GET / HTTP/1.1\nHost: allowed.example:80\n{close}";
    "two-targets" Lines "GET http://allowed.example/ http://evil.example/ HTTP/1.1\nHost: allowed.example\n{close}" => "400" Malformed bad_request,
        twin "GET http://allowed.example/?http://evil.example/ HTTP/1.1\nHost: allowed.example\n{close}";
    "space-before-the-target" Lines "GET  http://allowed.example/ HTTP/1.1\nHost: allowed.example\n{close}" => "400" Malformed bad_request,
        twin "GET http://allowed.example/ HTTP/1.1\nHost: allowed.example\n{close}";
    "tab-before-the-target" Lines "GET\thttp://allowed.example/ HTTP/1.1\nHost: allowed.example\n{close}" => "400" Malformed bad_request,
        twin "GET http://allowed.example/ HTTP/1.1\nHost: allowed.example\n{close}";
    "asterisk-of-a-get" Lines "GET * HTTP/1.1\nHost: allowed.example\n{close}" => "400" Malformed bad_request,
        twin "OPTIONS * HTTP/1.1\nHost: allowed.example\n{close}";
    "asterisk-of-another-host" Lines "OPTIONS * HTTP/1.1\nHost: evil.example:{port}\n{close}" => "403" Told host_not_listed,
        twin "OPTIONS * HTTP/1.1\nHost: allowed.example:{port}\n{close}";
    // Schemes. Their case is nobody's business.
    "scheme-in-capitals" Absolute "HTTP://evil.example:{port}/" => "403" Told host_not_listed, twin "HtTp://allowed.example:{port}/";
    "scheme-https" Absolute "https://allowed.example/" => "403" Told protocol_not_listed, twin "http://allowed.example/";
    "scheme-https-in-capitals" Absolute "HTTPS://allowed.example/" => "403" Told protocol_not_listed, twin "HTTP://allowed.example/";
    "scheme-ftp" Absolute "ftp://allowed.example/" => "400" Malformed bad_request, twin "http://allowed.example/";
    "scheme-file" Absolute "file://allowed.example/etc/passwd" => "400" Malformed bad_request, twin "http://allowed.example/etc/passwd";
    "scheme-file-of-nobody" Lines "GET file:///etc/passwd HTTP/1.1\nHost: allowed.example\n{close}" => "400" Malformed bad_request,
        twin "GET /etc/passwd HTTP/1.1\nHost: allowed.example\n{close}";
    "scheme-gopher" Absolute "gopher://allowed.example:80/_GET%20/" => "400" Malformed bad_request, twin "http://allowed.example:80/_GET%20/";
    "scheme-ws" Absolute "ws://allowed.example/" => "400" Malformed bad_request, twin "http://allowed.example/";
    "scheme-dict" Absolute "dict://allowed.example:80/" => "400" Malformed bad_request, twin "http://allowed.example:80/";
    "scheme-in-a-scheme" Absolute "url:http://allowed.example/" => "400" Malformed bad_request, twin "http://allowed.example/";
    "scheme-with-space" Lines "GET  HTTP ://allowed.example/ HTTP/1.1\nHost: allowed.example\n{close}" => "400" Malformed bad_request,
        twin "GET HTTP://allowed.example/ HTTP/1.1\nHost: allowed.example\n{close}";
    // Target and Host.
    "target-against-host" Lines "GET http://evil.example:{port}/ HTTP/1.1\nHost: allowed.example:{port}\n{close}" => "400" Malformed bad_request,
        twin "GET http://allowed.example:{port}/ HTTP/1.1\nHost: ALLOWED.example:{port}\n{close}";
    "host-against-target" Lines "GET http://allowed.example/ HTTP/1.1\nHost: evil.example\n{close}" => "400" Malformed bad_request,
        twin "GET http://Allowed.Example/ HTTP/1.1\nHost: allowed.example\n{close}";
    "host-of-another-entry" Lines "GET http://allowed.example/ HTTP/1.1\nHost: other.example\n{close}" => "400" Malformed bad_request,
        twin "GET http://other.example/ HTTP/1.1\nHost: other.example\n{close}";
    "host-with-the-usual-port" Lines "GET http://allowed.example/ HTTP/1.1\nHost: allowed.example:81\n{close}" => "400" Malformed bad_request,
        twin "GET http://allowed.example/ HTTP/1.1\nHost: allowed.example\n{close}";
    "host-empty" Lines "GET http://allowed.example/ HTTP/1.1\nHost:\n{close}" => "400" Malformed bad_request,
        twin "GET http://allowed.example/ HTTP/1.1\nHost:allowed.example\n{close}";
    "host-missing" Lines "GET http://allowed.example/ HTTP/1.1\n{close}" => "400" Malformed bad_request,
        twin "GET http://allowed.example/ HTTP/1.0\n{close}";
    "host-missing-before-1-1" Lines "GET http://evil.example:{port}/ HTTP/1.0\n\n" => "403" Told host_not_listed,
        twin "GET http://allowed.example:{port}/ HTTP/1.0\n\n";
    "nobody-named" Lines "GET / HTTP/1.0\n\n" => "400" Told bad_destination, twin "GET / HTTP/1.0\nHost: allowed.example\n\n";
    "older-than-heads" Lines "GET http://evil.example/\n\n" => "400" Malformed bad_request, twin "GET http://allowed.example/ HTTP/1.0\n\n";
    "version-two" Lines "GET http://allowed.example/ HTTP/2.0\nHost: allowed.example\n{close}" => "505" Malformed version_not_supported,
        twin "GET http://allowed.example/ HTTP/1.1\nHost: allowed.example\n{close}";
    "not-listed-over-tls" Tls "GET http://evil.example:{port}/ HTTP/1.1\nHost: evil.example:{port}\n{close}" => "403" Told host_not_listed,
        twin "GET http://allowed.example:{port}/ HTTP/1.1\nHost: allowed.example:{port}\n{close}";
    "not-listed-over-tls-host" Tls "GET / HTTP/1.1\nHost: evil.example:{port}\n{close}" => "403" Told host_not_listed,
        twin "GET / HTTP/1.1\nHost: allowed.example:{port}\n{close}";
    "target-against-host-over-tls" Tls "GET http://evil.example/ HTTP/1.1\nHost: allowed.example\n{close}" => "400" Malformed bad_request,
        twin "GET http://allowed.example/ HTTP/1.1\nHost: allowed.example\n{close}";
    // Paths that a policy denies, in other words.
    "path-denied" Absolute "http://files.example/admin/users" => "403" Told denied_by_policy, twin "http://files.example/admins/users";
    "path-with-dots" Absolute "http://files.example/public/../admin" => "403" Told denied_by_policy, twin "http://files.example/admin/../public";
    "path-encoded" Absolute "http://files.example/%61dmin" => "403" Told denied_by_policy, twin "http://files.example/%61";
    "path-with-encoded-dots" Absolute "http://files.example/public/%2e%2e/admin" => "403" Told denied_by_policy, twin "http://files.example/public/%2e%2e/a";
    "path-with-a-dot" Absolute "http://files.example/./admin/" => "403" Told denied_by_policy, twin "http://files.example/./public/";
    "path-broken" Absolute "http://files.example/%zz/admin" => "400" Malformed bad_path, twin "http://files.example/a%20b/public";
    "path-with-nul" Absolute "http://files.example/admin%00/public" => "400" Malformed bad_path, twin "http://files.example/admins/public";
    "path-with-encoded-backslash" Absolute "http://files.example/public/..%5cadmin" => "400" Malformed bad_path, twin "http://files.example/public/%5fadmin";
    "path-with-two-slashes" Absolute "http://files.example//admin" => "403" Told denied_by_policy, twin "http://allowed.example//public";
    "path-with-encoded-slash" Absolute "http://files.example/public/..%2fadmin" => "403" Told denied_by_policy, twin "http://allowed.example/public/a%2fb";
    "path-with-encoded-slashes" Absolute "http://files.example/public%2f..%2fadmin" => "403" Told denied_by_policy, twin "http://allowed.example/public%2fa";
    "path-with-slash-at-the-end" Absolute "http://files.example/admin%2fusers" => "403" Told denied_by_policy, twin "http://allowed.example/a%2fusers";
    "path-with-parameter" Absolute "http://files.example/admin;x=1" => "403" Told denied_by_policy, twin "http://allowed.example/public;x=1";
    "path-with-parameter-of-dots" Absolute "http://files.example/public/..;/admin" => "403" Told denied_by_policy, twin "http://allowed.example/public/a;/b";
    "path-encoded-twice" Absolute "http://files.example/%2561dmin" => "403" Told denied_by_policy, twin "http://allowed.example/%2561";
    "path-with-encoded-colon" Absolute "http://files.example/jobs/x%3Adelete" => "403" Told denied_by_policy, twin "http://files.example/jobs/x%3Aget";
    "path-with-encoded-colon-in-capitals" Absolute "http://files.example/jobs/X%3aDelete/now" => "403" Told denied_by_policy,
        twin "http://files.example/jobs/X%3aDeleted/now";
    "path-encoded-in-the-policy" Absolute "http://files.example/keys/@all" => "403" Told denied_by_policy, twin "http://files.example/keys/@none";
    "path-encoded-in-both" Absolute "http://files.example/keys/%40%61ll" => "403" Told denied_by_policy, twin "http://files.example/keys/%40none";
    "path-with-what-should-be-encoded" Absolute "http://files.example/list[0]/x" => "403" Told denied_by_policy, twin "http://files.example/list[1]/x";
    "path-with-encoded-colon-over-http2" Http2 "GET http files.example /jobs/x%3Adelete" => "403" Told denied_by_policy,
        twin "GET http files.example /jobs/x%3Aget";
    "path-with-two-slashes-over-http2" Http2 "GET http files.example //admin" => "403" Told denied_by_policy, twin "GET http allowed.example //public";
}
