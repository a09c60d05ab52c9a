//! Addresses in place of names: spellings that hide them, and ranges that nobody is led to although an entry lists them.

table! {
    // The allowed server in spellings that some clients read, and others do not.
    "decimal" Absolute "http://2130706442:{port}/" => "400" Told bad_destination, twin "http://127.0.0.10:{port}/";
    "decimal-host" Host "2130706442:{port}" => "400" Told bad_destination, twin "127.0.0.10:{port}";
    "decimal-connect" Connect "2130706442:22" => "400" Told bad_destination, twin "127.0.0.10:22";
    "decimal-tls" Tls "GET http://2130706442:{port}/ HTTP/1.1\nHost: 2130706442:{port}\n{close}" => "400" Told bad_destination,
        twin "GET http://127.0.0.10:{port}/ HTTP/1.1\nHost: 127.0.0.10:{port}\n{close}";
    "decimal-http2" Http2 "GET http 2130706442:{port} /" => "400" Told bad_destination, twin "GET http 127.0.0.10:{port} /";
    "decimal-overflow" Absolute "http://6425673738:{port}/" => "400" Told bad_destination, twin "http://127.0.0.10:{port}/";
    "hexadecimal" Absolute "http://0x7f00000a:{port}/" => "400" Told bad_destination, twin "http://127.0.0.10:{port}/";
    "hexadecimal-upper" Absolute "http://0X7F00000A:{port}/" => "400" Told bad_destination, twin "http://127.0.0.10:{port}/";
    "hexadecimal-connect" Connect "0x7f00000a:22" => "400" Told bad_destination, twin "127.0.0.10:22";
    "hexadecimal-dotted" Absolute "http://0x7f.0x0.0x0.0xa:{port}/" => "400" Told bad_destination, twin "http://127.0.0.10:{port}/";
    "octal" Absolute "http://017700000012:{port}/" => "400" Told bad_destination, twin "http://127.0.0.10:{port}/";
    "octal-dotted" Absolute "http://0177.0.0.012:{port}/" => "400" Told bad_destination, twin "http://127.0.0.10:{port}/";
    "octal-host" Host "0177.0.0.012:{port}" => "400" Told bad_destination, twin "127.0.0.10:{port}";
    "two-parts" Absolute "http://127.10:{port}/" => "400" Told bad_destination, twin "http://127.0.0.10:{port}/";
    "three-parts" Absolute "http://127.0.10:{port}/" => "400" Told bad_destination, twin "http://127.0.0.10:{port}/";
    "five-parts" Absolute "http://127.0.0.10.1:{port}/" => "400" Told bad_destination, twin "http://127.0.0.10:{port}/";
    "mixed-bases" Absolute "http://0x7f.0.00.012:{port}/" => "400" Told bad_destination, twin "http://127.0.0.10:{port}/";
    "leading-zeros" Absolute "http://127.000.000.010:{port}/" => "400" Told bad_destination, twin "http://127.0.0.10:{port}/";
    "leading-zero-in-one" Connect "127.0.0.010:22" => "400" Told bad_destination, twin "127.0.0.10:22";
    "octet-overflow" Absolute "http://127.0.0.266:{port}/" => "400" Told bad_destination, twin "http://127.0.0.10:{port}/";
    "address-with-dot" Absolute "http://127.0.0.10.:{port}/" => "400" Told bad_destination, twin "http://127.0.0.10:{port}/";
    "name-that-ends-in-a-number" Absolute "http://allowed.example.1/" => "400" Told bad_destination, twin "http://allowed.example/";
    "name-that-ends-in-hexadecimal" Host "allowed.example.0x" => "400" Told bad_destination, twin "allowed.example";
    // IPv6 with IPv4 in it. `::/0` is listed, so that nothing but the class of the address refuses it.
    "mapped" Absolute "http://[::ffff:127.0.0.10]:{port}/" => "403" Told address_refused, twin "http://127.0.0.10:{port}/";
    "mapped-hexadecimal" Absolute "http://[::ffff:7f00:a]:{port}/" => "403" Told address_refused, twin "http://127.0.0.10:{port}/";
    "mapped-in-full" Absolute "http://[0:0:0:0:0:ffff:127.0.0.10]:{port}/" => "403" Told address_refused, twin "http://127.0.0.10:{port}/";
    "mapped-host" Host "[::FFFF:127.0.0.10]:{port}" => "403" Told address_refused, twin "127.0.0.10:{port}";
    "mapped-connect" Connect "[::ffff:127.0.0.10]:22" => "403" Told address_refused, twin "127.0.0.10:22";
    "mapped-http2" Http2 "GET http [::ffff:127.0.0.10]:{port} /" => "403" Told address_refused, twin "GET http 127.0.0.10:{port} /";
    "compatible" Absolute "http://[::127.0.0.10]:{port}/" => "403" Told address_refused, twin "http://127.0.0.10:{port}/";
    "translated" Absolute "http://[::ffff:0:127.0.0.10]:{port}/" => "403" Told address_refused, twin "http://127.0.0.10:{port}/";
    "nat64" Absolute "http://[64:ff9b::127.0.0.10]:{port}/" => "403" Told address_refused, twin "http://127.0.0.10:{port}/";
    "nat64-local" Absolute "http://[64:ff9b:1::7f00:a]:{port}/" => "403" Told address_refused, twin "http://127.0.0.10:{port}/";
    "six-to-four" Absolute "http://[2002:7f00:a::1]:{port}/" => "403" Told address_refused, twin "http://127.0.0.10:{port}/";
    "teredo" Absolute "http://[2001:0:7f00:a::1]:{port}/" => "403" Told address_refused, twin "http://127.0.0.10:{port}/";
    "isatap" Absolute "http://[2620:1::5efe:7f00:a]:{port}/" => "403" Told address_refused, twin "http://127.0.0.10:{port}/";
    // IPv6 of special ranges.
    "loopback-six" Absolute "http://[::1]:{port}/" => "403" Told address_refused, twin "http://127.0.0.10:{port}/";
    "loopback-six-connect" Connect "[0:0:0:0:0:0:0:1]:22" => "403" Told address_refused, twin "127.0.0.10:22";
    "unspecified-six" Absolute "http://[::]:{port}/" => "403" Told address_refused, twin "http://127.0.0.10:{port}/";
    "unique-local" Absolute "http://[fd12:3456::1]:{port}/" => "403" Told address_refused, twin "http://127.0.0.10:{port}/";
    "metadata-six" Absolute "http://[fd00:ec2::254]:{port}/" => "403" Told address_refused, twin "http://127.0.0.10:{port}/";
    "link-local-six" Absolute "http://[fe80::1]:{port}/" => "403" Told address_refused, twin "http://127.0.0.10:{port}/";
    "site-local" Absolute "http://[fec0::1]:{port}/" => "403" Told address_refused, twin "http://127.0.0.10:{port}/";
    "multicast-six" Absolute "http://[ff02::1]:{port}/" => "403" Told address_refused, twin "http://127.0.0.10:{port}/";
    "documentation-six" Absolute "http://[2001:db8::1]:{port}/" => "403" Told address_refused, twin "http://127.0.0.10:{port}/";
    "cluster-six" Absolute "http://[2620:fe::9]:{port}/" => "403" Told address_refused, twin "http://127.0.0.10:{port}/";
    // Brackets.
    "zone" Absolute "http://[fe80::1%eth0]:{port}/" => "400" Malformed bad_request, twin "http://127.0.0.10:{port}/";
    "zone-encoded" Host "[fe80::1%25eth0]:{port}" => "400" Malformed bad_request, twin "127.0.0.10:{port}";
    "zone-of-loopback" Connect "[::1%lo]:22" => "400" Malformed bad_request, twin "127.0.0.10:22";
    "no-brackets" Absolute "http://::1:{port}/" => "400" Malformed bad_request, twin "http://127.0.0.10:{port}/";
    "brackets-around-ipv4" Absolute "http://[127.0.0.10]:{port}/" => "400" Malformed bad_request, twin "http://127.0.0.10:{port}/";
    "brackets-around-a-name" Absolute "http://[allowed.example]/" => "400" Malformed bad_request, twin "http://allowed.example/";
    "brackets-not-closed" Host "[::1" => "400" Malformed bad_request, twin "127.0.0.10";
    "brackets-with-a-version" Absolute "http://[v1.allowed]/" => "400" Malformed bad_request, twin "http://allowed.example/";
    "text-behind-brackets" Host "[::1]allowed.example" => "400" Malformed bad_request, twin "allowed.example";
    // IPv4 of special ranges, in the one spelling that everybody reads.
    "this-network" Absolute "http://0.0.0.0:{port}/" => "403" Told address_refused, twin "http://127.0.0.10:{port}/";
    "this-network-other" Connect "0.1.2.3:22" => "403" Told address_refused, twin "127.0.0.10:22";
    "loopback" Absolute "http://127.0.0.1:{port}/" => "403" Told address_refused, twin "http://127.0.0.10:{port}/";
    "metadata" Absolute "http://169.254.169.254/latest/meta-data/" => "403" Told address_refused, twin "http://127.0.0.10/latest/meta-data/";
    "metadata-connect" Connect "169.254.169.254:22" => "403" Told address_refused, twin "127.0.0.10:22";
    "metadata-alibaba" Absolute "http://100.100.100.200/" => "403" Told address_refused, twin "http://127.0.0.10/";
    "metadata-oracle" Absolute "http://192.0.0.192/" => "403" Told address_refused, twin "http://127.0.0.10/";
    "metadata-azure" Absolute "http://168.63.129.16/" => "403" Told address_refused, twin "http://127.0.0.10/";
    "link-local" Absolute "http://169.254.7.7/" => "403" Told address_refused, twin "http://127.0.0.10/";
    "private-ten" Absolute "http://10.0.0.1/" => "403" Told address_refused, twin "http://127.0.0.10/";
    "private-one-seven-two" Host "172.31.255.255" => "403" Told address_refused, twin "127.0.0.10";
    "private-one-nine-two" Host "192.168.1.1" => "403" Told address_refused, twin "127.0.0.10";
    "carrier-grade-nat" Absolute "http://100.64.0.1/" => "403" Told address_refused, twin "http://127.0.0.10/";
    "benchmarking" Absolute "http://198.18.0.1/" => "403" Told address_refused, twin "http://127.0.0.10/";
    "multicast" Absolute "http://224.0.0.251/" => "403" Told address_refused, twin "http://127.0.0.10/";
    "reserved" Absolute "http://240.0.0.1/" => "403" Told address_refused, twin "http://127.0.0.10/";
    "broadcast" Absolute "http://255.255.255.255/" => "403" Told address_refused, twin "http://127.0.0.10/";
    "cluster" Absolute "http://9.9.9.9/" => "403" Told address_refused, twin "http://127.0.0.10/";
    "not-listed" Absolute "http://8.8.8.8/" => "403" Told host_not_listed, twin "http://127.0.0.10/";
}
