//! The filter in an Envoy that somebody already runs: the files in docs/EDGE.md work as they are
//! written, and `guardctl verify` names what is wrong with a misconfigured one.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::{Command, Output},
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use envelope::{
    Policy, Verdict,
    headers::{BUILD, EVENT_KEY, JUDGED, Judgement, Mark, RESERVED_PREFIX, SHADOW},
    vectors,
};
use envoy::{
    build::Build,
    edge::Edge,
    publish::{Backends, Outcome, Publisher, Unanswered},
    store::Store,
    verify::{self, Check, Fault, Target, TestEvent},
};
use harness::{
    process::{Process, free_port},
    simulator::sender::{Answer, client},
    tools,
};
use serde_json::json;
use tempfile::TempDir;

use crate::{
    traces::STRANGER,
    transport::{Transport, send},
};

const PAGE: &str = include_str!("../../../docs/EDGE.md");
const PROOF: &str = "a-proof-for-this-test";
const PATIENCE: Duration = Duration::from_secs(30);

/// The file in the page's code block with that title.
fn snippet(title: &str) -> String {
    let (_, rest) = PAGE.split_once(&format!("```yaml title=\"{title}\"\n")).expect("the page has the snippet");
    rest.split_once("\n```").expect("the snippet ends").0.to_owned()
}

/// A backend and another service in this process, and the ports and paths of an Envoy in front of
/// them.
struct OwnEnvoy {
    folder: TempDir,
    values: BTreeMap<&'static str, String>,
    backend: Arc<Backend>,
    running: Option<Process>,
}

impl OwnEnvoy {
    async fn prepare() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let backend = Arc::new(Backend::default());
        let app = Router::new().fallback(receive).with_state(Arc::clone(&backend));
        let mut values = BTreeMap::from([
            ("${BACKEND_PORT}", serve(app).await.to_string()),
            ("${SERVICE_PORT}", serve(Router::new().fallback(echo)).await.to_string()),
            ("${FILTER_WASM}", tools::wasm_filter().unwrap().display().to_string()),
            ("${PROOF}", PROOF.to_owned()),
            ("${EDGE_DIR}", folder.path().join("edge").display().to_string()),
        ]);
        for port in ["${PORT}", "${ADMIN_PORT}", "${OPERATORS_PORT}"] {
            values.insert(port, free_port().unwrap().to_string());
        }
        Self { folder, values, backend, running: None }
    }

    /// Starts Envoy with a file from the page, after its placeholders were replaced.
    fn start(&mut self, yaml: &str) {
        self.running = None;
        let filled = self.values.iter().fold(yaml.to_owned(), |yaml, (name, value)| yaml.replace(name, value));
        assert!(!filled.contains("${"), "a placeholder is not documented");
        let file = self.folder.path().join("envoy.yaml");
        fs::write(&file, filled).unwrap();
        let mut command = Command::new(tools::envoy().unwrap());
        command.arg("-c").arg(&file).args(["--disable-hot-restart", "--concurrency", "1", "--log-level", "error"]);
        let mut envoy = Process::start("envoy", &mut command, &self.folder.path().join("envoy.log")).unwrap();
        let ready = format!("http://127.0.0.1:{}/ready", self.values["${ADMIN_PORT}"]);
        envoy.wait_until(PATIENCE, || is_ok(&ready)).unwrap();
        self.running = Some(envoy);
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.values["${PORT}"])
    }

    fn target(&self) -> Target {
        Target {
            url: format!("{}/webhooks/truenroll", self.url()),
            token: None,
            signing_key: None,
            other_paths: vec!["/other".to_owned()],
            test_event: TestEvent::Store,
            timeout: Duration::from_secs(30),
        }
    }

    /// The different faults that `guardctl verify` finds.
    async fn faults(&self, target: Target) -> Vec<Fault> {
        let replies = tokio::task::spawn_blocking(move || verify::verify(&target)).await.unwrap();
        assert!(replies.iter().any(|(check, _)| *check == Check::Trailers));
        let mut faults: Vec<_> = verify::judge(&replies).into_iter().flatten().collect();
        faults.dedup();
        faults
    }

    /// Sends the golden vectors for the default policy over every transport. Those whose path is
    /// not the webhook's belong to the other service, and arrive there as they were sent.
    async fn assert_golden_vectors_get_their_verdicts(&self) {
        let webhook = Policy::default().path;
        let mut judged = 0;
        for vector in vectors::all().unwrap().iter().filter(|vector| vector.policy == json!({})) {
            let path = vector.path.split('?').next().unwrap_or_default();
            if path != webhook && !path.starts_with(&format!("{webhook}/")) {
                continue;
            }
            for transport in Transport::ALL {
                let expected = vector.expected();
                match (send(transport, &self.url(), vector).await, &expected) {
                    (Answer::Accepted(key), Ok(accepted)) if key == accepted.key => judged += 1,
                    (Answer::Rejected(_, code, pointer), Err(rejected))
                        if code == rejected.code && pointer == rejected.pointer =>
                    {
                        judged += 1;
                    }
                    (answer, _) => panic!("{} ({transport:?}): {answer:?} instead of {expected:?}", vector.name),
                }
            }
        }
        assert!(judged > 500, "{judged} vectors were judged");
    }

    /// Sends an event with the headers of a stranger's trace, none of which may reach the backend.
    async fn assert_a_strangers_trace_ends_here(&self) {
        let payload = json!({ "caseId": "traced", "externalId": null, "occurredAt": "2025-06-22T10:30:00Z" });
        let event = json!({ "eventName": "case.extraction.completed", "payload": payload }).to_string();
        let mut request = client().post(format!("{}/webhooks/truenroll", self.url()));
        for (name, value) in STRANGER {
            request = request.header(name, value);
        }
        let request = request.header("content-type", "application/json").body(event);
        assert_eq!(request.send().await.unwrap().status(), 202);
        assert_eq!(*self.backend.strangers.lock().unwrap(), [""; 0]);
    }

    /// Sends requests that the filter would reject to another route.
    async fn assert_other_routes_are_left_alone(&self) {
        let client = client();
        for (method, path, body) in [
            (Method::GET, "/other", ""),
            (Method::PUT, "/other", "not JSON"),
            (Method::POST, "/webhooks/truenrollment", "{}"),
            (Method::DELETE, "/-/guardctl/prove", ""),
        ] {
            let request = client.request(method.clone(), format!("{}{path}", self.url()));
            let answer = request.header("x-note", "twice, joined").body(body).send().await.unwrap();
            assert_eq!(answer.status(), 200, "{method} {path}");
            assert!(answer.headers().keys().all(|name| !name.as_str().starts_with(RESERVED_PREFIX)));
            assert_eq!(answer.text().await.unwrap(), format!("{method} {path} {body}"));
        }
    }
}

/// Whether a GET is answered with a success.
fn is_ok(url: &str) -> bool {
    ureq::get(url).config().timeout_global(Some(Duration::from_secs(2))).proxy(None).build().call().is_ok()
}

async fn serve(app: Router) -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move { axum::serve(listener, app).await });
    port
}

/// The other service: answers with what it was sent, unless the filter has marked it.
async fn echo(method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    if headers.contains_key(JUDGED) {
        return StatusCode::IM_A_TEAPOT.into_response();
    }
    format!("{method} {} {}", uri.path(), String::from_utf8_lossy(&body)).into_response()
}

/// A backend that does what the page's header contract says, and no more.
#[derive(Default)]
struct Backend {
    stored: Mutex<Vec<String>>,
    /// The headers of strangers' traces that arrived.
    strangers: Mutex<Vec<&'static str>>,
}

async fn receive(State(backend): State<Arc<Backend>>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let judged: Vec<_> = headers.get_all(JUDGED).iter().collect();
    let judgement = judged.first().map(|value| Judgement::read(value.as_bytes()));
    let is_known = |proof: &[u8]| proof == PROOF.as_bytes();
    let build = judgement.map_or("", |judgement| judgement.build);
    if uri.path() == "/-/guardctl/prove" {
        let candidate = headers.get(header::AUTHORIZATION).and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
        let proof = candidate.or(judgement.map(|judgement| judgement.proof));
        let answer = if proof.is_some_and(is_known) { (200, r#"{"status":"proven"}"#) } else { UNPROVEN };
        return reply(answer.0, &[(BUILD, build)], answer.1);
    }
    let Some(judgement) = judgement.filter(|judgement| judged.len() == 1 && is_known(judgement.proof)) else {
        return reply(UNPROVEN.0, &[("retry-after", "1")], UNPROVEN.1);
    };
    if let Mark::Shadowed(code) = judgement.mark {
        return reply(422, &[(BUILD, build), (SHADOW, code)], "{}");
    }
    assert_eq!(judgement.mark, Mark::Accepted);
    let strangers = STRANGER.iter().map(|(name, _)| *name).filter(|name| headers.contains_key(*name));
    backend.strangers.lock().unwrap().extend(strangers);
    let Ok(Verdict::Accept(event)) = Verdict::parse(&body) else { panic!("the filter accepted an invalid event") };
    let key = event.key().to_string();
    backend.stored.lock().unwrap().push(key.clone());
    let body = json!({ "status": "accepted", "eventKey": key }).to_string();
    reply(202, &[(BUILD, build), (EVENT_KEY, &key)], &body)
}

const UNPROVEN: (u16, &str) = (503, r#"{"code":"unproven"}"#);

fn reply(status: u16, headers: &[(&'static str, &str)], body: &str) -> Response {
    let mut response = (StatusCode::from_u16(status).unwrap(), body.to_owned()).into_response();
    for (name, value) in headers {
        response.headers_mut().insert(*name, value.parse().unwrap());
    }
    response
}

#[tokio::test(flavor = "multi_thread")]
async fn the_inline_file_works_as_it_is_written() {
    let mut own = OwnEnvoy::prepare().await;
    own.start(&snippet("inline"));
    assert_eq!(own.faults(own.target()).await, []);
    assert_eq!(own.backend.stored.lock().unwrap().len(), 1, "only the test event is stored");
    own.assert_golden_vectors_get_their_verdicts().await;
    own.assert_other_routes_are_left_alone().await;
    own.assert_a_strangers_trace_ends_here().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ecds_file_works_and_guardctl_publishes_to_it() {
    let mut own = OwnEnvoy::prepare().await;
    let publisher = |own: &OwnEnvoy, unanswered| Publisher {
        store: Store::open(Path::new(&own.values["${EDGE_DIR}"])).unwrap(),
        edge: Some(Edge { url: format!("http://127.0.0.1:{}", own.values["${OPERATORS_PORT}"]) }),
        unanswered,
        backends: Backends::Ask,
        rehearse_with: None,
        patience: PATIENCE,
        watch: Duration::ZERO,
        max_rise: 0.2,
        keep: 10,
    };
    let build = |depth: u32| Build {
        module: fs::read(tools::wasm_filter().unwrap()).unwrap(),
        policy: json!({ "max_depth": depth }),
        proof: PROOF.to_owned(),
    };
    let (_, outcome) = publisher(&own, Unanswered::Stage).publish(&build(9)).unwrap();
    assert_eq!(outcome, Outcome::Staged);
    own.start(&snippet("ecds"));
    assert_eq!(own.faults(own.target()).await, []);
    own.assert_other_routes_are_left_alone().await;
    own.assert_a_strangers_trace_ends_here().await;

    let running = publisher(&own, Unanswered::Fail);
    let (_, outcome) = tokio::task::spawn_blocking(move || running.publish(&build(32))).await.unwrap().unwrap();
    assert_eq!(outcome, Outcome::Verified);
    own.assert_golden_vectors_get_their_verdicts().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_names_each_misconfiguration() {
    let mut own = OwnEnvoy::prepare().await;
    for (what, yaml, expected) in misconfigured(&snippet("inline")) {
        // Shorter timeouts, because some of these Envoys do nothing but wait for them.
        let yaml = yaml
            .replace(" timeout: 20s", " timeout: 2s")
            .replace("stream_idle_timeout: 30s", "stream_idle_timeout: 4s");
        own.start(&yaml);
        assert_eq!(own.faults(own.target()).await, [expected], "{what}");
    }
}

/// Misconfigured variants of the page's inline file, with the fault that `guardctl verify` must
/// find in each.
fn misconfigured(inline: &str) -> Vec<(&'static str, String, Fault)> {
    let without = |line: &str| {
        let kept: Vec<_> = inline.lines().filter(|kept| !kept.contains(line)).collect();
        assert!(kept.len() < inline.lines().count(), "the page has no line with {line}");
        kept.join("\n")
    };
    let with = |old: &str, new: &str| {
        assert!(inline.contains(old), "the page does not contain {old}");
        inline.replace(old, new)
    };
    let entry = "          http_filters:\n          - name: truenroll_filter\n";
    let disabled = with(entry, &format!("{entry}            disabled: true\n"));
    let crashing = without("proxy_send_local_response").replace("FAIL_RELOAD", "FAIL_OPEN");
    let other_proof = with("${PROOF}", "another-proof-0123456789");
    let not_retried = other_proof.replace(",retriable-status-codes", "");
    let other_path = with("{\"path\": \"/webhooks/truenroll\"}", "{\"path\": \"/hooks\"}");
    let shadow = with("{\"path\":", "{\"mode\": \"shadow\", \"path\":");
    let unused_port = free_port().unwrap().to_string();
    let no_trailers = Fault::Unjudged { callback: "proxy_on_request_trailers", status: 504 };
    vec![
        ("bodies hang", without("allow_on_headers_stop_iteration"), Fault::BodyHeldBack),
        ("no body callback", without("proxy_on_request_body"), Fault::BodyUnseen),
        ("no trailers callback", without("proxy_on_request_trailers"), no_trailers),
        ("disabled", disabled, Fault::FilterAbsent),
        ("a crashing filter, fail-open", crashing, Fault::FilterAbsent),
        ("enabled on every route", enabled_on_every_route(inline), Fault::OtherPathJudged),
        ("another path", other_path, Fault::WrongPath),
        ("another proof", not_retried, Fault::Unproven),
        ("another proof, retried", other_proof, Fault::Unavailable),
        ("no backend", with("${BACKEND_PORT}", &unused_port), Fault::Unavailable),
        ("no route", without_route(inline), Fault::NoRoute),
        ("shadow mode", shadow, Fault::Shadow),
    ]
}

/// The file without the part that disables the filter on the other route.
fn enabled_on_every_route(inline: &str) -> String {
    let (before, rest) = inline.split_once("                typed_per_filter_config:").unwrap();
    let (_, after) = rest.split_once("                    disabled: true\n").unwrap();
    format!("{before}{after}")
}

/// The file without the webhook's route, and with a route for another path only.
fn without_route(inline: &str) -> String {
    let (before, rest) = inline.split_once("              - match: { path_separated_prefix").unwrap();
    let (_, other_route) = rest.split_once("              - match: { prefix: / }").unwrap();
    format!("{before}              - match: {{ path: /other }}{other_route}")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_explains_a_fault_and_fails() {
    let mut own = OwnEnvoy::prepare().await;
    let guardctl = tools::workspace_binary("envoy", "guardctl", &[]).unwrap();
    own.start(&snippet("inline"));
    let url = own.target().url;
    let run = |arguments: &[&str]| {
        let mut command = Command::new(&guardctl);
        command.args(["verify", &url, "--timeout", "10"]).args(arguments).env_remove("WEBHOOK_TOKEN").output().unwrap()
    };
    let said = |output: &Output| {
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    };
    let right = run(&["--other-path", "/other", "--store-test-event"]);
    assert_eq!(right.status.code(), Some(0), "{}", said(&right));
    assert!(said(&right).contains("GET of the webhook: 405 method_not_allowed"), "{}", said(&right));

    let wrong = run(&["--token", "token-0123456789"]);
    assert_eq!(wrong.status.code(), Some(1), "{}", said(&wrong));
    assert!(said(&wrong).contains("not_found") && said(&wrong).contains("6 of 7 checks failed"), "{}", said(&wrong));
    assert_eq!(run(&["--no-such-option"]).status.code(), Some(2));

    own.running = None;
    let absent = run(&[]);
    assert_eq!(absent.status.code(), Some(1));
    assert!(said(&absent).contains("Check the URL"), "{}", said(&absent));
}
