//! Traces: what a collector receives of an event, and what happens if it receives nothing.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use axum::{
    Router,
    http::{HeaderMap, StatusCode},
    response::Redirect,
};
use envelope::{Feature, Stage};
use harness::{
    collector::{Collector, Recorded, tree},
    process::free_port,
    redis_server::IN_MEMORY,
    simulator::{sender, world::Event},
    stack::Options,
};
use serde_json::Value;
use tokio::{net::TcpListener, task::JoinSet};

use crate::{
    console::WithConsole,
    fixture::{Fixture, eventually, redis},
    redis_sink::{entries, to_stream},
};

pub(crate) const AT: &str = "2025-06-22T10:30:00Z";
/// What a sender might add to its requests.
pub(crate) const STRANGER: [(&str, &str); 3] = [
    ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ("tracestate", "stranger=1"),
    ("baggage", "stranger=1"),
];
/// The attributes that say what became of a span.
pub(crate) const SHOWN: [&str; 4] =
    ["truenroll.answer", "truenroll.attempt", "http.response.status_code", "error.type"];

async fn traced(collector: &Collector, change: impl FnOnce(Options) -> Options) -> Fixture {
    Fixture::start_with(|options| {
        change(options.backend("telemetry.otlp_endpoint", collector.endpoint()).backend("telemetry.sampling", 1))
    })
    .await
}

/// Sends an event with the headers of a stranger's trace.
async fn send_with_trace(fixture: &Fixture, event: &Event) {
    let mut request = sender::client().post(fixture.stack.webhook()).header("content-type", "application/json");
    for (name, value) in STRANGER {
        request = request.header(name, value);
    }
    assert_eq!(request.body(event.body.clone()).send().await.unwrap().status(), 202);
}

/// Waits until the collector has received this number of spans.
pub(crate) async fn received(collector: &Collector, count: usize) -> Vec<Recorded> {
    eventually(&format!("{count} spans are received"), async || collector.spans().len() >= count).await;
    collector.spans()
}

pub(crate) fn named<'a>(spans: &'a [Recorded], name: &str) -> Vec<&'a Recorded> {
    spans.iter().filter(|span| span.name == name).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_trace_leads_from_the_ingest_to_the_application() {
    let collector = Collector::start(Duration::ZERO).await.unwrap();
    let fixture = traced(&collector, |options| options).await;
    let event = fixture.event("traced", Feature::Extraction, Stage::Completed, AT);
    send_with_trace(&fixture, &event).await;
    // The simulated Partner API would have rejected a call with a trace's headers.
    fixture.delivered_once(1).await;

    let spans = received(&collector, 4).await;
    let store = named(&spans, "store extraction")[0];
    let (trace, _) = &store.context;
    let shown = tree(&spans, trace, &SHOWN);
    println!("{shown}");
    let expected = "\
store extraction (producer) truenroll.answer=accepted
  attempt extraction (consumer) truenroll.attempt=1
    GET /cases/{id}/extraction (client) http.response.status_code=200
    POST (client) http.response.status_code=204
";
    assert_eq!(shown, expected);
    assert_eq!(spans.len(), 4);
    assert!(!STRANGER[0].1.contains(trace.as_str()), "a stranger continues our traces");
    let delivery = fixture.simulator.application.first_delivery().unwrap();
    let (_, post) = &named(&spans, "POST")[0].context;
    assert_eq!(delivery.headers["traceparent"], format!("00-{trace}-{post}-01"));
    assert!(!delivery.headers.contains_key("tracestate"));

    for span in ["store extraction", "attempt extraction"] {
        assert_eq!(named(&spans, span)[0].attributes["truenroll.event_key"], event.key);
    }
    let port = fixture.simulator.url().rsplit(':').next().unwrap().to_owned();
    let call = &named(&spans, "GET /cases/{id}/extraction")[0].attributes;
    assert_eq!((call["server.address"].as_str(), &call["server.port"]), ("127.0.0.1", &port));
    assert!(spans.iter().all(|span| span.service == "truenroll-edge-backend"));
    for personal in ["applicant-1", "Nonymous", "/outcomes", "/partner/v1", "stranger"] {
        assert!(!collector.has_received(personal), "{personal} is in a trace");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn later_attempts_are_traces_of_their_own_with_a_link() {
    let collector = Collector::start(Duration::ZERO).await.unwrap();
    let fixture =
        traced(&collector, |options| options.backend("worker.give_up_after_s", 0).backend("worker.min_attempts", 2))
            .await;
    let dead_letters = async |count| {
        eventually("the event is a dead letter", async || {
            fixture.dead_letters().await.iter().map(|(_, number)| number).sum::<u64>() == count
        })
        .await;
    };
    fixture.simulator.application.fail_next(vec![(StatusCode::SERVICE_UNAVAILABLE, Duration::ZERO); 4]);
    let event = fixture.event("linked", Feature::Forensics, Stage::Completed, AT);
    fixture.send_accepted(&event).await;
    dead_letters(1).await;
    fixture.stack.backend_command(&["replay"]).unwrap();
    dead_letters(2).await;
    fixture.send_accepted(&event).await;
    fixture.delivered_once(1).await;

    let spans = received(&collector, 17).await;
    let stores = named(&spans, "store forensics");
    let attempts = named(&spans, "attempt forensics");
    assert_eq!((stores.len(), attempts.len(), spans.len()), (2, 5, 17));
    let answers: Vec<_> = stores.iter().map(|store| store.attributes["truenroll.answer"].as_str()).collect();
    assert_eq!(answers, ["accepted", "revived"]);
    let first = "\
store forensics (producer) truenroll.answer=accepted
  attempt forensics (consumer) truenroll.attempt=1 error.type=sink_rejected failed
    GET /cases/{id}/forensics (client) http.response.status_code=200
    POST (client) http.response.status_code=503 error.type=sink_rejected failed
";
    assert_eq!(tree(&spans, &stores[0].context.0, &SHOWN), first);
    let revived = tree(&spans, &stores[1].context.0, &SHOWN);
    assert!(revived.contains("attempt forensics") && !revived.contains("failed"), "{revived}");
    for attempt in attempts {
        let is_first = stores.iter().any(|store| store.context.0 == attempt.context.0);
        let links = if is_first { vec![] } else { vec![stores[0].context.clone()] };
        assert_eq!((&attempt.links, attempt.parent.is_some()), (&links, is_first), "{attempt:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_is_cut_off_by_the_end_of_the_backend_ends_as_failed() {
    let collector = Collector::start(Duration::ZERO).await.unwrap();
    let fixture = traced(&collector, |options| options.backend("shutdown.grace_ms", 0)).await;
    fixture.simulator.application.fail_next([(StatusCode::OK, Duration::from_secs(15))]);
    fixture.send_accepted(&fixture.event("cut-off", Feature::Extraction, Stage::Completed, AT)).await;
    eventually("the delivery is in progress", async || fixture.simulator.application.busy() > 0).await;
    let mut stack = fixture.stack;
    stack.stop_backends().unwrap();
    let spans = collector.spans();
    let expected = "\
store extraction (producer) truenroll.answer=accepted
  attempt extraction (consumer) truenroll.attempt=1 error.type=cancelled failed
    GET /cases/{id}/extraction (client) http.response.status_code=200
    POST (client) error.type=cancelled failed
";
    assert_eq!(tree(&spans, &spans[0].context.0, &SHOWN), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outcome_in_a_stream_carries_the_context_of_its_delivery() {
    let collector = Collector::start(Duration::ZERO).await.unwrap();
    let server = redis(&IN_MEMORY);
    let fixture = traced(&collector, |options| {
        to_stream(options, &server.url()).backend("sink.durability", "memory").backend("sink.max_length", 1)
    })
    .await;
    let of = |case| fixture.event(case, Feature::Extraction, Stage::Completed, AT);
    fixture.send_accepted(&of("added")).await;
    let spans = received(&collector, 4).await;
    let (trace, _) = &spans[0].context;
    let expected = "\
store extraction (producer) truenroll.answer=accepted
  attempt extraction (consumer) truenroll.attempt=1
    GET /cases/{id}/extraction (client) http.response.status_code=200
    send truenroll-outcomes (producer)
";
    assert_eq!(tree(&spans, trace, &SHOWN), expected);
    let (_, send) = &named(&spans, "send truenroll-outcomes")[0].context;
    assert_eq!(entries(&server)[0].1["traceparent"], format!("00-{trace}-{send}-01"));

    fixture.send_accepted(&of("refused")).await;
    let spans = received(&collector, 8).await;
    let failed = named(&spans, "send truenroll-outcomes")[1];
    assert_eq!((failed.has_failed, failed.attributes["error.type"].as_str()), (true, "sink_full"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_names_its_trace_wherever_it_is() {
    let collector = Collector::start(Duration::ZERO).await.unwrap();
    let change = |options: Options| {
        let options = options.backend("telemetry.otlp_endpoint", collector.endpoint()).backend("telemetry.sampling", 1);
        let options = options.backend("telemetry.trace_url", "https://jaeger.example/trace/{trace_id}?a&b");
        options.backend("worker.give_up_after_s", 0).backend("worker.min_attempts", 2)
    };
    let console = WithConsole::start_with(change).await;
    let fixture = &console.fixture;
    fixture.simulator.application.fail_next(vec![(StatusCode::SERVICE_UNAVAILABLE, Duration::ZERO); 2]);
    fixture.stack.backend_command(&["pause", "extraction"]).unwrap();
    let event = fixture.event("found", Feature::Extraction, Stage::Completed, AT);
    fixture.send_accepted(&event).await;
    let trace = received(&collector, 1).await[0].context.0.clone();
    let link = format!(r#"<a href="https://jaeger.example/trace/{trace}?a&#38;b"><code>{trace}</code></a>"#);

    // In the inbox, as a dead letter, and completed: the history alone knows it then.
    for (state, command) in [("pending", "resume"), ("dead", "replay"), ("completed", "show")] {
        let path = format!("/api/v1/event?key={}", event.key);
        let is_traced = |event: &Value| event["state"] == state && event["traceId"] == *trace;
        let is_there = async || console.try_json(&path).await.is_ok_and(|found| is_traced(&found["events"][0]));
        eventually(&format!("the event is {state}, and names its trace"), is_there).await;
        let page = console.page(&format!("/event?key={}", event.key)).await;
        assert!(page.contains(&link), "{state}: {page}");
        let shown = fixture.stack.backend_command(&["show", &event.key]).unwrap();
        assert!(shown.contains(&format!(r#""traceId":"{trace}""#)), "{state}: {shown}");
        let arguments: &[&str] = match command {
            "resume" => &["resume", "extraction"],
            "replay" => &["replay"],
            _ => continue,
        };
        fixture.stack.backend_command(arguments).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_is_not_sampled_leaves_no_trace() {
    let collector = Collector::start(Duration::ZERO).await.unwrap();
    let fixture = traced(&collector, |options| options.backend("telemetry.sampling", 0)).await;
    let event = fixture.event("unsampled", Feature::Extraction, Stage::Completed, AT);
    send_with_trace(&fixture, &event).await;
    fixture.delivered_once(1).await;
    let delivery = fixture.simulator.application.first_delivery().unwrap();
    assert!(STRANGER.iter().all(|(name, _)| !delivery.headers.contains_key(*name)), "{:?}", delivery.headers);
    fixture.nothing_left_over().await;
    let shown = fixture.stack.backend_command(&["show", &event.key]).unwrap();
    assert!(shown.contains("completed") && !shown.contains("trace"), "{shown}");
    let mut stack = fixture.stack;
    stack.stop_backends().unwrap();
    assert_eq!(collector.spans(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_down_or_slow_costs_nothing_but_traces() {
    let slow = Collector::start(Duration::from_secs(60)).await.unwrap();
    for (endpoint, name) in [(format!("http://127.0.0.1:{}", free_port().unwrap()), "down"), (slow.endpoint(), "slow")]
    {
        let fixture = Fixture::start_with(|options| {
            // Longer than a busy machine needs: an attempt that is repeated is delivered twice.
            let options = options.backend("worker.lease_ms", 20_000);
            options.backend("telemetry.otlp_endpoint", endpoint).backend("telemetry.sampling", 1)
        })
        .await;
        // Each event has four spans, so these do not fit into the queue of 2048.
        let events = fixture.events(name, 700);
        let mut sending = JoinSet::new();
        for event in events {
            let sender = Arc::clone(&fixture.sender);
            sending.spawn(async move { (sender.send(&event).await, event.key) });
        }
        for (answer, key) in sending.join_all().await {
            assert_eq!(answer, sender::Answer::Accepted(key), "{name}");
        }
        fixture.delivered_once(700).await;
        eventually("the lost spans are counted", async || {
            let metrics = fixture.stack.backend_metrics().await.unwrap();
            metrics.sum("truenroll_backend_spans_dropped_total", &[]) >= 700 * 4 - 2_048
        })
        .await;
        let log = fixture.stack.backend.log();
        let said: Vec<_> = log.lines().filter(|line| line.contains("spans are lost")).collect();
        let is_because =
            |line: &&str| line.contains("2048 wait already") || name == "down" && line.contains("network error");
        // Once a minute, on a machine that may be busy.
        assert!((1..=2).contains(&said.len()) && said.iter().all(is_because), "{name}: {said:?}");
        let mut stack = fixture.stack;
        let stopping = Instant::now();
        stack.stop_backends().unwrap();
        assert!(stopping.elapsed() < Duration::from_secs(6), "{name}: {:?}", stopping.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_of_the_collector_is_not_followed() {
    let other = Collector::start(Duration::ZERO).await.unwrap();
    let target = format!("{}/v1/traces", other.endpoint());
    let redirects = Router::new().fallback(async move || Redirect::temporary(&target));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let server = tokio::spawn(async move { axum::serve(listener, redirects).await });
    let fixture = Fixture::start_with(|options| {
        options.backend("telemetry.otlp_endpoint", endpoint).backend("telemetry.sampling", 1)
    })
    .await;
    fixture.send_accepted(&fixture.event("redirected", Feature::Extraction, Stage::Completed, AT)).await;
    eventually("the lost spans are counted", async || {
        let metrics = fixture.stack.backend_metrics().await.unwrap();
        metrics.sum("truenroll_backend_spans_dropped_total", &[]) == 4
    })
    .await;
    assert!(fixture.stack.backend.log().contains("HTTP export failed with status code: 307"));
    assert_eq!(other.spans(), []);
    server.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn envoy_removes_the_headers_of_a_strangers_trace() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let passed = Arc::<Mutex<Option<HeaderMap>>>::default();
    let seen = Arc::clone(&passed);
    let backend = Router::new().fallback(async move |headers: HeaderMap| {
        *seen.lock().unwrap() = Some(headers);
        StatusCode::ACCEPTED
    });
    let server = tokio::spawn(async move { axum::serve(listener, backend).await });
    let bootstrap = vec![("backend_port", port)];
    let fixture = Fixture::start_with(|options| Options { bootstrap, ..options }).await;
    send_with_trace(&fixture, &fixture.event("headers", Feature::Extraction, Stage::Completed, AT)).await;
    let headers = passed.lock().unwrap().take().unwrap();
    assert!(headers.contains_key("x-edge-judged"));
    assert!(STRANGER.iter().all(|(name, _)| !headers.contains_key(*name)), "{headers:?}");
    server.abort();
}
