//! Where a listed name leads: one bad answer refuses all of them, and nobody asks twice.

table! {
    "good-then-bad" Host "{dns}" dns "127.0.0.10 10.0.0.1" => "403" Told address_refused, twin "{dns}" dns "127.0.0.10";
    "bad-then-good" Host "{dns}" dns "10.0.0.1 127.0.0.10" => "403" Told address_refused, twin "{dns}" dns "127.0.0.10";
    "bad-among-many" Absolute "http://{dns}/" dns "127.0.0.10 9.9.8.8 169.254.169.254 1.1.1.1" => "403" Told address_refused,
        twin "http://{dns}/" dns "127.0.0.10";
    "a-good-aaaa-bad" Host "{dns}" dns "127.0.0.10 ::1" => "403" Told address_refused, twin "{dns}" dns "127.0.0.10";
    "a-bad-aaaa-good" Host "{dns}" dns "127.0.0.1 2620:1::1" => "403" Told address_refused, twin "{dns}" dns "127.0.0.10";
    "aaaa-mapped" Host "{dns}" dns "::ffff:127.0.0.10" => "403" Told address_refused, twin "{dns}" dns "127.0.0.10";
    "aaaa-compatible" Host "{dns}" dns "::127.0.0.10" => "403" Told address_refused, twin "{dns}" dns "127.0.0.10";
    "aaaa-nat64" Host "{dns}" dns "127.0.0.10 64:ff9b::a00:1" => "403" Told address_refused, twin "{dns}" dns "127.0.0.10";
    "aaaa-nat64-of-another" Host "{dns}" dns "127.0.0.10 64:ff9b::808:808" => "403" Told address_refused, twin "{dns}" dns "127.0.0.10";
    "aaaa-six-to-four" Host "{dns}" dns "2002:7f00:1::1" => "403" Told address_refused, twin "{dns}" dns "127.0.0.10";
    "aaaa-teredo" Host "{dns}" dns "2001:0:7f00:1::1" => "403" Told address_refused, twin "{dns}" dns "127.0.0.10";
    "aaaa-isatap" Host "{dns}" dns "2620:1::5efe:7f00:1" => "403" Told address_refused, twin "{dns}" dns "127.0.0.10";
    // Rebinding: whoever asked twice would get the other answer.
    "rebound-to-good" Host "{dns}" dns "127.0.0.1 | 127.0.0.10" => "403" Told address_refused, twin "{dns}" dns "127.0.0.10 | 127.0.0.1";
    "rebound-to-good-connect" Connect "{dns}:443" dns "127.0.0.1 | 127.0.0.10" => "403" Told address_refused,
        twin "{dns}:443" dns "127.0.0.10 | 127.0.0.1";
    "rebound-to-good-sni" Sni "plain {dns}" dns "127.0.0.1 | 127.0.0.10" => "alert-49" Told address_refused,
        twin "plain {dns}" dns "127.0.0.10 | 127.0.0.1";
    "rebound-on-one-connection" Lines "GET / HTTP/1.1\nHost: {dns}\n\nGET / HTTP/1.1\nHost: {dns}\n{close}" dns "::1 | 127.0.0.10"
        => "403 403" Told address_refused, twin "GET / HTTP/1.1\nHost: {dns}\n\nGET / HTTP/1.1\nHost: {dns}\n{close}" dns "127.0.0.10 | ::1";
    // Aliases.
    "alias-inside" Host "{dns}" dns ">inside.test 10.0.0.1" => "403" Told address_refused, twin "{dns}" dns ">outside.test 127.0.0.10";
    "alias-that-is-asked-for" Host "{dns}" dns ">inside.test" => "403" Told address_refused, twin "{dns}" dns ">outside.test";
    "alias-to-localhost" Host "{dns}" dns ">localhost.test 127.0.0.1" => "403" Told address_refused, twin "{dns}" dns ">outside.test 127.0.0.10";
    "alias-to-metadata" Connect "{dns}:443" dns ">metadata.google.test 169.254.169.254" => "403" Told address_refused,
        twin "{dns}:443" dns ">outside.test 127.0.0.10";
    "alias-of-an-alias" Host "{dns}" dns ">a.test >b.test >c.test 192.168.0.1" => "403" Told address_refused,
        twin "{dns}" dns ">a.test >b.test >c.test 127.0.0.10";
    "alias-with-good-and-bad" Sni "plain {dns}" dns ">a.test >b.test 127.0.0.10 127.0.0.1" => "alert-49" Told address_refused,
        twin "plain {dns}" dns ">a.test >b.test 127.0.0.10";
    "alias-to-a-service" Host "{dns}" dns ">kubernetes.svc.test 9.9.9.1" => "403" Told address_refused,
        twin "{dns}" dns ">outside.test 127.0.0.10";
    // What is to be called by name only from within.
    "leads-to-metadata" Host "{dns}" dns "169.254.169.254" => "403" Told address_refused, twin "{dns}" dns "127.0.0.10";
    "leads-to-metadata-six" Host "{dns}" dns "fd00:ec2::254" => "403" Told address_refused, twin "{dns}" dns "127.0.0.10";
    "leads-to-metadata-alibaba" Host "{dns}" dns "100.100.100.200" => "403" Told address_refused, twin "{dns}" dns "127.0.0.10";
    "leads-to-metadata-oracle" Host "{dns}" dns "192.0.0.192" => "403" Told address_refused, twin "{dns}" dns "127.0.0.10";
    "leads-to-metadata-of-pods" Host "{dns}" dns "169.254.170.23" => "403" Told address_refused, twin "{dns}" dns "127.0.0.10";
    "leads-to-this-network" Host "{dns}" dns "0.0.0.0" => "403" Told address_refused, twin "{dns}" dns "127.0.0.10";
    "leads-to-unspecified-six" Host "{dns}" dns "::" => "403" Told address_refused, twin "{dns}" dns "127.0.0.10";
    "leads-to-multicast" Host "{dns}" dns "239.1.2.3" => "403" Told address_refused, twin "{dns}" dns "127.0.0.10";
    "leads-to-multicast-six" Host "{dns}" dns "ff05::1:3" => "403" Told address_refused, twin "{dns}" dns "127.0.0.10";
    "leads-to-broadcast" Host "{dns}" dns "255.255.255.255" => "403" Told address_refused, twin "{dns}" dns "127.0.0.10";
    "leads-to-carrier-grade-nat" Host "{dns}" dns "100.127.255.254" => "403" Told address_refused, twin "{dns}" dns "127.0.0.10";
    "leads-to-unique-local" Host "{dns}" dns "fc00::1" => "403" Told address_refused, twin "{dns}" dns "127.0.0.10";
    "leads-to-link-local-six" Host "{dns}" dns "fe80::1" => "403" Told address_refused, twin "{dns}" dns "127.0.0.10";
    "leads-to-the-cluster" Absolute "http://{dns}/" dns "9.9.9.200" => "403" Told address_refused, twin "http://{dns}/" dns "127.0.0.10";
    "leads-to-the-cluster-six" Absolute "http://{dns}/" dns "2620:fe::1" => "403" Told address_refused, twin "http://{dns}/" dns "127.0.0.10";
    "leads-to-the-proxy" Absolute "http://{dns}:{port}/" dns "127.0.0.1" => "403" Told address_refused,
        twin "http://{dns}:{port}/" dns "127.0.0.10";
    "leads-inside-in-a-tunnel" Connect "{dns}:443" dns "127.0.0.10 172.16.0.1" => "403" Told address_refused,
        twin "{dns}:443" dns "127.0.0.10";
    "leads-inside-in-a-tunnel-of-requests" Lines "CONNECT {dns}:80 HTTP/1.1\nHost: {dns}:80\n\nGET / HTTP/1.1\nHost: {dns}\n{close}"
        dns "127.0.0.1" => "403" Told address_refused,
        twin "CONNECT {dns}:80 HTTP/1.1\nHost: {dns}:80\n\nGET / HTTP/1.1\nHost: {dns}\n{close}" dns "127.0.0.10";
    "leads-inside-over-http2" Http2 "GET http {dns} /" dns "10.1.1.1" => "403" Told address_refused, twin "GET http {dns} /" dns "127.0.0.10";
    "leads-inside-in-a-tunnel-of-http2" Http2 "CONNECT - {dns}:443 -\n> plain {dns}" dns "::1" => "403" Told address_refused,
        twin "CONNECT - {dns}:443 -\n> plain {dns}" dns "127.0.0.10";
    // No way to anybody is no refusal, and no way either.
    "no-such-name" Host "{dns}" dns "nxdomain" => "503" Failed dns_failed, twin "{dns}" dns "127.0.0.10";
    "no-address" Host "{dns}" dns "" => "503" Failed dns_failed, twin "{dns}" dns "127.0.0.10";
    "alias-of-itself" Host "{dns}" dns ">loop.test" => "503" Failed dns_failed,
        twin "{dns}" dns ">outside.test 127.0.0.10";
    "no-such-name-sni" Sni "plain {dns}" dns "nxdomain" => "alert-80" Failed dns_failed, twin "plain {dns}" dns "127.0.0.10";
}
