//! Names that look like listed ones, or are read as such by somebody: dots, scripts, invisible characters, encodings, neighbours.

table! {
    // Dots. One at the end says that the name is complete.
    "two-dots-at-the-end" Absolute "http://allowed.example../" => "400" Told bad_destination, twin "http://allowed.example./";
    "two-dots-at-the-end-host" Host "allowed.example.." => "400" Told bad_destination, twin "allowed.example.";
    "two-dots-at-the-end-connect" Connect "allowed.example..:443" => "400" Told bad_destination, twin "allowed.example.:443";
    "dot-at-the-start" Host ".allowed.example" => "400" Told bad_destination, twin "allowed.example";
    "empty-label" Host "allowed..example" => "400" Told bad_destination, twin "allowed.example";
    "only-a-dot" Host "." => "400" Told bad_destination, twin "allowed.example";
    "only-dots" Connect "..:443" => "400" Told bad_destination, twin "allowed.example:443";
    "dots-of-another-name" Absolute "http://evil.example.:{port}/" => "403" Told host_not_listed, twin "http://allowed.example.:{port}/";
    "case-of-another-name" Absolute "HTTP://EVIL.Example:{port}/" => "403" Told host_not_listed, twin "HTTP://ALLOWED.Example:{port}/";
    // Labels.
    "hyphen-at-the-start" Host "-allowed.example" => "400" Told bad_destination, twin "allowed.example";
    "hyphen-at-the-end" Host "a-.wild.example" => "400" Told bad_destination, twin "a-a.wild.example";
    "label-of-64" Host "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.wild.example" => "400" Told bad_destination,
        twin "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.wild.example";
    "name-of-254" Host "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.wild.example"
        => "400" Told bad_destination,
        twin "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.wild.example";
    "host-of-300" Host "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.wild.example"
        => "400" Malformed bad_request, twin "a.a.a.a.a.wild.example";
    "star" Host "*.wild.example" => "400" Malformed bad_request, twin "a.wild.example";
    "underscore" Host "allowed_.example" => "403" Told host_not_listed, twin "_allowed.wild.example";
    "tilde" Host "allowed~.wild.example" => "400" Told bad_destination, twin "allowed.wild.example";
    // Other scripts. As bytes they are no host; as A-labels they are other names.
    "cyrillic-a" Host "аllowed.example" => "400" Malformed bad_request, twin "allowed.example";
    "cyrillic-a-encoded" Host "xn--llowed-2nf.example" => "403" Told host_not_listed, twin "xn--llowed-2nf.wild.example";
    "cyrillic-o-encoded" Absolute "http://xn--allwed-yqf.example:{port}/" => "403" Told host_not_listed,
        twin "http://xn--allwed-yqf.wild.example:{port}/";
    "cyrillic-e-encoded-connect" Connect "xn--allowd-7of.example:443" => "403" Told host_not_listed, twin "xn--allowd-7of.wild.example:443";
    "greek-o-encoded-sni" Sni "plain xn--allwed-k0e.example" => "alert-49" Told host_not_listed, twin "plain xn--allwed-k0e.wild.example";
    "latin-alpha-encoded" Http2 "GET http xn--llowed-9wc.example /" => "403" Told host_not_listed, twin "GET http xn--llowed-9wc.wild.example /";
    "punycode-of-nothing" Host "xn--a.wild.example" => "400" Told bad_destination, twin "xn--llowed-2nf.wild.example";
    "punycode-of-ascii" Host "xn--allowed-.example" => "400" Told bad_destination, twin "allowed.example";
    "punycode-of-ascii-sni" Sni "plain xn--allowed-.example" => "alert-49" Told not_tls, twin "plain allowed.example";
    "punycode-empty" Connect "xn--.wild.example:443" => "400" Told bad_destination, twin "xn.wild.example:443";
    "fullwidth-letters" Host "ａllowed.example" => "400" Malformed bad_request, twin "allowed.example";
    "fullwidth-dot" Host "allowed．example" => "400" Malformed bad_request, twin "allowed.example";
    "ideographic-dot" Absolute "http://allowed。example/" => "400" Malformed bad_request, twin "http://allowed.example/";
    "halfwidth-dot" Connect "allowed｡example:443" => "400" Malformed bad_request, twin "allowed.example:443";
    "soft-hyphen" Host "allo{x c2 ad}wed.example" => "400" Malformed bad_request, twin "allowed.example";
    "zero-width-space" Host "allowed{x e2 80 8b}.example" => "400" Malformed bad_request, twin "allowed.example";
    "zero-width-joiner" Absolute "http://allowed{x e2 80 8d}.example/" => "400" Malformed bad_request, twin "http://allowed.example/";
    "zero-width-non-joiner" Connect "allowed\u{200c}.example:443" => "400" Malformed bad_request, twin "allowed.example:443";
    "byte-order-mark" Host "{x ef bb bf}allowed.example" => "400" Malformed bad_request, twin "allowed.example";
    "right-to-left-mark" Host "{x e2 80 8f}allowed.example" => "400" Malformed bad_request, twin "allowed.example";
    "latin-1" Host "allowed{x e9}.example" => "400" Malformed bad_request, twin "allowed.example";
    "broken-utf-8" Host "allowed{x c0 ae}example" => "400" Malformed bad_request, twin "allowed.example";
    "invisible-over-http2" Http2 "GET http allowed\u{200b}.example /" => "reset" Malformed none, twin "GET http allowed.example /";
    // Encodings and controls.
    "percent-dot" Host "allowed%2eexample" => "400" Malformed bad_request, twin "allowed.example";
    "percent-letter" Absolute "http://%61llowed.example/" => "400" Malformed bad_request, twin "http://allowed.example/";
    "percent-letter-connect" Connect "%61llowed.example:443" => "400" Malformed bad_request, twin "allowed.example:443";
    "percent-nul" Host "allowed.example%00.evil.example" => "400" Malformed bad_request, twin "allowed.example";
    "percent-slash" Absolute "http://evil.example%2f.allowed.example/" => "400" Malformed bad_request, twin "http://allowed.example/";
    "percent-twice" Host "allowed%252eexample" => "400" Malformed bad_request, twin "allowed.example";
    "nul" Host "allowed.example\0.evil.example" => "400" Malformed bad_request, twin "allowed.example";
    "nul-in-the-target" Absolute "http://allowed.example\0.evil.example/" => "400" Malformed bad_request, twin "http://allowed.example/";
    "nul-connect" Connect "evil.example\0.allowed.example:443" => "400" Malformed bad_request, twin "allowed.example:443";
    "tab" Host "evil.example\tallowed.example" => "400" Malformed bad_request, twin "\tallowed.example";
    "space" Host "evil.example allowed.example" => "400" Malformed bad_request, twin "  allowed.example  ";
    "delete" Host "allowed.example{x 7f}" => "400" Malformed bad_request, twin "allowed.example";
    "carriage-return" Host "allowed.example\r.evil.example" => "400" Malformed bad_request, twin "allowed.example";
    "escape" Host "{x 1b}[2Kallowed.example" => "400" Malformed bad_request, twin "allowed.example";
    "quotes" Host "\"allowed.example\"" => "400" Malformed bad_request, twin "allowed.example";
    "brace" Host "$(allowed.example)" => "400" Malformed bad_request, twin "allowed.example";
    // Neighbours of exact hosts.
    "prefix" Absolute "http://evilallowed.example:{port}/" => "403" Told host_not_listed, twin "http://allowed.example:{port}/";
    "suffix" Absolute "http://allowed.example.evil.example:{port}/" => "403" Told host_not_listed, twin "http://allowed.example:{port}/";
    "suffix-without-dot" Host "allowed.exampleevil:{port}" => "403" Told host_not_listed, twin "allowed.example:{port}";
    "suffix-connect" Connect "allowed.example.evil.example:443" => "403" Told host_not_listed, twin "allowed.example:443";
    "suffix-sni" Sni "plain allowed.example.evil.example" => "alert-49" Told host_not_listed, twin "plain allowed.example";
    "suffix-http2" Http2 "GET http allowed.example.evil.example:{port} /" => "403" Told host_not_listed, twin "GET http allowed.example:{port} /";
    "suffix-tls" Tls "GET http://allowed.example.evil.example/ HTTP/1.1\nHost: allowed.example.evil.example\n{close}"
        => "403" Told host_not_listed, twin "GET http://allowed.example/ HTTP/1.1\nHost: allowed.example\n{close}";
    "below" Host "www.allowed.example:{port}" => "403" Told host_not_listed, twin "www.wild.example:{port}";
    "above" Host "example:{port}" => "403" Told host_not_listed, twin "allowed.example:{port}";
    "cut" Host "allowed.exampl:{port}" => "403" Told host_not_listed, twin "allowed.example:{port}";
    "of-others" Host "own.example" => "403" Told not_exported, twin "allowed.example";
    // Neighbours of wildcards.
    "bare-suffix" Host "wild.example" => "403" Told host_not_listed, twin "a.b.wild.example";
    "bare-suffix-with-dot" Host ".wild.example" => "400" Told bad_destination, twin "a.wild.example.";
    "bare-suffix-connect" Connect "wild.example:443" => "403" Told host_not_listed, twin "a.b.c.d.wild.example:443";
    "bare-suffix-sni" Sni "plain wild.example" => "alert-49" Told host_not_listed, twin "plain a.wild.example";
    "joined-to-suffix" Absolute "http://evilwild.example:{port}/" => "403" Told host_not_listed, twin "http://evil.wild.example:{port}/";
    "joined-to-suffix-connect" Connect "evilwild.example:443" => "403" Told host_not_listed, twin "evil.wild.example:443";
    "joined-to-suffix-sni" Sni "plain evil-wild.example" => "alert-49" Told host_not_listed, twin "plain EVIL.wild.example";
    "behind-wildcard" Absolute "http://a.wild.example.evil.example:{port}/" => "403" Told host_not_listed,
        twin "http://evil.example.a.wild.example:{port}/";
    "behind-wildcard-http2" Http2 "GET http a.wild.example.evil.example /" => "403" Told host_not_listed,
        twin "GET http evil.example.wild.example /";
}
