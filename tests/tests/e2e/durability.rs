//! What must be true before an event counts as stored.

use envelope::{Feature, Stage};
use tests::{simulator::sender::Answer, stack::Options};

use crate::{
    fixture::{Fixture, eventually},
    start::Redis,
};

#[tokio::test(flavor = "multi_thread")]
async fn with_replicas_an_event_is_accepted_only_once_they_have_it() {
    let primary = Redis::start(&["--appendonly", "no"]);
    let of = format!("127.0.0.1 {}", primary.port);
    let replica = Redis::start(&["--appendonly", "no", "--replicaof", &of]);
    let info = |port: u16| {
        let client = redis::Client::open(format!("redis://127.0.0.1:{port}")).unwrap();
        redis::cmd("INFO").arg("replication").query::<String>(&mut client.get_connection().unwrap()).unwrap()
    };
    eventually("the replica is connected", async || info(replica.port).contains("master_link_status:up")).await;
    let redis_url = Some(format!("redis://127.0.0.1:{}", primary.port));
    let fixture = Fixture::start_with(|options| {
        let options = Options { redis_url, ..options };
        options.backend("EDGE__REDIS__DURABILITY", "replicas:1").backend("EDGE__INGEST__STORE_TIMEOUT_MS", 1_000)
    })
    .await;
    let event = |at: &str| fixture.event("replicas", Feature::Forensics, Stage::Completed, at);
    fixture.send_accepted(&event("2025-06-22T10:30:00Z")).await;

    // The replica hangs: the event is stored, and nobody may say so.
    replica.process.signal("STOP").unwrap();
    let second = event("2025-06-22T10:30:01Z");
    let sending = tokio::spawn({
        let (sender, second) = (fixture.sender.clone(), second.clone());
        async move { sender.send(&second).await }
    });
    eventually("the backend says that it could not be stored", async || {
        fixture.stack.backend_metrics().await.unwrap().sum("edge_ingest_total", &["answer=\"unavailable\""]) > 0
    })
    .await;
    assert!(!sending.is_finished(), "Envoy tries again");
    replica.process.signal("CONT").unwrap();
    assert_eq!(sending.await.unwrap(), Answer::Duplicate(second.key.clone()));
    fixture.delivered_once(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stops_doing_what_it_should_gets_no_more_events() {
    let fixture = Fixture::start().await;
    let client = redis::Client::open(fixture.stack.redis_url()).unwrap();
    let set = |value: &str| {
        let mut connection = client.get_connection().unwrap();
        redis::cmd("CONFIG").arg("SET").arg("appendfsync").arg(value).exec(&mut connection).unwrap();
    };
    set("everysec");
    let ready = async || {
        let client = tests::simulator::sender::client();
        client.get(format!("{}/readyz", fixture.stack.admin())).send().await.unwrap().status().as_u16()
    };
    eventually("the backend has noticed", async || ready().await == 503).await;
    assert!(fixture.stack.backend.log().contains("appendfsync everysec"), "and says what is wrong");
    let event = fixture.events("unfit", 1).remove(0);
    let sending = tokio::spawn({
        let (sender, event) = (fixture.sender.clone(), event.clone());
        async move { sender.send(&event).await }
    });
    eventually("the event is not taken", async || {
        fixture.stack.backend_metrics().await.unwrap().sum("edge_ingest_total", &["answer=\"unavailable\""]) > 0
    })
    .await;
    set("always");
    eventually("the backend takes events again", async || ready().await == 200).await;
    assert!(matches!(sending.await.unwrap(), Answer::Accepted(_) | Answer::Unavailable));
    assert!(matches!(fixture.sender.send(&event).await, Answer::Accepted(_) | Answer::Duplicate(_)));
    fixture.delivered_once(1).await;
}
