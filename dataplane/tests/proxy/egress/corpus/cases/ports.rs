//! Ports: of others, of none, and in spellings that some clients read.

table! {
    "port-zero" Absolute "http://allowed.example:0/" => "400" Told bad_destination, twin "http://allowed.example:80/";
    "port-with-zeros" Absolute "http://allowed.example:00080/" => "400" Told bad_destination, twin "http://allowed.example:80/";
    "port-with-a-zero-host" Host "allowed.example:080" => "400" Told bad_destination, twin "allowed.example:80";
    "port-with-zeros-connect" Connect "allowed.example:0443" => "400" Told bad_destination, twin "allowed.example:443";
    "port-with-space" Lines "GET http://allowed.example:80 / HTTP/1.1\nHost: allowed.example:80\n{close}" => "400" Malformed bad_request,
        twin "GET http://allowed.example:80/ HTTP/1.1\nHost: allowed.example:80 \n{close}";
    "port-with-space-connect" Lines "CONNECT allowed.example:443  HTTP/1.1\nHost: allowed.example:443\n\n" => "400" Malformed bad_request,
        twin "CONNECT allowed.example:443 HTTP/1.1\nHost: allowed.example:443\n\n{hello plain allowed.example}";
    "port-too-large" Absolute "http://allowed.example:65616/" => "400" Malformed bad_request, twin "http://allowed.example:80/";
    "port-too-large-connect" Connect "allowed.example:65979" => "400" Malformed bad_request, twin "allowed.example:443";
    "port-too-large-http2" Http2 "GET http allowed.example:65616 /" => "400" Malformed bad_request, twin "GET http allowed.example:80 /";
    "port-huge" Host "allowed.example:18446744073709551696" => "400" Malformed bad_request, twin "allowed.example:80";
    "port-with-plus" Absolute "http://allowed.example:+80/" => "400" Malformed bad_request, twin "http://allowed.example:80/";
    "port-negative" Host "allowed.example:-80" => "400" Malformed bad_request, twin "allowed.example:80";
    "port-hexadecimal" Host "allowed.example:0x50" => "400" Malformed bad_request, twin "allowed.example:80";
    "port-by-name" Host "allowed.example:http" => "400" Malformed bad_request, twin "allowed.example:80";
    "port-fullwidth" Host "allowed.example:８０" => "400" Malformed bad_request, twin "allowed.example:80";
    "port-empty" Absolute "http://allowed.example:/" => "400" Malformed bad_request, twin "http://allowed.example/";
    "port-empty-host" Host "allowed.example:" => "400" Malformed bad_request, twin "allowed.example";
    "port-empty-connect" Connect "allowed.example:" => "400" Malformed bad_request, twin "allowed.example:443";
    "port-missing-connect" Connect "allowed.example" => "400" Told bad_destination, twin "allowed.example:443";
    "two-ports" Absolute "http://allowed.example:80:80/" => "400" Malformed bad_request, twin "http://allowed.example:80/";
    "only-a-port" Connect ":443" => "400" Malformed bad_request, twin "allowed.example:443";
    "port-of-another-entry" Absolute "http://allowed.example:8081/" => "403" Told port_not_listed, twin "http://other.example:8081/";
    "port-of-another-entry-host" Host "allowed.example:8081" => "403" Told port_not_listed, twin "other.example:8081";
    "port-of-another-entry-connect" Lines "CONNECT allowed.example:8081 HTTP/1.1\nHost: allowed.example:8081\n\n" => "403" Told port_not_listed,
        twin "CONNECT other.example:8081 HTTP/1.1\nHost: other.example:8081\n\nGET / HTTP/1.1\nHost: other.example:8081\n{close}";
    "smtp" Connect "allowed.example:25" => "403" Told port_not_listed, twin "allowed.example:443";
    "smtp-absolute" Absolute "http://allowed.example:25/" => "403" Told port_not_listed, twin "http://allowed.example/";
    "ssh" Connect "allowed.example:22" => "403" Told port_not_listed, twin "127.0.0.10:22";
    "port-of-the-api-server" Connect "allowed.example:6443" => "403" Told port_not_listed, twin "allowed.example:443";
    "port-listed-for-tls" Absolute "http://allowed.example:443/" => "403" Told protocol_not_listed, twin "http://allowed.example:80/";
    "port-listed-for-tls-host" Host "allowed.example:443" => "403" Told protocol_not_listed, twin "allowed.example:80";
    "port-in-host-only" Lines "GET http://allowed.example/ HTTP/1.1\nHost: allowed.example:{port}\n{close}" => "400" Malformed bad_request,
        twin "GET http://allowed.example:{port}/ HTTP/1.1\nHost: allowed.example:{port}\n{close}";
    "port-in-target-only" Lines "GET http://allowed.example:{port}/ HTTP/1.1\nHost: allowed.example\n{close}" => "400" Malformed bad_request,
        twin "GET http://allowed.example/ HTTP/1.1\nHost: allowed.example\n{close}";
    "port-from-a-header" Lines "GET / HTTP/1.1\nHost: allowed.example:8081\nX-Forwarded-Port: 80\n{close}" => "403" Told port_not_listed,
        twin "GET / HTTP/1.1\nHost: allowed.example\nX-Forwarded-Port: 8081\n{close}";
}
