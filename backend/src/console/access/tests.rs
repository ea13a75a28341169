use super::*;

const TOKEN: &str = "a-token";

fn access(hosts: &str) -> Access {
    let hash = |token: &str| Sha256::digest(token).into();
    let credential = |name: &str, role, token| Credential { name: name.to_owned(), role, hash: hash(token) };
    Access::new(hosts, vec![credential("ada", Role::Operate, TOKEN), credential("bob", Role::View, "b-token")])
}

fn check(access: &Access, method: Method, uri: &'static str, lines: &[(&'static str, &str)]) -> Result<String, Denied> {
    let mut all = HeaderMap::new();
    for (name, value) in lines {
        all.append(HeaderName::from_static(name), value.parse().unwrap());
    }
    access.check(&method, &Uri::from_static(uri), &all).map(|visitor| visitor.name)
}

#[test]
fn only_the_consoles_own_hosts_are_served() {
    let access = Access::new("Console.example.com console.example.com:9091 [fd00::1]:9091", Vec::new());
    for (uri, hosts, is_own) in [
        ("/", &["localhost"][..], true),
        ("/", &["LOCALHOST:9091"], true),
        ("/", &["127.0.0.1:9091"], true),
        ("/", &["[::1]:9091"], true),
        ("/", &["console.example.com"], true),
        ("/", &["console.example.com:9091"], true),
        ("/", &["[fd00::1]:9091"], true),
        ("/", &["console.example.com:9092"], false),
        ("/", &["evil.example"], false),
        ("/", &["localhost.evil.example"], false),
        ("/", &["127.0.0.1.evil.example"], false),
        ("/", &["10.0.0.1:9091"], false),
        ("/", &[""], false),
        ("/", &[], false),
        ("/", &["localhost", "localhost"], false),
        ("/", &["localhost", "evil.example"], false),
        ("http://localhost:9091/", &[], true),
        ("http://localhost:9091/", &["localhost:9091"], true),
        ("http://evil.example/", &["localhost"], false),
        ("http://localhost/", &["evil.example"], false),
        ("http://evil.example/", &[], false),
    ] {
        let lines: Vec<_> = hosts.iter().map(|host| ("host", *host)).collect();
        let checked = check(&access, Method::GET, uri, &lines);
        assert_eq!(checked, if is_own { Ok(ANYBODY.to_owned()) } else { Err(Denied::WrongHost) }, "{uri} {hosts:?}");
    }
}

#[test]
fn a_visitor_shows_a_token() {
    let basic = |text: &str| format!("Basic {}", STANDARD.encode(text));
    let access = access("");
    for (authorization, name) in [
        (Some("Bearer a-token".to_owned()), Some("ada")),
        (Some("bearer b-token".to_owned()), Some("bob")),
        (Some(basic("ada:a-token")), Some("ada")),
        (Some(basic("bob:b-token")), Some("bob")),
        (Some(basic("bob:a-token")), None),
        (Some(basic("a-token")), None),
        (Some(basic("")), None),
        (Some("Basic !".to_owned()), None),
        (Some("Bearer".to_owned()), None),
        (Some("Bearer ".to_owned()), None),
        (Some("Bearer a-tokenn".to_owned()), None),
        (Some("Digest a-token".to_owned()), None),
        (None, None),
    ] {
        let mut lines = vec![("host", "localhost")];
        lines.extend(authorization.as_deref().map(|value| ("authorization", value)));
        let checked = check(&access, Method::GET, "/", &lines);
        assert_eq!(checked, name.map(str::to_owned).ok_or(Denied::Unauthenticated), "{authorization:?}");
    }
    let twice = [("host", "localhost"), ("authorization", "Bearer a-token"), ("authorization", "Bearer b-token")];
    assert_eq!(check(&access, Method::GET, "/", &twice), Err(Denied::Unauthenticated));
}

#[test]
fn only_the_consoles_own_pages_may_change_anything() {
    let access = access("");
    for (lines, is_own) in [
        (&[("sec-fetch-site", "same-origin")][..], true),
        (&[("sec-fetch-site", "cross-site")], false),
        (&[("sec-fetch-site", "same-site")], false),
        (&[("sec-fetch-site", "none")], false),
        (&[("sec-fetch-site", "same-origin"), ("sec-fetch-site", "cross-site")], false),
        (&[("sec-fetch-site", "cross-site"), ("origin", "http://localhost:9091")], false),
        (&[("origin", "http://localhost:9091")], true),
        (&[("origin", "https://LOCALHOST:9091")], true),
        (&[("origin", "http://localhost")], false),
        (&[("origin", "http://localhost:9092")], false),
        (&[("origin", "http://evil.example")], false),
        (&[("origin", "file://localhost:9091")], false),
        (&[("origin", "null")], false),
        (&[], false),
    ] {
        let own = [("host", "localhost:9091"), ("authorization", "Bearer a-token")];
        let lines = [&own, lines].concat();
        for method in [Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS] {
            let checked = check(&access, method, "/", &lines);
            assert_eq!(checked, if is_own { Ok("ada".to_owned()) } else { Err(Denied::CrossSite) }, "{lines:?}");
        }
        assert_eq!(check(&access, Method::GET, "/", &lines), Ok("ada".to_owned()), "looking is harmless: {lines:?}");
    }
}

#[test]
fn a_viewer_may_change_nothing() {
    let lines = [("host", "localhost"), ("authorization", "Bearer b-token"), ("sec-fetch-site", "same-origin")];
    let access = access("");
    for (method, uri, may) in [
        (Method::GET, "/", true),
        (Method::HEAD, "/", true),
        (Method::POST, "/", false),
        (Method::DELETE, "/", false),
        (Method::POST, "/events/search", true),
        (Method::POST, "/events/ask", true),
        (Method::POST, "/events/ask?feature=extraction", true),
        (Method::POST, "/events/search/", false),
        (Method::POST, "/events/other", false),
        (Method::PUT, "/events/search", false),
    ] {
        let expected = if may { Ok("bob".to_owned()) } else { Err(Denied::NotAllowed) };
        assert_eq!(check(&access, method.clone(), uri, &lines), expected, "{method} {uri}");
    }
    let cross_site = [lines[0], lines[1], ("sec-fetch-site", "cross-site")];
    assert_eq!(check(&access, Method::POST, "/events/search", &cross_site), Err(Denied::CrossSite));
}
