//! The console, as browsers and programs see it.

use std::{collections::BTreeSet, fs, net::TcpStream, time::Duration};

use envelope::{Feature, Stage};
use harness::{keys, process::free_port, stack::Options, tools};
use reqwest::{Client, RequestBuilder, Response, StatusCode, redirect};
use serde_json::Value;

use crate::{
    fixture::{Fixture, eventually},
    openapi::Document,
};

const OPERATOR: &str = "a-token-of-the-operator";
const VIEWER: &str = "a-token-of-the-viewer";
/// As docs/OPERATIONS.md says: `printf %s "$TOKEN" | sha256sum`.
const CREDENTIALS: &str = "ada:operate:c1515f79d3019e4d865293e62a8c5569f7ddb4a5955ffffa91e75d776f9be8c6\n\
                           bob:view:2585eaf3c4a8db625b3065f4a398c4fd2f0386966eaf2ed9b1e3c261ec10e6fa\n";

/// A stack with a console, and its client.
pub(crate) struct WithConsole {
    pub(crate) fixture: Fixture,
    pub(crate) url: String,
    client: Client,
}
impl WithConsole {
    pub(crate) async fn start() -> Self {
        Self::start_with(|options| options).await
    }

    pub(crate) async fn start_with(change: impl FnOnce(Options) -> Options) -> Self {
        let port = free_port().unwrap();
        let listen = format!("127.0.0.1:{port}");
        let fixture = Fixture::start_with(|options| change(options.backend("console.listen", listen))).await;
        let url = fixture.stack.console().unwrap();
        let client = Client::builder().redirect(redirect::Policy::none()).no_proxy().build().unwrap();
        Self { fixture, url, client }
    }

    fn get(&self, path: &str) -> RequestBuilder {
        self.client.get(format!("{}{path}", self.url))
    }

    /// A request as one of the console's own pages sends it.
    pub(crate) fn post(&self, path: &str, form: &str) -> RequestBuilder {
        self.post_from("same-origin", path, form)
    }

    fn post_from(&self, site: &str, path: &str, form: &str) -> RequestBuilder {
        let request = self.client.post(format!("{}{path}", self.url)).header("sec-fetch-site", site);
        request.header("content-type", "application/x-www-form-urlencoded").body(form.to_owned())
    }

    pub(crate) async fn page(&self, path: &str) -> String {
        let answer = self.get(path).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
        answer.text().await.unwrap()
    }

    pub(crate) async fn json(&self, path: &str) -> Value {
        self.try_json(path).await.unwrap()
    }

    /// The same, for a caller that waits: on a busy machine, Redis may not answer in time.
    pub(crate) async fn try_json(&self, path: &str) -> reqwest::Result<Value> {
        self.get(path).send().await?.error_for_status()?.json().await
    }
}

/// Asserts what makes an answer safe to show in a browser.
fn assert_protected(answer: &Response) {
    let header = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let policy = header("content-security-policy");
    for part in ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "base-uri 'none'"] {
        assert!(policy.contains(part) && !policy.contains("unsafe"), "{}: {policy}", answer.url());
    }
    assert_eq!(header("cache-control"), "no-store", "{}", answer.url());
    assert_eq!(header("x-content-type-options"), "nosniff");
    assert_eq!(header("access-control-allow-origin"), "");
}
#[tokio::test(flavor = "multi_thread")]
async fn only_who_may_gets_what() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    std::io::Write::write_all(&mut file, CREDENTIALS.as_bytes()).unwrap();
    let path = file.path().display().to_string();
    let console = WithConsole::start_with(|options| options.backend("console.credentials_file", path)).await;
    let pause = || console.post("/pause", "feature=extraction");
    let cross_site = || console.post_from("cross-site", "/pause", "feature=extraction").bearer_auth(OPERATOR);
    let unmarked = || console.client.post(format!("{}/pause", console.url)).bearer_auth(OPERATOR);
    for (name, request, status) in [
        ("no credentials", console.get("/"), 401),
        ("an asset", console.get("/assets/console.css"), 401),
        ("a wrong token", console.get("/").bearer_auth("wrong"), 401),
        ("another one's name", console.get("/").basic_auth("bob", Some(OPERATOR)), 401),
        ("a token", console.get("/").bearer_auth(VIEWER), 200),
        ("a name and a token", console.get("/").basic_auth("ada", Some(OPERATOR)), 200),
        ("an asset, with a token", console.get("/assets/console.js").bearer_auth(VIEWER), 200),
        ("a missing asset", console.get("/assets/../Cargo.toml").bearer_auth(VIEWER), 404),
        ("a missing page", console.get("/missing").bearer_auth(VIEWER), 404),
        ("another host", console.get("/").bearer_auth(OPERATOR).header("host", "evil.example"), 421),
        ("another host, without credentials", console.get("/").header("host", "evil.example"), 421),
        ("a change without credentials", pause(), 401),
        ("a change by a viewer", pause().bearer_auth(VIEWER), 403),
        ("a change from another site", cross_site(), 403),
        ("a change from another origin", unmarked().header("origin", "http://evil.example"), 403),
        ("a change from nowhere", unmarked(), 403),
        ("a change by GET", console.get("/pause").bearer_auth(OPERATOR), 405),
        ("a wrong form", console.post("/pause", "feature=verification").bearer_auth(OPERATOR), 400),
        ("an empty form", console.post("/pause", "").bearer_auth(OPERATOR), 400),
        ("a huge form", console.post("/pause", &"x".repeat(100_000)).bearer_auth(OPERATOR), 400),
    ] {
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), status, "{name}");
        assert_eq!(answer.headers().contains_key("www-authenticate"), status == 401, "{name}");
        assert_protected(&answer);
    }
    let paused = async || console.fixture.stack.backend_command(&["resume", "forensics"]).unwrap();
    assert_eq!(paused().await, "paused: none\n", "nothing of this had an effect");
    let problem = console.get("/api/v1/overview").send().await.unwrap();
    assert_eq!(problem.headers()["content-type"], "application/problem+json");
    let own = pause().bearer_auth(OPERATOR).send().await.unwrap();
    assert_eq!((own.status(), own.headers()["location"].to_str().unwrap()), (StatusCode::SEE_OTHER, "/"));
    assert_protected(&own);
    assert_eq!(paused().await, "paused: extraction\n");
    let log = console.fixture.stack.backend.log();
    assert!(log.lines().any(|line| line.contains("paused in the console") && line.contains("ada")), "{log}");
    assert!(!log.contains(OPERATOR) && !log.contains(VIEWER) && !log.contains("c1515f79"), "{log}");
    let page = console.get("/").bearer_auth(VIEWER).send().await.unwrap().text().await.unwrap();
    assert!(page.contains("bob (view only)") && !page.contains("<button"), "{page}");
    fs::write(file.path(), CREDENTIALS.lines().next().unwrap()).unwrap();
    console.fixture.stack.backend.signal("HUP").unwrap();
    eventually("the viewer's credentials are no longer accepted", async || {
        console.get("/").bearer_auth(VIEWER).send().await.unwrap().status() == 401
    })
    .await;
    assert_eq!(console.get("/").bearer_auth(OPERATOR).send().await.unwrap().status(), 200);
}
#[tokio::test(flavor = "multi_thread")]
async fn the_overview_says_what_goes_on() {
    let console = WithConsole::start().await;
    let fixture = &console.fixture;
    eventually("all partitions have an owner", async || console.json("/api/v1/overview").await["status"] == "pass")
        .await;
    assert!(console.page("/").await.contains("All is well"));
    for event in fixture.events("seen", 8) {
        fixture.send_accepted(&event).await;
    }
    fixture.delivered_once(8).await;
    eventually("the metrics are read again", async || {
        let overview = console.json("/api/v1/overview").await;
        let rows = overview["charts"][0]["rows"].as_array().unwrap();
        rows.iter().all(|row| row["lastHour"] == 2)
    })
    .await;
    let overview = console.json("/api/v1/overview").await;
    let expected = serde_json::json!({
        "waiting": 0, "oldestWaitingMs": null, "deadLetters": 0, "quarantined": 0,
        "backends": 1, "partitions": 16, "partitionsOwned": 16, "partitionsOwnedHere": 16,
    });
    assert_eq!(overview["work"], expected);
    assert_eq!(overview["edge"]["verdicts"][0], serde_json::json!({ "code": "accepted", "requests": 8 }));
    assert!(overview["edge"]["build"].is_string(), "{overview}");

    let answer = console.post("/pause", "feature=extraction").send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::SEE_OTHER);
    fixture
        .send_accepted(&fixture.event("paused", Feature::Extraction, Stage::Completed, "2025-06-22T10:30:00Z"))
        .await;
    let page = console.page("/").await;
    assert!(page.contains("paused: extraction") && page.contains(r#"id="resume-extraction""#), "{page}");
    let overview = console.json("/api/v1/overview").await;
    assert_eq!((&overview["work"]["waiting"], &overview["status"]), (&1.into(), &"warning".into()));
    assert_eq!(console.post("/resume", "feature=extraction").send().await.unwrap().status(), StatusCode::SEE_OTHER);
    fixture.delivered_once(9).await;
    assert!(!page.contains("applicant-1"), "the page shows an externalId");
}
#[tokio::test(flavor = "multi_thread")]
async fn a_backend_without_redis_shows_what_it_knows() {
    let mut console = WithConsole::start().await;
    let health = console.json("/api/v1/health").await;
    let failed: Vec<_> =
        health["checks"].as_array().unwrap().iter().filter(|check| check["status"] == "failure").collect();
    assert!(failed.is_empty(), "{failed:?}");
    assert!(console.page("/health").await.contains("redis-durability"));
    console.fixture.stack.redis.as_mut().unwrap().process.kill().unwrap();
    let page = console.page("/").await;
    assert!(page.contains("Something does not work") && page.contains("Redis cannot be used"), "{page}");
    assert!(page.contains("Handled, by feature") && page.contains("Envoy uses the filter's build"), "{page}");
    let answer = console.post("/pause", "feature=extraction").send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(answer.text().await.unwrap().contains("Redis"));
    eventually("the checks run again", async || {
        console.json("/api/v1/health").await["checks"]
            .as_array()
            .unwrap()
            .iter()
            .any(|check| check["name"] == "redis-reachable" && check["status"] == "failure")
    })
    .await;
}
#[tokio::test(flavor = "multi_thread")]
async fn an_open_page_learns_of_changes_and_does_not_delay_a_shutdown() {
    let mut console = WithConsole::start().await;
    let mut page = console.get("/live").send().await.unwrap();
    assert_eq!(page.headers()["content-type"], "text/event-stream");
    assert!(page.chunk().await.unwrap().unwrap().starts_with(b"event: changed"));
    console.post("/pause", "feature=extraction").send().await.unwrap();
    assert!(page.chunk().await.unwrap().unwrap().starts_with(b"event: changed"));
    let started = std::time::Instant::now();
    console.fixture.stack.stop_backends().unwrap();
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    while page.chunk().await.unwrap().is_some() {}
}
#[tokio::test(flavor = "multi_thread")]
async fn there_is_no_console_unless_it_is_set() {
    let fixture = Fixture::start().await;
    assert_eq!(fixture.stack.console(), None);
    assert!(!fixture.stack.backend.log().contains("console"));
}
/// Adds an event to the quarantine, as a version that did not know its name has.
pub(crate) fn quarantine(fixture: &Fixture, partition: u32, key: &str, body: &str) {
    let mut add = redis::cmd("XADD");
    add.arg(keys::of_partition(partition).quarantine()).arg("*").arg("key").arg(key).arg("body").arg(body);
    let _: String = fixture.redis(add.arg("received").arg(1_750_588_200_000_u64));
}
/// The value of a hidden field of the page's form.
pub(crate) fn hidden(page: &str, name: &str) -> String {
    let (_, rest) = page.split_once(&format!("name=\"{name}\" value=\"")).unwrap();
    rest.split('"').next().unwrap().to_owned()
}
#[tokio::test(flavor = "multi_thread")]
async fn a_search_needs_no_right_to_change_anything_and_leaves_no_trace_of_the_reference() {
    let console = WithConsole::start_with(|options| options.backend("console.credentials", CREDENTIALS)).await;
    let event = console.fixture.event("sought", Feature::Extraction, Stage::Completed, "2025-06-22T10:30:00Z");
    console.fixture.send_accepted(&event).await;
    console.fixture.delivered_once(1).await;
    let search = |form: String| console.post("/events/search", &form).bearer_auth(VIEWER);
    for (form, status, location) in [
        (format!("text={}", event.key), 303, format!("/event?key={}", event.key)),
        ("text=a%26%C3%A9%0A:sought:x".to_owned(), 303, "/event?key=a%26%C3%A9%0A:sought:x".to_owned()),
        ("text= sought ".to_owned(), 303, "/case/sought".to_owned()),
        ("text=applicant-1&by=externalId".to_owned(), 303, "/case/sought".to_owned()),
        ("text=applicant-2&by=externalId".to_owned(), 404, String::new()),
        ("text=&by=externalId".to_owned(), 400, String::new()),
        ("text=not a case".to_owned(), 400, String::new()),
        (String::new(), 400, String::new()),
    ] {
        let answer = search(form.clone()).send().await.unwrap();
        let found = answer.headers().get("location").map_or("", |location| location.to_str().unwrap()).to_owned();
        assert_eq!((answer.status().as_u16(), &found), (status, &location), "{form}");
        assert!(!answer.text().await.unwrap().contains("applicant"), "{form}");
    }
    let cross_site = console.post_from("cross-site", "/events/search", "text=sought").bearer_auth(VIEWER);
    assert_eq!(cross_site.send().await.unwrap().status(), StatusCode::FORBIDDEN);
    let page = async |path: &str| console.get(path).bearer_auth(VIEWER).send().await.unwrap().text().await.unwrap();
    for path in ["/events", "/case/sought", &format!("/event?key={}", event.key)] {
        let page = page(path).await;
        assert!(page.contains("completed") && !page.contains("applicant"), "{page}");
    }
    for (case, answer) in [("sought-2", "does not exist at TruEnroll"), ("sought", "delivered: result")] {
        let answered =
            console.post("/events/ask", &format!("subject={case}")).bearer_auth(VIEWER).send().await.unwrap();
        assert!(answered.text().await.unwrap().contains(answer), "{case}");
    }
    assert!(page("/case/sought-2").await.contains("No event of this case was ever received"));
    for path in ["/event?key=sought", "/event", "/case/a%20b", "/events?state=expired", "/events?cursor=1"] {
        assert_eq!(console.get(path).bearer_auth(VIEWER).send().await.unwrap().status(), 400, "{path}");
    }
    assert!(!console.fixture.stack.backend.log().contains("applicant"));
}
/// The paths of the JSON API, as the sources write them.
fn paths_in_sources() -> BTreeSet<String> {
    let source = fs::read_to_string(tools::workspace().join("backend/src/console.rs")).unwrap();
    source.split('"').filter(|text| text.starts_with("/api/")).map(str::to_owned).collect()
}
#[tokio::test(flavor = "multi_thread")]
async fn the_answers_are_as_the_openapi_document_says() {
    let document = Document::read();
    assert_eq!(document.paths(), paths_in_sources());
    let mut console = WithConsole::start().await;
    let events = console.fixture.events("described", 2);
    let (unknown, key) = (events[0].body.replace("classification", "verification"), &events[1].key);
    console.fixture.simulator.application.fail_next([(StatusCode::GONE, Duration::ZERO)]);
    console.fixture.send_accepted(&events[1]).await;
    eventually("the event is a dead letter", async || {
        console.json(&format!("/api/v1/event?key={key}")).await["events"][0]["state"] == "dead"
    })
    .await;
    quarantine(&console.fixture, 1, "unknown.1:case:2025-06-22T10:30:00Z", &unknown);
    console.post("/quarantine/readmit", &format!("until_ms={}&total=1", u64::MAX)).send().await.unwrap();
    let check = async |console: &WithConsole, kind: &str| {
        for path in document.paths() {
            let request = path.replace("{case}", "described-1").replace("/event", &format!("/event?key={key}"));
            let request = if path.ends_with("/events") { path.clone() } else { request };
            let answer = console.get(&request).send().await.unwrap();
            let status = answer.status();
            let text = answer.text().await.unwrap();
            document.assert_describes(&path, status.as_u16(), &serde_json::from_str(&text).unwrap());
            println!("{kind}: {path} {status}");
        }
    };
    eventually("the readmission has ended", async || {
        console.json("/api/v1/quarantine").await["job"]["state"] == "completed"
    })
    .await;
    check(&console, "healthy").await;
    console.fixture.stack.envoy.kill().unwrap();
    console.fixture.stack.redis.as_mut().unwrap().process.kill().unwrap();
    check(&console, "without Redis and Envoy").await;
}
#[tokio::test(flavor = "multi_thread")]
async fn many_connections_to_the_console_take_nothing_from_the_ingest() {
    let console = WithConsole::start().await;
    let address = console.url.trim_start_matches("http://");
    let files = || fs::read_dir(format!("/proc/{}/fd", console.fixture.stack.backend.pid())).unwrap().count();
    let before = files();
    let silent: Vec<_> = (0..1_000).map(|_| TcpStream::connect(address).unwrap()).collect();
    eventually("the console accepts connections", async || files() >= before + 256).await;
    assert!(console.get("/").timeout(Duration::from_secs(1)).send().await.is_err(), "all connections are taken");
    assert!(files() < before + 300, "{} files are open", files());
    for event in console.fixture.events("meanwhile", 4) {
        console.fixture.send_accepted(&event).await;
    }
    drop(silent);
    eventually("the console answers again", async || {
        console.get("/").timeout(Duration::from_secs(1)).send().await.is_ok_and(|answer| answer.status().is_success())
    })
    .await;
}
