//! Hostile traffic is rejected, never crashes the filter's VM, and does not affect valid events.

use std::time::Duration;

use envelope::vectors;
use harness::simulator::sender::Answer;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::fixture::{Fixture, PATIENCE, resident};

/// Malformed HTTP, and the possible statuses of the answer; none if the request never ends, so that
/// no answer is sent.
const RAW: &[(&str, &[u8], &[u16])] = &[
    ("not HTTP", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", &[400]),
    ("two lengths", b"POST /webhooks/truenroll HTTP/1.1\r\nhost: e\r\ncontent-type: application/json\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}", &[400]),
    ("two equal lengths", b"POST /webhooks/truenroll HTTP/1.1\r\nhost: e\r\ncontent-type: application/json\r\ncontent-length: 2\r\ncontent-length: 2\r\n\r\n{}", &[400]),
    ("length and chunks", b"POST /webhooks/truenroll HTTP/1.1\r\nhost: e\r\ncontent-type: application/json\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", &[400]),
    ("a length with a sign", b"POST /webhooks/truenroll HTTP/1.1\r\nhost: e\r\ncontent-type: application/json\r\ncontent-length: +2\r\n\r\n{}", &[400]),
    ("another transfer coding", b"POST /webhooks/truenroll HTTP/1.1\r\nhost: e\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n", &[400, 501]),
    ("an obscured transfer coding", b"POST /webhooks/truenroll HTTP/1.1\r\nhost: e\r\ntransfer-encoding: \x0bchunked\r\n\r\n0\r\n\r\n", &[400, 501]),
    ("an invalid chunk size", b"POST /webhooks/truenroll HTTP/1.1\r\nhost: e\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n", &[400]),
    ("a header that is continued on the next line", b"POST /webhooks/truenroll HTTP/1.1\r\nhost: e\r\ncontent-type: application/json,\r\n text/plain\r\ncontent-length: 2\r\n\r\n{}", &[400]),
    ("a NUL in a header", b"POST /webhooks/truenroll HTTP/1.1\r\nhost: e\r\nx: a\x00b\r\n\r\n", &[400]),
    ("an underscore in a header's name", b"POST /webhooks/truenroll HTTP/1.1\r\nhost: e\r\nx_edge_judged: a\r\ncontent-length: 0\r\n\r\n", &[400]),
    ("no host", b"POST /webhooks/truenroll HTTP/1.1\r\ncontent-length: 0\r\n\r\n", &[400]),
    ("an escaped slash", b"POST /webhooks%2ftruenroll HTTP/1.1\r\nhost: e\r\ncontent-length: 0\r\n\r\n", &[400]),
    ("a path that climbs to the webhook", b"POST /x/../webhooks/truenroll HTTP/1.1\r\nhost: e\r\ncontent-length: 0\r\n\r\n", &[415]),
    ("a tunnel", b"CONNECT e:443 HTTP/1.1\r\nhost: e:443\r\n\r\n", &[403, 404, 405]),
    ("an upgrade", b"POST /webhooks/truenroll HTTP/1.1\r\nhost: e\r\nconnection: upgrade\r\nupgrade: websocket\r\ncontent-length: 0\r\n\r\n", &[403, 415]),
    ("headers without an end", b"POST /webhooks/truenroll HTTP/1.1\r\nhost: e\r\n", &[]),
    ("a body without an end", b"POST /webhooks/truenroll HTTP/1.1\r\nhost: e\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{", &[]),
];

#[tokio::test(flavor = "multi_thread")]
async fn malformed_http_is_rejected_and_valid_events_sent_meanwhile_are_accepted() {
    let fixture = Fixture::start().await;
    for (what, request, expected) in RAW {
        let status = raw(&fixture, request).await;
        let is_expected = status.map_or(expected.is_empty(), |status| expected.contains(&status));
        assert!(is_expected, "{what}: expected one of {expected:?}, got {status:?}");
    }
    let events = fixture.events("beside", 20);
    for event in &events {
        fixture.send_accepted(event).await;
    }
    fixture.delivered_once(20).await;
    nothing_crashed(&fixture).await;
    let mut answers =
        fixture.stack.backend_metrics().await.unwrap().by_label("truenroll_backend_ingest_total", "answer");
    answers.retain(|_, count| *count > 0);
    assert_eq!(
        answers.into_iter().collect::<Vec<_>>(),
        [("accepted".to_owned(), 20)],
        "no other request reached the backend"
    );
}

/// The status of the answer; `None` if there is no answer within a second.
async fn raw(fixture: &Fixture, request: &[u8]) -> Option<u16> {
    let address = fixture.stack.edge().replace("http://", "");
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.write_all(request).await.unwrap();
    let mut answer = [0; 64];
    let read = timeout(Duration::from_secs(1), socket.read(&mut answer)).await.ok()?.ok()?;
    String::from_utf8_lossy(&answer[..read]).split(' ').nth(1)?.parse().ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_connections_with_garbage_block_no_event() {
    let fixture = Fixture::start().await;
    let events = fixture.events("good", 200);
    let rejections: Vec<_> = vectors::all().unwrap().into_iter().filter(|vector| vector.body().len() < 2_000).collect();
    let memory_before = resident(fixture.stack.envoy.pid());
    let mut garbage = JoinSet::new();
    for worker in 0..20 {
        let address = fixture.stack.edge().replace("http://", "");
        let rejections = rejections.clone();
        garbage.spawn(async move {
            let mut rng = fastrand::Rng::with_seed(worker);
            for _ in 0..300 {
                let Ok(mut socket) = TcpStream::connect(&address).await else { continue };
                let mut request =
                    b"POST /webhooks/truenroll HTTP/1.1\r\nhost: e\r\ncontent-type: application/json\r\n".to_vec();
                let body = rejections[rng.usize(..rejections.len())].body();
                request.extend(format!("content-length: {}\r\n\r\n", body.len()).as_bytes());
                request.extend(body);
                // Up to two bytes are damaged and the rest is cut off anywhere; half of the clients
                // wait for an answer.
                for _ in 0..rng.usize(..3) {
                    let at = rng.usize(..request.len());
                    request[at] = rng.u8(..);
                }
                request.truncate(rng.usize(1..=request.len()));
                _ = socket.write_all(&request).await;
                if rng.bool() {
                    _ = timeout(Duration::from_millis(20), socket.read(&mut [0; 256])).await;
                }
            }
        });
    }
    for event in &events {
        fixture.send_accepted(event).await;
        sleep(Duration::from_millis(5)).await;
    }
    garbage.join_all().await;
    fixture.delivered(200).await;
    nothing_crashed(&fixture).await;
    let grown = resident(fixture.stack.envoy.pid()).saturating_sub(memory_before);
    harness::tools::say(&format!("6,000 connections of garbage: Envoy's memory grew by {} MiB", grown >> 20));
    assert!(grown < 100 << 20, "Envoy's memory grew by {} MiB", grown >> 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_sender_delays_only_itself() {
    let fixture = Fixture::start().await;
    let event = fixture.events("slow", 2);
    let address = fixture.stack.edge().replace("http://", "");
    let mut slow = TcpStream::connect(address).await.unwrap();
    let head = "POST /webhooks/truenroll HTTP/1.1\r\nhost: e\r\ncontent-type: application/json\r\ncontent-length:";
    slow.write_all(format!("{head} {}\r\n\r\n", event[0].body.len()).as_bytes()).await.unwrap();
    let (first, rest) = event[0].body.as_bytes().split_at(10);
    slow.write_all(first).await.unwrap();
    fixture.send_accepted(&event[1]).await;
    fixture.delivered_once(1).await;
    slow.write_all(rest).await.unwrap();
    let mut answer = vec![0; 64];
    let read = timeout(PATIENCE, slow.read(&mut answer)).await.unwrap().unwrap();
    assert!(answer[..read].starts_with(b"HTTP/1.1 202"));
    fixture.delivered_once(2).await;
    assert_eq!(fixture.sender.send(&event[0]).await, Answer::Duplicate(event[0].key.clone()));
}

async fn nothing_crashed(fixture: &Fixture) {
    let metrics = fixture.stack.envoy_metrics().await.unwrap();
    for counter in ["vm_reload", "vm_reload_success", "vm_reload_failure", "vm_reload_backoff"] {
        assert_eq!(metrics.sum(&format!("envoy_wasm_truenroll_filter_{counter}"), &[]), 0, "{counter}");
    }
}
