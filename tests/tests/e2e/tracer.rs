//! Envoy's own tracer, the option `tracing` of the bootstrap: traces that begin in Envoy and that the
//! backend continues, and what does not get into them.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use envelope::{Feature, Stage};
use harness::{
    collector::{Collector, tree},
    simulator::{
        sender::{self, Answer},
        world::Event,
    },
    stack::Options,
};
use reqwest::{Method, RequestBuilder};
use serde_json::json;
use tokio::task::JoinSet;

use crate::{
    fixture::{Fixture, eventually},
    traces::{AT, STRANGER, named, received},
};

const TOKEN: &str = "the-token-of-the-sender";
/// The attributes that say what became of a span.
const SHOWN: [&str; 4] = ["http.status_code", "truenroll.rejection", "truenroll.answer", "http.response.status_code"];
/// The client's headers that must not appear in a span, in addition to those in [`STRANGER`].
const HEADERS: [(&str, &str); 9] = [
    ("user-agent", "nonymous-agent"),
    ("host", "nonymous.example"),
    ("x-client-trace-id", "nonymous-trace"),
    ("x-envoy-force-trace", "nonymous-force"),
    ("x-request-id", "nonymous-request"),
    ("x-envoy-downstream-service-cluster", "nonymous-cluster"),
    ("x-envoy-decorator-operation", "nonymous-operation"),
    ("x-envoy-original-path", "/nonymous-path"),
    ("grpc-timeout", "nonymous-timeout"),
];

/// Starts a stack whose Envoy traces `per_10000` requests. The backend exports to the same collector.
async fn traced(collector: &Collector, per_10000: u32, change: impl FnOnce(Options) -> Options) -> Fixture {
    let port = collector.endpoint().rsplit(':').next().unwrap().to_owned();
    let fixture = Fixture::start_with(|options| {
        let options = Options {
            enable: vec!["tracing"],
            bootstrap: vec![
                ("collector_address", "127.0.0.1".to_owned()),
                ("collector_port", port),
                ("traced_per_10000", per_10000.to_string()),
            ],
            policy: json!({ "authenticity": { "kind": "path_token", "tokens": [TOKEN] } }),
            ..options
        };
        change(options.backend("telemetry.otlp_endpoint", collector.endpoint()))
    })
    .await;
    fixture.sender.change_target(format!("{}/{TOKEN}", fixture.stack.webhook()), None);
    fixture
}

/// A request with an event, and with all that a stranger might add.
fn request(fixture: &Fixture, event: &Event, path: &str) -> RequestBuilder {
    let request = sender::client().post(format!("{}{path}", fixture.stack.webhook())).body(event.body.clone());
    STRANGER.iter().chain(&HEADERS).fold(request, |request, (name, value)| request.header(*name, *value))
}

async fn send(fixture: &Fixture, event: &Event, path: &str, media_type: &str) -> u16 {
    request(fixture, event, path).header("content-type", media_type).send().await.unwrap().status().as_u16()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_trace_leads_from_envoy_to_the_application() {
    let collector = Collector::start(Duration::ZERO).await.unwrap();
    let fixture = traced(&collector, 10_000, |options| {
        options.backend("telemetry.sampling", 0).backend("telemetry.continue_traces", true)
    })
    .await;
    let event = fixture.event("traced", Feature::Extraction, Stage::Completed, AT);
    assert_eq!(send(&fixture, &event, &format!("/{TOKEN}"), "application/json").await, 202);
    fixture.delivered_once(1).await;

    let spans = received(&collector, 6).await;
    let receive = named(&spans, "receive")[0];
    let (trace, _) = &receive.context;
    let shown = tree(&spans, trace, &SHOWN);
    println!("{shown}");
    let expected = "\
receive (server) http.status_code=202
  forward (client) http.status_code=202
    store extraction (producer) truenroll.answer=accepted
      attempt extraction (consumer)
        GET /cases/{id}/extraction (client) http.response.status_code=200
        POST (client) http.response.status_code=204
";
    assert_eq!(shown, expected);
    assert_eq!(spans.len(), 6);
    assert!(!STRANGER[0].1.contains(trace.as_str()), "a stranger continues our traces");
    assert_eq!(receive.attributes["truenroll.event_key"], event.key);
    for (span, service) in [("receive", "truenroll-edge-envoy"), ("store extraction", "truenroll-edge-backend")] {
        assert_eq!(named(&spans, span)[0].service, service);
    }
    let delivery = fixture.simulator.application.first_delivery().unwrap();
    assert_eq!(delivery.headers["traceparent"].to_str().unwrap().split('-').nth(1), Some(trace.as_str()));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_a_client_sends_is_in_a_span_of_envoy() {
    let collector = Collector::start(Duration::ZERO).await.unwrap();
    let fixture = traced(&collector, 10_000, |options| options.backend("telemetry.otlp_endpoint", "")).await;
    let event = fixture.event("private", Feature::Extraction, Stage::Completed, AT);
    let (own, query) = (format!("/{TOKEN}"), format!("/{TOKEN}?nonymous-query"));
    // Envoy answers gRPC with 200 and a status of its own.
    let cases = [
        (own.as_str(), "application/json", 202),
        (&query, "application/json", 202),
        (&own, "application/grpc", 200),
        ("/nonymous-token", "application/json", 404),
        // The filter removes nothing from a path that is not the webhook's.
        ("/../../elsewhere-than-there/nonymous-token", "application/grpc+nonymous", 200),
    ];
    for (path, media_type, status) in cases {
        assert_eq!(send(&fixture, &event, path, media_type).await, status, "{path} {media_type}");
    }
    // Over HTTP/2, a method can be any word. Envoy writes one that it does not know as `_OTHER`.
    let client = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
    let method = Method::from_bytes(b"THE-nonymous-METHOD").unwrap();
    let answer = client.request(method, format!("{}{own}", fixture.stack.webhook())).send().await.unwrap();
    assert_eq!(answer.status(), 405);
    // Each request has a span, and the first two are passed on to the backend.
    let spans = received(&collector, 8).await;
    assert!(
        spans.iter().any(|span| span.attributes.get("http.method").is_some_and(|method| method == "_OTHER")),
        "{spans:?}"
    );
    let mut rejections: Vec<_> = named(&spans, "receive").iter().map(|span| span.attributes.get(SHOWN[1])).collect();
    rejections.sort();
    let codes = ["method_not_allowed", "not_found", "not_found", "unsupported_media_type"].map(str::to_owned);
    assert_eq!(rejections, [None, None].into_iter().chain(codes.iter().map(Some)).collect::<Vec<_>>());
    for span in &spans {
        let shown = ["http.url", "peer.address"].map(|name| span.attributes[name].as_str());
        assert!([["/webhooks/truenroll", "-"], ["/elsewhere-than-the", "-"]].contains(&shown), "{span:?}");
    }
    for sent in [TOKEN, "nonymous", "stranger", "applicant-1", "0af7651916cd43dd8448eb211c80319c"] {
        assert!(!collector.has_received(sent), "{sent} is in a span");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_backend_traces_no_event_that_envoy_does_not_trace() {
    let collector = Collector::start(Duration::ZERO).await.unwrap();
    let fixture = traced(&collector, 0, |options| {
        options.backend("telemetry.sampling", 1).backend("telemetry.continue_traces", true)
    })
    .await;
    let event = fixture.event("unsampled", Feature::Extraction, Stage::Completed, AT);
    assert_eq!(send(&fixture, &event, &format!("/{TOKEN}"), "application/json").await, 202);
    fixture.delivered_once(1).await;
    let delivery = fixture.simulator.application.first_delivery().unwrap();
    assert!(!delivery.headers.contains_key("traceparent"), "{:?}", delivery.headers);
    let mut stack = fixture.stack;
    stack.stop_backends().unwrap();
    assert_eq!(collector.spans(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn by_default_the_backend_does_not_continue_the_trace_of_a_request() {
    let collector = Collector::start(Duration::ZERO).await.unwrap();
    let fixture = traced(&collector, 10_000, |options| options.backend("telemetry.sampling", 1)).await;
    fixture.send_accepted(&fixture.event("apart", Feature::Extraction, Stage::Completed, AT)).await;
    let spans = received(&collector, 6).await;
    let store = named(&spans, "store extraction")[0];
    assert_eq!(store.parent, None);
    assert_ne!(store.context.0, named(&spans, "receive")[0].context.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_does_not_answer_costs_nothing_but_spans() {
    let silence = Duration::from_secs(120);
    let collector = Collector::start(silence).await.unwrap();
    let fixture = traced(&collector, 10_000, |options| options.backend("telemetry.otlp_endpoint", "")).await;
    let events = fixture.events("silent", 700);
    let began = Instant::now();
    let mut sending = JoinSet::new();
    for event in events {
        let sender = Arc::clone(&fixture.sender);
        sending.spawn(async move { (sender.send(&event).await, event.key) });
    }
    for (answer, key) in sending.join_all().await {
        // On a busy machine, Envoy may have sent the event twice.
        assert!([Answer::Accepted(key.clone()), Answer::Duplicate(key.clone())].contains(&answer), "{key}: {answer:?}");
    }
    println!("700 events in {:?}", began.elapsed());
    assert!(began.elapsed() < silence / 4, "{:?}", began.elapsed());
    let collected = ["envoy_cluster_name=\"collector\""];
    eventually("Envoy gives up", async || {
        let metrics = fixture.stack.envoy_metrics().await.unwrap();
        metrics.sum("envoy_cluster_upstream_rq_timeout", &collected) > 0
    })
    .await;
    // There could be a line for each request to the collector: every 5 s, and for every 500 spans.
    let said = fixture.stack.envoy.log().matches("OTLP HTTP exporter").count();
    assert!((1..20).contains(&said), "{said} lines");
    assert_eq!(collector.spans(), []);
}
