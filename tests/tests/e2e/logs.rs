//! Strangers can write only a bounded amount into Envoy's access log, and nothing after the
//! webhook's path is logged.

use std::time::Instant;

use harness::stack::{Options, Stack};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::timeout,
};

use crate::fixture::{Fixture, PATIENCE, eventually};

/// `max_tokens` in envoy/log-limit.yaml: the rejected requests that are logged at once.
const LOGGED_AT_ONCE: usize = 1000;
/// `tokens_per_fill` in envoy/log-limit.yaml: the rejected requests that are logged per second
/// after that.
const LOGGED_PER_SECOND: usize = 50;

/// The number of requests in the flood of rejected requests.
const FLOOD: usize = 4000;
/// The number of clients that send the flood at the same time.
const SENDERS: usize = 8;

/// The lines of the access log.
fn lines(stack: &Stack) -> Vec<Value> {
    stack.envoy.log().lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn is_rejected(line: &Value) -> bool {
    line["status"].as_u64().is_none_or(|status| !(200..300).contains(&status))
}

/// Sends a request on a new connection, and waits until it is answered or the connection is closed.
async fn send(edge: &str, request: &[u8]) {
    let mut socket = TcpStream::connect(edge).await.unwrap();
    if socket.write_all(request).await.is_ok() {
        _ = timeout(PATIENCE, socket.read(&mut [0; 256])).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_rejected_requests_is_logged_in_part_and_accepted_events_in_full() {
    // Envoy closes connections beyond its limit on new connections without a log line. The test
    // opens more than that limit within a second on a fast machine.
    let bootstrap = vec![("connection_burst", (2 * FLOOD).to_string())];
    let fixture = Fixture::start_with(|options| Options { bootstrap, ..options }).await;
    let edge = fixture.stack.edge().replace("http://", "");
    let steady = fixture.steady("flooded");
    let long = |length: usize| "a".repeat(length);
    let requests = [
        format!("POST /{} HTTP/1.1\r\nhost: e\r\ncontent-length: 0\r\n\r\n", long(60_000)),
        format!("POST /{} HTTP/1.1\r\nhost: e\r\ncontent-length: 0\r\n\r\n", long(7_000)),
        format!("POST /x HTTP/1.1\r\nhost: e\r\nx-request-id: {}\r\ncontent-length: 0\r\n\r\n", long(7_000)),
        format!("POST /x?{} HTTP/1.1\r\nhost: e\r\nuser-agent: {}\r\n\r\n", long(3_000), long(3_000)),
        "POST /webhooks/truenroll HTTP/1.1\r\nhost: e\r\ncontent-length: 2\r\n\r\n{}".to_owned(),
    ];
    let began = Instant::now();
    let mut flood = JoinSet::new();
    for _ in 0..SENDERS {
        let edge = edge.clone();
        let requests = requests.clone();
        flood.spawn(async move {
            for request in requests.iter().cycle().take(FLOOD / SENDERS) {
                send(&edge, request.as_bytes()).await;
            }
        });
    }
    eventually("the steady sender has sent events during the flood", async || steady.sent() > 150).await;
    flood.join_all().await;
    let may_be_logged = LOGGED_AT_ONCE + LOGGED_PER_SECOND * (began.elapsed().as_secs() as usize + 2);
    let report = fixture.all_accepted_and_delivered(steady).await;

    let accepted = || lines(&fixture.stack).iter().filter(|line| !is_rejected(line)).count();
    eventually("every accepted event is in the log", async || accepted() == report.sent).await;
    let rejected = || lines(&fixture.stack).iter().filter(|line| is_rejected(line)).count();
    // Envoy may answer a request before it logs it.
    eventually("every rejected request is either in the log or counted", async || {
        let metrics = fixture.stack.envoy_metrics().await.unwrap();
        let not_logged = metrics.sum("envoy_access_log_process_ratelimit_denied", &[]) as usize;
        rejected() + not_logged == FLOOD
    })
    .await;
    let log = fixture.stack.envoy.log();
    let rejected = rejected();
    let longest = log.lines().map(str::len).max().unwrap();
    harness::tools::say(&format!(
        "{FLOOD} rejected requests: {rejected} logged; the log has {} bytes, its longest line {longest}",
        log.len()
    ));
    assert!(rejected <= may_be_logged, "{rejected} rejected requests were logged, at most {may_be_logged} may be");
    assert!(longest <= 900, "a line has {longest} bytes");
}

/// A token that shares no five consecutive characters with anything else that is logged.
const TOKEN: &str = "Zq7xKw3vJp9mTb5rGd8nHc2sLf6yWk4z";

#[tokio::test(flavor = "multi_thread")]
async fn nothing_after_the_webhooks_path_is_logged() {
    let policy = json!({ "authenticity": { "kind": "path_token", "tokens": [TOKEN] } });
    let fixture = Fixture::start_with(|options| Options { policy, ..options }).await;
    let edge = fixture.stack.edge().replace("http://", "");
    let post =
        |target: &str, more: &str| format!("POST {target} HTTP/1.1\r\nhost: e\r\n{more}content-length: 0\r\n\r\n");
    let path = format!("/webhooks/truenroll/{TOKEN}");
    let requests = [
        post(&path, ""),
        post(&format!("{path}%2F"), ""),
        post(&format!("{path}%5c"), ""),
        post(&format!("{path}%00"), ""),
        post(&format!("{path}#fragment"), ""),
        post(&format!("{path}?query={TOKEN}"), ""),
        post(&format!("{path}/../{TOKEN}%2f"), ""),
        post(&format!("/webhooks/truenroll;{TOKEN}"), ""),
        post(&format!("/webhooks/truenroll?{TOKEN}"), ""),
        post(&format!("/webhooks%2ftruenroll/{TOKEN}"), ""),
        post(&format!("//webhooks//truenroll//{TOKEN}%2f"), ""),
        post(&format!("/x/../webhooks/truenroll/{TOKEN}%2f"), ""),
        post(&format!("http://e{path}"), ""),
        post(&format!("http://e{path}%2f"), ""),
        post(&path, "connection: upgrade\r\nupgrade: websocket\r\n"),
        post(&path, "transfer-encoding: chunked\r\n"),
        post(&path, "transfer-encoding: gzip\r\n"),
        post(&path, "a_header: with an underscore\r\n"),
        post(&path, &format!("x: {}\r\n", "a".repeat(9_000))),
        post(&path, "expect: 100-continue\r\n"),
        post(&path, "").replace("host: e\r\n", ""),
        post(&path, "").replace("HTTP/1.1", "HTTP/1.0"),
        post(&path, "").replace("POST", "GET"),
        post(&path, "").replace("POST", "CONNECT"),
        post(&path, "").replace("POST", "OPTIONS"),
    ];
    for request in &requests {
        send(&edge, request.as_bytes()).await;
    }
    // Envoy does not log requests that it does not recognize as HTTP.
    let last = fixture.events("last", 1).remove(0);
    let url = format!("{}/{TOKEN}", fixture.stack.webhook());
    let request = harness::simulator::sender::client().post(url).header("content-type", "application/json");
    assert_eq!(request.body(last.body).send().await.unwrap().status(), 202);
    eventually("the last request is in the log", async || !lines(&fixture.stack).iter().all(is_rejected)).await;
    assert!(lines(&fixture.stack).len() > requests.len() / 2, "most requests are in the log");
    for log in [fixture.stack.envoy.log(), fixture.stack.backend.log()] {
        for part in TOKEN.as_bytes().windows(5).map(|part| std::str::from_utf8(part).unwrap()) {
            let line = log.lines().find(|line| line.contains(part));
            assert_eq!(line, None, "{part} is in the log");
        }
    }
}
