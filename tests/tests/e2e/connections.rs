//! The bounds on waiting requests and open connections at the edge, and what happens beyond them.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use harness::{
    simulator::{
        sender::{Answer, Sender},
        world::Event,
    },
    stack::Options,
};
use reqwest::{Client, StatusCode, header::CONTENT_TYPE};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Mutex,
    task::JoinSet,
    time::{interval, sleep, timeout},
};

use crate::fixture::{Fixture, PATIENCE, eventually, peak, resident};

/// The bound in Envoy's bootstrap on requests that wait for their next retry.
const MAY_WAIT: usize = 4096;
/// The route's timeout in Envoy's bootstrap, less one second for the answer to arrive.
const RETRIED_FOR: Duration = Duration::from_secs(19);

#[tokio::test(flavor = "multi_thread")]
async fn a_bounded_number_of_requests_waits_for_a_backend_and_the_rest_is_rejected_at_once() {
    let mut fixture = Fixture::start().await;
    let before = resident(fixture.stack.envoy.pid());
    fixture.stack.backend.kill().unwrap();
    let events = fixture.events("waiting", MAY_WAIT * 3 / 2);
    let answers = Arc::new(Mutex::new(Vec::new()));
    let mut requests = JoinSet::new();
    // Envoy allows 100 requests at a time on each connection.
    for of_one_connection in events.chunks(100) {
        let builder = backend::test_support::http_client::builder(Duration::from_secs(60)).no_proxy();
        let client = builder.http2_prior_knowledge().build().unwrap();
        for event in of_one_connection {
            requests.spawn(post(client.clone(), fixture.stack.webhook(), padded(event), Arc::clone(&answers)));
        }
    }
    let beyond = events.len() - MAY_WAIT;
    eventually("the requests beyond the bound are rejected", async || answers.lock().await.len() >= beyond).await;
    let grown = peak(fixture.stack.envoy.pid()).saturating_sub(before) >> 20;
    fixture.stack.start_backend().unwrap();
    requests.join_all().await;

    let answers = answers.lock().await;
    let (accepted, rejected): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 202);
    // On a busy machine the backend may come back too late for some of the waiting requests.
    let timed_out = rejected.iter().filter(|answer| answer.waited > RETRIED_FOR).count();
    for answer in &rejected {
        let parts = (answer.status.as_u16(), answer.kind.as_str(), answer.body.contains(r#""code":"unavailable""#));
        assert_eq!(parts, (503, "application/problem+json", true), "{answer:?}");
        assert!(answer.retry_after, "{answer:?}");
    }
    let accepted = accepted.len();
    let at_once = rejected.len() - timed_out;
    harness::tools::say(&format!(
        "{accepted} requests waited and were accepted, {timed_out} timed out, {at_once} were rejected at once; \
         Envoy's memory grew by {grown} MiB"
    ));
    assert!(accepted > 0, "no request was accepted after the backend came back");
    // Each of Envoy's two workers may exceed the bound by one request.
    assert!(
        (accepted + timed_out).abs_diff(MAY_WAIT) <= 2,
        "{accepted} + {timed_out} requests waited, the bound is {MAY_WAIT}"
    );
    assert!(grown < 400, "Envoy's memory grew by {grown} MiB");
}

#[derive(Debug)]
struct Answered {
    status: StatusCode,
    kind: String,
    retry_after: bool,
    body: String,
    waited: Duration,
}

async fn post(client: Client, url: String, body: String, answers: Arc<Mutex<Vec<Answered>>>) {
    let began = Instant::now();
    let answer = client.post(url).header(CONTENT_TYPE, "application/json").body(body).send().await.unwrap();
    let kind = answer.headers()[CONTENT_TYPE].to_str().unwrap().to_owned();
    let status = answer.status();
    let retry_after = answer.headers().contains_key("retry-after");
    let body = answer.text().await.unwrap();
    let answered = Answered { status, kind, retry_after, body, waited: began.elapsed() };
    answers.lock().await.push(answered);
}

/// The event with an undocumented field that makes the body as large as allowed.
fn padded(event: &Event) -> String {
    let padding = "x".repeat(16_384 - event.body.len() - r#""padding":"","#.len());
    event.body.replacen('{', &format!(r#"{{"padding":"{padding}","#), 1)
}

/// Useless clients: their name, their number, what each sends at once, and what it then sends byte
/// by byte.
const USELESS: [(&str, usize, &str, &str); 4] = [
    ("silent", 1_600, "", ""),
    (
        "slow header",
        200,
        "POST /webhooks/truenroll HTTP/1.1\r\n",
        "x: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    ),
    (
        "slow body",
        200,
        "POST /webhooks/truenroll HTTP/1.1\r\nhost: e\r\ncontent-type: application/json\r\ncontent-length: 9000\r\n\r\n",
        "                                                            ",
    ),
    ("one byte at a time", 200, "", "POST /webhooks/truenroll/0000000000000000000000000000000000000000"),
];

#[tokio::test(flavor = "multi_thread")]
async fn useless_connections_are_closed_and_do_not_affect_a_genuine_sender() {
    let fixture = Fixture::start().await;
    let edge = fixture.stack.edge().replace("http://", "");
    let steady = fixture.steady("beside");
    let mut useless = JoinSet::new();
    for (what, count, at_once, slowly) in USELESS {
        for _ in 0..count {
            let edge = edge.clone();
            useless.spawn(async move { (what, until_closed(&edge, at_once, slowly).await) });
        }
    }
    let once = fixture.events("once", 200);
    for event in &once {
        // A new sender for each event, so that each is sent on a new connection.
        let sender = Sender::new(fixture.stack.webhook());
        assert_eq!(sender.send(event).await, Answer::Accepted(event.key.clone()));
    }
    let mut longest = std::collections::BTreeMap::<_, Duration>::new();
    while let Some(closed) = useless.join_next().await {
        let (what, lived) = closed.unwrap();
        let lived = lived.unwrap_or_else(|| panic!("a useless connection ({what}) is still open after {PATIENCE:?}"));
        longest.entry(what).and_modify(|longest| *longest = lived.max(*longest)).or_insert(lived);
    }
    let report = fixture.all_accepted_and_delivered(steady).await;
    harness::tools::say(&format!(
        "useless connections stayed open for at most {longest:?}; {} genuine events were sent meanwhile",
        report.sent
    ));
    let metrics = fixture.stack.envoy_metrics().await.unwrap();
    assert_eq!(metrics.sum("envoy_listener_local_ratelimit_rate_limited", &[]), 0, "no connection was rejected");
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_are_closed_when_connections_become_scarce() {
    let bootstrap = vec![("max_connections", "200".to_owned())];
    let fixture = Fixture::start_with(|options| Options { bootstrap, ..options }).await;
    let edge = fixture.stack.edge().replace("http://", "");
    let mut held = Vec::new();
    for _ in 0..250 {
        let mut socket = TcpStream::connect(&edge).await.unwrap();
        _ = socket.write_all(b"GET /x HTTP/1.1\r\nhost: e\r\n\r\n").await;
        _ = timeout(PATIENCE, socket.read(&mut [0; 1024])).await;
        held.push(socket);
    }
    let event = fixture.events("scarce", 1).remove(0);
    let began = Instant::now();
    eventually("a genuine sender gets a connection", async || {
        fixture.sender.send(&event).await == Answer::Accepted(event.key.clone())
    })
    .await;
    harness::tools::say(&format!("a genuine sender got a connection after {:?}", began.elapsed()));
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_cannot_exhaust_the_connection_limit() {
    // A tenth of the shipped limits.
    let bootstrap = [("max_connections", "2000"), ("connections_per_second", "100"), ("connection_burst", "300")];
    let bootstrap = bootstrap.map(|(name, value)| (name, value.to_owned())).to_vec();
    let fixture = Fixture::start_with(|options| Options { bootstrap, ..options }).await;
    let edge = fixture.stack.edge().replace("http://", "");
    let strangers = tokio::spawn(async move {
        let mut ticks = interval(Duration::from_secs(1) / 80);
        let mut held = Vec::new();
        for _ in 0..2_400 {
            ticks.tick().await;
            let mut socket = TcpStream::connect(&edge).await.unwrap();
            _ = socket.write_all(b"GET /x HTTP/1.1\r\nhost: e\r\n\r\n").await;
            held.push(socket);
        }
        held
    });
    // A new connection for each event: Envoy may close an idle connection just when it is reused.
    let mut sent = 0;
    while !strangers.is_finished() {
        let event = fixture.events(&format!("new-connection-{sent}"), 1).remove(0);
        let answer = Sender::new(fixture.stack.webhook()).send(&event).await;
        assert_eq!(answer, Answer::Accepted(event.key), "after {sent} accepted events");
        sent += 1;
        sleep(Duration::from_millis(250)).await;
    }
    fixture.delivered_once(sent).await;
    let metrics = fixture.stack.envoy_metrics().await.unwrap();
    let sum = |name: &str| metrics.sum(name, &[]);
    let open = sum("envoy_server_total_connections");
    let beyond = sum("envoy_listener_downstream_global_cx_overflow");
    harness::tools::say(&format!("{open} connections are open; {sent} events were accepted"));
    assert_eq!((beyond, sum("envoy_listener_local_ratelimit_rate_limited")), (0, 0));
}

/// How long Envoy keeps a useless connection open; `None` if it is still open after [`PATIENCE`].
async fn until_closed(edge: &str, at_once: &str, slowly: &str) -> Option<Duration> {
    let mut socket = TcpStream::connect(edge).await.ok()?;
    let began = Instant::now();
    _ = socket.write_all(at_once.as_bytes()).await;
    let (mut reading, mut writing) = socket.into_split();
    let slowly = slowly.to_owned();
    let writer = tokio::spawn(async move {
        for byte in slowly.bytes() {
            sleep(Duration::from_millis(500)).await;
            if writing.write_all(&[byte]).await.is_err() {
                break;
            }
        }
        writing
    });
    let mut answer = [0; 1024];
    let closed = timeout(PATIENCE, async { while matches!(reading.read(&mut answer).await, Ok(read) if read > 0) {} });
    let is_closed = closed.await.is_ok();
    writer.abort();
    is_closed.then(|| began.elapsed())
}
