//! The proxy led to itself: to its listeners, where one request would become many, and to its admin port. Entries list it, and
//! policies open it.

table! {
    "own-port" Absolute "http://itself.example/" => "403" Told leads_to_proxy, twin "http://allowed.example/";
    "own-port-host" Host "itself.example" => "403" Told leads_to_proxy, twin "allowed.example";
    "own-port-http2" Http2 "GET http itself.example /" => "403" Told leads_to_proxy, twin "GET http allowed.example /";
    "own-port-over-tls" Tls "GET http://itself.example/ HTTP/1.1\nHost: itself.example\n{close}" => "403" Told leads_to_proxy,
        twin "GET http://allowed.example/ HTTP/1.1\nHost: allowed.example\n{close}";
    "own-port-connect" Connect "itself.example:22" => "403" Told leads_to_proxy, twin "127.0.0.10:22";
    "own-port-connect-tls" Connect "itself.example:443" => "403" Told leads_to_proxy, twin "allowed.example:443";
    "own-port-sni" Sni "plain itself.example" => "alert-49" Told leads_to_proxy, twin "plain allowed.example";
    "own-port-by-dns" Absolute "http://{dns}/" dns "127.0.0.1" => "403" Told leads_to_proxy, twin "http://{dns}/" dns "127.0.0.10";
    "own-admin-port" Absolute "http://itself.example:8081/table" => "403" Told leads_to_proxy, twin "http://other.example:8081/";
    // The system takes a connection to no address for one to this host.
    "own-port-of-no-address" Absolute "http://nowhere.example/" => "403" Told leads_to_proxy, twin "http://allowed.example/";
    "own-port-of-no-address-connect" Connect "nowhere.example:22" => "403" Told leads_to_proxy, twin "127.0.0.10:22";
    "own-admin-port-of-no-address" Host "nowhere.example:8081" => "403" Told leads_to_proxy, twin "other.example:8081";
    "own-port-wrapped" Absolute "http://wrapped.example/" => "403" Told leads_to_proxy, twin "http://allowed.example/";
    "own-port-wrapped-sni" Sni "plain wrapped.example" => "alert-49" Told leads_to_proxy, twin "plain allowed.example";
}
