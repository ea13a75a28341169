//! The only backend is down, or its name does not resolve, for some seconds: requests wait, and
//! none is rejected.

use std::{
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use harness::{
    dns::{DnsServer, Reply},
    simulator::steady::Steady,
    stack::Options,
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use crate::fixture::{Fixture, eventually};

const FIRST: Ipv4Addr = Ipv4Addr::LOCALHOST;
const SECOND: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// A stack whose Envoy finds the backend by a name that `dns` resolves.
async fn start(dns: &DnsServer) -> Fixture {
    let bootstrap = vec![
        ("backend_address", "backend.test".to_owned()),
        ("dns_resolver_address", "127.0.0.1".to_owned()),
        ("dns_resolver_port", dns.port().to_string()),
    ];
    Fixture::start_with(|options| Options { enable: vec!["dns_resolver"], bootstrap, ..options }).await
}

/// Waits until the sender has sent `events` more events, 50 per second.
async fn send_more(steady: &Steady, events: usize) {
    let enough = steady.sent() + events;
    eventually("there is traffic", async || steady.sent() >= enough).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_rejected_while_the_only_backend_is_down_for_14_seconds() {
    let mut fixture = Fixture::start().await;
    let steady = fixture.steady("down");
    send_more(&steady, 50).await;
    fixture.stack.backend.kill().unwrap();
    send_more(&steady, 14 * 50).await;
    fixture.stack.start_backend().unwrap();
    let report = fixture.all_accepted_and_delivered(steady).await;
    harness::tools::say(&format!(
        "the backend was down for 14 s: {} events sent, the longest wait was {:?}",
        report.sent, report.longest
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_rejected_while_a_backend_is_down_and_its_name_does_not_resolve() {
    let dns = DnsServer::start(Reply::Addresses(vec![FIRST])).await.unwrap();
    let mut fixture = start(&dns).await;
    let port = fixture.stack.ingest().rsplit_once(':').unwrap().1.to_owned();
    let outages = [
        (Reply::NxDomain, FIRST),
        (Reply::NxDomain, SECOND),
        (Reply::ServFail, FIRST),
        (Reply::Empty, SECOND),
        (Reply::Silence, FIRST),
        (Reply::Addresses(vec![FIRST]), SECOND),
    ];
    for (number, (outage, back_at)) in outages.into_iter().enumerate() {
        let steady = fixture.steady(&format!("outage-{number}"));
        send_more(&steady, 25).await;
        fixture.stack.backend.kill().unwrap();
        dns.set(outage.clone());
        eventually("Envoy has queried the name again", async || dns.queries() >= 2).await;
        send_more(&steady, 100).await;
        fixture.stack.set_backend("ingest.listen", format!("{back_at}:{port}"));
        dns.set(Reply::Addresses(vec![back_at]));
        fixture.stack.start_backend().unwrap();
        send_more(&steady, 25).await;
        let report = fixture.all_accepted_and_delivered(steady).await;
        let sent = report.sent;
        let longest = report.longest;
        harness::tools::say(&format!(
            "{outage:?}, then back at {back_at}: {sent} events sent, the longest wait was {longest:?}"
        ));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_rejected_while_the_name_of_a_running_backend_does_not_resolve() {
    let dns = DnsServer::start(Reply::Addresses(vec![FIRST])).await.unwrap();
    let fixture = start(&dns).await;
    let steady = fixture.steady("dns-down");
    for outage in [Reply::NxDomain, Reply::ServFail, Reply::Empty, Reply::Silence] {
        dns.set(outage);
        eventually("Envoy has queried the name again", async || dns.queries() >= 2).await;
        send_more(&steady, 50).await;
    }
    fixture.all_accepted_and_delivered(steady).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_wait_for_a_name_that_has_never_resolved() {
    for outage in [Reply::NxDomain, Reply::ServFail, Reply::Empty, Reply::Silence] {
        let dns = DnsServer::start(outage.clone()).await.unwrap();
        let fixture = start(&dns).await;
        let steady = fixture.steady("first");
        send_more(&steady, 50).await;
        dns.set(Reply::Addresses(vec![FIRST]));
        send_more(&steady, 25).await;
        let report = fixture.all_accepted_and_delivered(steady).await;
        harness::tools::say(&format!("{outage:?} at Envoy's start: the longest wait was {:?}", report.longest));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_addresses_of_a_name_are_used_and_one_of_them_can_fail() {
    let dns = DnsServer::start(Reply::Addresses(vec![FIRST])).await.unwrap();
    let fixture = start(&dns).await;
    let backend = fixture.stack.ingest().replace("http://", "");
    let port: u16 = backend.rsplit_once(':').unwrap().1.parse().unwrap();
    let third = Ipv4Addr::new(127, 0, 0, 3);
    let (one, to_one) = forward((SECOND, port), backend.clone()).await;
    let (_other, to_other) = forward((third, port), backend).await;
    dns.set(Reply::Addresses(vec![SECOND, third]));
    eventually("Envoy knows both addresses", async || dns.queries() >= 2).await;

    let steady = fixture.steady("both");
    eventually("both addresses get requests", async || {
        [&to_one, &to_other].iter().all(|connections| connections.load(Ordering::Relaxed) > 0)
    })
    .await;
    one.abort();
    send_more(&steady, 100).await;
    fixture.all_accepted_and_delivered(steady).await;
}

/// Forwards connections from one address to another, and counts them. Aborting the task closes all
/// open connections.
async fn forward(from: (Ipv4Addr, u16), to: String) -> (JoinHandle<()>, Arc<AtomicUsize>) {
    let listener = TcpListener::bind(from).await.unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    let task = tokio::spawn(async move {
        let mut open = tokio::task::JoinSet::new();
        while let Ok((mut inside, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::Relaxed);
            let to = to.clone();
            open.spawn(async move {
                let mut outside = TcpStream::connect(to).await?;
                tokio::io::copy_bidirectional(&mut inside, &mut outside).await
            });
        }
    });
    (task, connections)
}
