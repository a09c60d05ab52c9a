//! Greetings of TLS that passes through: whatever names no listed host, or not one alone, gets an alert.

table! {
    "sni-not-listed" Sni "plain evil.example" => "alert-49" Told host_not_listed, twin "plain allowed.example";
    "sni-in-capitals" Sni "plain EVIL.EXAMPLE" => "alert-49" Told host_not_listed, twin "plain ALLOWED.EXAMPLE";
    "sni-slowly" Sni "slowly plain evil.example" => "alert-49" Told host_not_listed, twin "slowly plain allowed.example";
    "sni-in-two-records" Sni "records 60 evil.example" => "alert-49" Told host_not_listed, twin "records 60 allowed.example";
    "sni-in-many-records" Sni "records 2 evil.example" => "alert-49" Told host_not_listed, twin "records 2 allowed.example";
    "sni-split-in-the-name" Sni "slowly records 7 evil.example" => "alert-49" Told host_not_listed, twin "slowly records 7 allowed.example";
    "sni-in-too-many-records" Sni "records 1 allowed.example" => "alert-49" Told not_tls, twin "records 3 allowed.example";
    "sni-far-behind" Sni "padded 17000 allowed.example" => "alert-49" Told not_tls, twin "padded 12000 allowed.example";
    "sni-missing" Sni "none" => "alert-112" Told sni_missing, twin "plain allowed.example";
    "sni-empty" Sni "empty" => "alert-49" Told not_tls, twin "plain allowed.example";
    "sni-twice" Sni "twice allowed.example evil.example" => "alert-49" Told not_tls, twin "plain allowed.example";
    "sni-twice-other-way" Sni "twice evil.example allowed.example" => "alert-49" Told not_tls, twin "plain allowed.example";
    "sni-twice-alike" Sni "twice allowed.example allowed.example" => "alert-49" Told not_tls, twin "plain allowed.example";
    "sni-two-lists" Sni "lists allowed.example evil.example" => "alert-49" Told not_tls, twin "plain allowed.example";
    "sni-two-lists-other-way" Sni "lists evil.example allowed.example" => "alert-49" Told not_tls, twin "plain allowed.example";
    "sni-of-another-kind" Sni "kind 1 allowed.example" => "alert-49" Told not_tls, twin "kind 0 allowed.example";
    "sni-address" Sni "plain 127.0.0.10" => "alert-49" Told not_tls, twin "plain allowed.example";
    "sni-address-six" Sni "plain ::1" => "alert-49" Told not_tls, twin "plain allowed.example";
    "sni-address-in-brackets" Sni "plain [::1]" => "alert-49" Told not_tls, twin "plain allowed.example";
    "sni-address-hexadecimal" Sni "plain 0x7f.0.0.0xa" => "alert-49" Told bad_destination, twin "plain allowed.example";
    "sni-address-decimal" Sni "plain 2130706442" => "alert-49" Told not_tls, twin "plain allowed.example";
    "sni-with-dot" Sni "plain allowed.example." => "alert-49" Told not_tls, twin "plain allowed.example";
    "sni-with-two-dots" Sni "plain allowed..example" => "alert-49" Told not_tls, twin "plain allowed.example";
    "sni-with-port" Sni "plain allowed.example:443" => "alert-49" Told not_tls, twin "plain allowed.example";
    "sni-with-user" Sni "plain evil@allowed.example" => "alert-49" Told not_tls, twin "plain allowed.example";
    "sni-with-slash" Sni "plain allowed.example/.evil.example" => "alert-49" Told not_tls, twin "plain allowed.example";
    "sni-with-nul" Sni "plain allowed.example\0.evil.example" => "alert-49" Told not_tls, twin "plain allowed.example";
    "sni-with-line-end" Sni "plain allowed.example\r\n" => "alert-49" Told not_tls, twin "plain allowed.example";
    "sni-cyrillic" Sni "plain аllowed.example" => "alert-49" Told not_tls, twin "plain allowed.example";
    "sni-fullwidth-dot" Sni "plain allowed。example" => "alert-49" Told not_tls, twin "plain allowed.example";
    "sni-soft-hyphen" Sni "plain allo\u{ad}wed.example" => "alert-49" Told not_tls, twin "plain allowed.example";
    "sni-percent" Sni "plain allowed%2eexample" => "alert-49" Told not_tls, twin "plain allowed.example";
    "sni-star" Sni "plain *.wild.example" => "alert-49" Told not_tls, twin "plain a.wild.example";
    "sni-label-too-long" Sni "plain aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.wild.example" => "alert-49" Told not_tls,
        twin "plain aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.wild.example";
    "sni-prefix" Sni "plain evilallowed.example" => "alert-49" Told host_not_listed, twin "plain allowed.example";
    "sni-below" Sni "plain www.allowed.example" => "alert-49" Told host_not_listed, twin "plain a.b.wild.example";
    "sni-of-requests" Sni "plain files.example" => "alert-49" Told port_not_listed, twin "plain other.example";
    "sni-of-others" Sni "plain own.example" => "alert-49" Told port_not_listed, twin "plain allowed.example";
    "sni-leads-inside" Sni "plain {dns}" dns "127.0.0.10 10.0.0.1" => "alert-49" Told address_refused, twin "plain {dns}" dns "127.0.0.10";
    "sni-leads-to-metadata" Sni "plain {dns}" dns "169.254.169.254" => "alert-49" Told address_refused, twin "plain {dns}" dns "127.0.0.10";
    // What is no greeting.
    "greeting-with-more-behind" Sni "behind allowed.example" => "alert-49" Told not_tls, twin "plain allowed.example";
    "greeting-that-lies" Sni "lying allowed.example" => "alert-49" Told not_tls, twin "plain allowed.example";
    "greeting-of-a-server" Sni "server allowed.example" => "alert-49" Told not_tls, twin "plain allowed.example";
    "greeting-of-ssl2" Sni "{x 80 2e 01 03 01 00 15 00 00 00 10 00 00 04 00 00 05 00 00 0a 01 00 80}" => "closed" Told not_tls,
        twin "plain allowed.example";
    "greeting-of-ssl2-old" Sni "{x 80 2e 01 00 02 00 15 00 00 00 10}" => "closed" Told not_tls, twin "plain allowed.example";
    "greeting-in-no-bytes" Sni "{x 16 03 01 00 00}{hello plain allowed.example}" => "alert-49" Told not_tls, twin "plain allowed.example";
    "greeting-in-a-long-record" Sni "{x 16 03 01 ff ff 01}" => "alert-49" Told not_tls, twin "plain allowed.example";
    "alert-for-a-greeting" Sni "{x 15 03 01 00 02 01 00}" => "alert-49" Told not_tls, twin "plain allowed.example";
    "data-for-a-greeting" Sni "{x 17 03 03 00 01 00}" => "closed" Told not_tls, twin "plain allowed.example";
    "version-of-nobody" Sni "{x 16 10 00 00 05}" => "closed" Told not_tls, twin "plain allowed.example";
    "request-for-a-greeting" Sni "{x 47 45 54 20 2f 20 48 54 54 50 2f 31 2e 31 0d 0a}" => "closed" Told not_tls, twin "plain allowed.example";
    "connect-for-a-greeting" Sni "{x 43 4f 4e 4e 45 43 54 20}{hello plain allowed.example}" => "closed" Told not_tls, twin "plain allowed.example";
    "ssh-for-a-greeting" Sni "{x 53 53 48 2d 32 2e 30 2d 78 0d 0a}" => "closed" Told not_tls, twin "plain allowed.example";
    "noise-for-a-greeting" Sni "{x 00 01 02 03 04 05 06 07}" => "closed" Told not_tls, twin "plain allowed.example";
}
