//! Tokens that are believed, and those that are not.

use aws_lc_rs::hmac;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderValue;
use portcullis_routing::egress::TokenSettings;
use serde_json::{Value, json};

use super::{
    testing::{AUDIENCE, ISSUER, Signer, base64, claims, jwks, unsigned},
    *,
};

/// When it is, in these tests.
const NOW: u64 = 1_800_000_000;

fn settings(jwks: String) -> TokenSettings {
    TokenSettings {
        issuer: ISSUER.into(),
        audience: AUDIENCE.into(),
        jwks,
    }
}

fn keys(signers: &[&Signer]) -> Arc<TokenKeys> {
    TokenKeys::new(None, &settings(jwks(signers)))
}

/// What is wrong with a token, in words.
fn fault(keys: &TokenKeys, token: &str) -> String {
    let fault = keys.verify(token, NOW).unwrap_err();
    fault.to_string()
}

fn bearer(token: &str) -> Vec<u8> {
    format!("Bearer {token}").into_bytes()
}

#[test]
fn tokens_of_every_kind_of_key_are_believed() {
    let signers = [Signer::rsa("r"), Signer::p256("p"), Signer::p384("q")];
    let keys = keys(&signers.each_ref());
    for signer in &signers {
        let verified = keys
            .verify(&signer.token(&claims("team", "app", NOW)), NOW)
            .unwrap();
        let account = Account {
            namespace: "team".into(),
            name: "app".into(),
            pod: Some("app-0".into()),
            until: Some(NOW + 3600 + 30),
            proof: verified.account.proof.clone(),
        };
        assert_eq!(*verified.account, account);
        assert_eq!(verified.until, NOW + 3600 + 30);
    }
}

#[test]
fn keys_need_not_say_their_algorithm_but_what_they_say_holds() {
    let (rsa, p384) = (Signer::rsa("r"), Signer::p384("q"));
    let with = |change: &dyn Fn(&mut Value)| {
        let mut set = vec![rsa.jwk(), p384.jwk()];
        set.iter_mut().for_each(change);
        let keys = TokenKeys::new(None, &settings(json!({"keys": set}).to_string()));
        [&rsa, &p384].map(|signer| {
            let token = signer.token(&claims("a", "x", NOW));
            keys.verify(&token, NOW)
                .map(drop)
                .map_err(|it| it.to_string())
        })
    };
    let unnamed = |key: &mut Value| {
        key.as_object_mut().unwrap().remove("alg");
        key.as_object_mut().unwrap().remove("use");
    };
    assert_eq!(with(&unnamed), [Ok(()), Ok(())]);
    let unknown = ["r", "q"].map(|id| Err(format!("the API server has no key {id:?}")));
    assert_eq!(with(&|key| key["use"] = "enc".into()), unknown);
    assert_eq!(with(&|key| key["alg"] = "HS256".into()), unknown);
    assert_eq!(with(&|key| key["alg"] = "ES256".into()), unknown);
    assert_eq!(with(&|key| key["kty"] = "odd".into()), unknown);
    let [of_rsa, of_p384] = with(&|key| key["alg"] = "RS512".into());
    assert_eq!(
        of_rsa,
        Err("it is not signed with the algorithm of its key".into())
    );
    assert_eq!(of_p384, unknown[1]);
}

#[test]
fn claims_are_refused_by_name() {
    let signer = Signer::p256("k");
    let keys = keys(&[&signer]);
    let cases: [(&str, Value, &str); 14] = [
        (
            "/iss",
            json!("https://elsewhere"),
            r#"its issuer is "https://elsewhere" instead of "https://kubernetes.default.svc""#,
        ),
        (
            "/iss",
            json!(""),
            r#"its issuer is "" instead of "https://kubernetes.default.svc""#,
        ),
        (
            "/aud",
            json!(["api", "vault"]),
            r#"its audience is ["api", "vault"] instead of "portcullis-egress""#,
        ),
        (
            "/aud",
            json!("portcullis-egress2"),
            r#"its audience is ["portcullis-egress2"] instead of "portcullis-egress""#,
        ),
        (
            "/aud",
            json!([]),
            r#"its audience is [] instead of "portcullis-egress""#,
        ),
        (
            "/exp",
            json!(NOW - 30),
            "it expired at 2027-01-15T07:59:30Z",
        ),
        ("/exp", json!(null), "it has no time of expiry"),
        (
            "/exp",
            json!("never"),
            "it lacks what tokens of service accounts have",
        ),
        (
            "/nbf",
            json!(NOW + 31),
            "it is not valid before 2027-01-15T08:00:31Z",
        ),
        (
            "/nbf",
            json!(u64::MAX),
            "it is not valid before 9999-12-30T22:00:00.999999999Z",
        ),
        (
            "/sub",
            json!("system:serviceaccount:a:y"),
            r#"its subject is "system:serviceaccount:a:y", not the service account of its other claims"#,
        ),
        (
            "/sub",
            json!("a:x"),
            r#"its subject is "a:x", not the service account of its other claims"#,
        ),
        (
            "/kubernetes.io/namespace",
            json!("b"),
            r#"its subject is "system:serviceaccount:a:x", not the service account of its other claims"#,
        ),
        (
            "/kubernetes.io",
            json!(null),
            "it lacks what tokens of service accounts have",
        ),
    ];
    for (pointer, value, words) in cases {
        let mut claims = claims("a", "x", NOW);
        *claims.pointer_mut(pointer).unwrap() = value;
        assert_eq!(fault(&keys, &signer.token(&claims)), words, "{pointer}");
    }
}

#[test]
fn an_audience_among_several_and_clocks_that_differ_a_little_do() {
    let signer = Signer::p256("k");
    let keys = keys(&[&signer]);
    for (name, value) in [
        ("aud", json!(["api", AUDIENCE])),
        ("aud", json!(AUDIENCE)),
        ("exp", json!(NOW - 29)),
        ("exp", json!(u64::MAX)),
        ("nbf", json!(NOW + 30)),
        ("nbf", json!(null)),
    ] {
        let mut claims = claims("a", "x", NOW);
        claims[name] = value;
        assert!(keys.verify(&signer.token(&claims), NOW).is_ok(), "{claims}");
    }
}

#[test]
fn nothing_but_a_signature_of_the_key_will_do() {
    let (rsa, curve) = (Signer::rsa("r"), Signer::p256("p"));
    let keys = keys(&[&rsa, &curve]);
    let claims = claims("a", "x", NOW);
    let header = |algorithm: &str, id: &str| json!({"alg": algorithm, "kid": id});
    let malformed = "it is not a JSON Web Token";
    let algorithm = "it is not signed with the algorithm of its key";
    let signature = "its signature is not that of its key";

    for name in ["none", "None", "NONE"] {
        let message = unsigned(&header(name, "r"), &claims);
        assert_eq!(fault(&keys, &format!("{message}.")), malformed);
    }
    // A public key taken for the secret of HMAC, in every form that it is known in.
    let modulus = rsa.jwk()["n"].as_str().unwrap().to_owned();
    let raw = URL_SAFE_NO_PAD.decode(&modulus).unwrap();
    for secret in [modulus.as_bytes(), &raw, rsa.jwk().to_string().as_bytes()] {
        let message = unsigned(&header("HS256", "r"), &claims);
        let tag = hmac::sign(
            &hmac::Key::new(hmac::HMAC_SHA256, secret),
            message.as_bytes(),
        );
        let token = format!("{message}.{}", base64(tag.as_ref()));
        assert_eq!(fault(&keys, &token), algorithm);
    }
    assert_eq!(
        fault(&keys, &rsa.sign(&header("RS256", "p"), &claims)),
        algorithm
    );
    assert_eq!(
        fault(&keys, &rsa.sign(&header("PS256", "r"), &claims)),
        algorithm
    );
    assert_eq!(
        fault(&keys, &curve.sign(&header("RS256", "r"), &claims)),
        signature
    );
    // Another cluster's key of the same name.
    assert_eq!(fault(&keys, &Signer::p256("p").token(&claims)), signature);
    assert_eq!(
        fault(&keys, &Signer::p256("other").token(&claims)),
        r#"the API server has no key "other""#
    );
    assert_eq!(
        fault(&keys, &curve.sign(&json!({"alg": "ES256"}), &claims)),
        "it names no key"
    );
    let critical = json!({"alg": "ES256", "kid": "p", "crit": ["b64"], "b64": false});
    assert_eq!(
        fault(&keys, &curve.sign(&critical, &claims)),
        "it names extensions that are not known"
    );
    // The key that a token brings along is nobody's.
    let own = Signer::p256("p");
    let brought = json!({"alg": "ES256", "kid": "p", "jwk": own.jwk()});
    assert_eq!(fault(&keys, &own.sign(&brought, &claims)), signature);

    let good = curve.token(&claims);
    let parts: Vec<_> = good.split('.').collect();
    let other = unsigned(&header("ES256", "p"), &testing::claims("b", "x", NOW));
    assert_eq!(fault(&keys, &format!("{other}.{}", parts[2])), signature);
    assert_eq!(
        fault(&keys, &format!("{}.{}.", parts[0], parts[1])),
        signature
    );
    for token in [
        "",
        ".",
        "..",
        "a.b.c",
        "x",
        &good.replace('.', ""),
        &format!("{good}.x"),
        &parts[..2].join("."),
    ] {
        assert_eq!(fault(&keys, token), malformed, "{token:?}");
    }
}

#[test]
fn words_of_a_token_are_repeated_in_part_only() {
    let signer = Signer::p256("k");
    let keys = keys(&[&signer]);
    let long = "k\n".repeat(10_000);
    let claims = claims("a", "x", NOW);
    let words = fault(
        &keys,
        &signer.sign(&json!({"alg": "ES256", "kid": long}), &claims),
    );
    assert!(words.len() < 200 && !words.contains('\n'), "{words}");
    let mut many = claims;
    many["aud"] = vec![long; 100].into();
    let words = fault(&keys, &signer.token(&many));
    assert!(words.len() < 600 && !words.contains('\n'), "{words}");
}

#[test]
fn keys_that_cannot_be_read_believe_nobody() {
    let signer = Signer::p256("k");
    let token = signer.token(&claims("a", "x", NOW));
    for jwks in ["", "{}", r#"{"keys": []}"#, r#"{"keys": [{"kid": "k"}]}"#] {
        let keys = TokenKeys::new(None, &settings(jwks.into()));
        assert_eq!(
            fault(&keys, &token),
            r#"the API server has no key "k""#,
            "{jwks}"
        );
    }
}

#[test]
fn a_token_comes_by_bearer_or_as_a_password() {
    let basic = |pair: &str| format!("Basic {}", STANDARD.encode(pair));
    let password = STANDARD.encode("token:a.b-c_d.e");
    for sent in [
        "Bearer a.b-c_d.e",
        "bearer  a.b-c_d.e",
        &format!("Basic {password}"),
        &format!("BASIC {password}"),
        &basic(":a.b-c_d.e"),
    ] {
        assert_eq!(token(sent.as_bytes()).as_deref(), Ok("a.b-c_d.e"), "{sent}");
    }
    for sent in [
        "",
        "Bearer",
        "a.b.c",
        "Negotiate a.b.c",
        "Basic a.b.c",
        &basic("a.b.c"),
        "Basic \u{e9}",
    ] {
        assert_eq!(token(sent.as_bytes()), Err(Fault::Scheme), "{sent}");
    }
    assert_eq!(token(b"Bearer \xff"), Err(Fault::Scheme));
}

#[test]
fn no_token_is_none_and_two_are_one_too_many() {
    let signer = Signer::p256("k");
    let (keys, tokens) = (keys(&[&signer]), Tokens::default());
    let mut headers = HeaderMap::new();
    assert_eq!(tokens.account(&keys, &headers), Ok(None));
    let good = bearer(&signer.token(&claims("a", "x", testing::now())));
    let good = HeaderValue::from_bytes(&good).unwrap();
    headers.append(header::PROXY_AUTHORIZATION, good.clone());
    let account = tokens.account(&keys, &headers).unwrap().unwrap();
    assert_eq!(&*account.name, "x");
    headers.append(header::PROXY_AUTHORIZATION, good);
    assert_eq!(
        tokens.account(&keys, &headers),
        Err(Rc::new(Fault::Repeated))
    );
}

#[test]
fn a_token_is_verified_once_and_until_it_expires() {
    let signer = Signer::p256("k");
    let (keys, tokens) = (keys(&[&signer]), Tokens::default());
    let sent = bearer(&signer.token(&claims("a", "x", NOW)));
    let first = tokens.check(&keys, &sent, NOW).unwrap();
    // Verifying would have made another one.
    let again = tokens.check(&keys, &sent, NOW + 3600).unwrap();
    assert!(Arc::ptr_eq(&first, &again));
    let fault = tokens.check(&keys, &sent, NOW + 3600 + 30).unwrap_err();
    assert!(matches!(*fault, Fault::Expired(_)), "{fault}");
}

#[test]
fn a_token_is_verified_once_however_it_comes() {
    let signer = Signer::p256("k");
    let (keys, tokens) = (keys(&[&signer]), Tokens::default());
    let good = signer.token(&claims("a", "x", NOW));
    let first = tokens.check(&keys, &bearer(&good), NOW).unwrap();
    let bad = tokens.check(&keys, &bearer("bad"), NOW).unwrap_err();
    for number in 0..8 {
        let basic = |token: &str| {
            let pair = STANDARD.encode(format!("{number}:{token}"));
            format!("Basic {pair}{}", " ".repeat(number)).into_bytes()
        };
        let again = tokens.check(&keys, &basic(&good), NOW).unwrap();
        assert!(Arc::ptr_eq(&first, &again), "{number}");
        let again = tokens.check(&keys, &basic("bad"), NOW).unwrap_err();
        assert!(Rc::ptr_eq(&bad, &again), "{number}");
    }
}

#[test]
fn a_refused_token_is_looked_at_again_after_a_while() {
    let signer = Signer::p256("k");
    let (keys, tokens) = (keys(&[&signer]), Tokens::default());
    let sent = bearer(&signer.token(&claims("a", "x", NOW + 32)));
    let first = tokens.check(&keys, &sent, NOW).unwrap_err();
    let again = tokens
        .check(&keys, &sent, NOW + REFUSED_FOR - 1)
        .unwrap_err();
    assert!(Rc::ptr_eq(&first, &again));
    assert!(tokens.check(&keys, &sent, NOW + REFUSED_FOR).is_ok());
}

#[test]
fn new_keys_hold_at_once() {
    let (old, new) = (Signer::p256("old"), Signer::p256("new"));
    let tokens = Tokens::default();
    let [of_old, of_new] = [&old, &new].map(|it| bearer(&it.token(&claims("a", "x", NOW))));
    let before = keys(&[&old]);
    assert!(tokens.check(&before, &of_old, NOW).is_ok());
    assert!(tokens.check(&before, &of_new, NOW).is_err());
    let after = TokenKeys::new(Some(&before), &settings(jwks(&[&new])));
    assert!(tokens.check(&after, &of_old, NOW).is_err());
    assert!(tokens.check(&after, &of_new, NOW).is_ok());

    let same = TokenKeys::new(Some(&after), &settings(jwks(&[&new])));
    assert!(Arc::ptr_eq(&after, &same));
    let renamed = TokenSettings {
        audience: "other".into(),
        ..settings(jwks(&[&new]))
    };
    let renamed = TokenKeys::new(Some(&after), &renamed);
    assert!(tokens.check(&renamed, &of_new, NOW).is_err());
}

#[test]
fn what_is_known_has_bounds_and_bad_tokens_push_out_no_good_one() {
    let signer = Signer::p256("k");
    let (keys, tokens) = (keys(&[&signer]), Tokens::default());
    let good = bearer(&signer.token(&claims("a", "x", NOW)));
    let first = tokens.check(&keys, &good, NOW).unwrap();
    for number in 0..MAX_KNOWN + MAX_REFUSED {
        let bad = bearer(&number.to_string());
        assert!(tokens.check(&keys, &bad, NOW).is_err());
    }
    let seen = tokens.0.borrow();
    assert_eq!(
        seen.refused.young.len() + seen.refused.old.len(),
        MAX_REFUSED
    );
    drop(seen);
    assert!(Arc::ptr_eq(
        &first,
        &tokens.check(&keys, &good, NOW).unwrap()
    ));
}

#[test]
fn what_is_used_outlives_what_is_not() {
    let mut known = Known::new(4);
    let hash = |number: u8| [number; 32];
    for number in 0..10 {
        known.insert(hash(number), number, 10);
        assert_eq!(known.get(&hash(0), 0), Some(0), "{number}");
        assert!(known.young.len() + known.old.len() <= 4);
    }
    assert_eq!(known.get(&hash(1), 0), None);
    assert_eq!(known.get(&hash(9), 9), Some(9));
    assert_eq!(known.get(&hash(9), 10), None);
}
