//! The ingest answers senders independently of running handlers.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use async_trait::async_trait;
use backend::{
    event::Event,
    handler::{FeatureHandler, HandlerError, Outcome},
    test_support::{
        inbox::Inbox,
        server::{self, Listeners},
    },
};
use envelope::{
    EventName, Feature, Stage,
    headers::{self, Judgement, Mark},
};
use harness::backend_settings::PROOF;
use tokio::{net::TcpListener, sync::oneshot};
use tokio_util::sync::CancellationToken;

use crate::fixture::{Fixture, config, eventually};

/// A handler that blocks its thread until the other end of `held` is dropped, as no handler should.
struct Blocks {
    held: Mutex<mpsc::Receiver<()>>,
    begun: Arc<AtomicUsize>,
    ended: Arc<AtomicUsize>,
}

#[async_trait]
impl FeatureHandler for Blocks {
    async fn handle(&self, _: &Event) -> Result<Outcome, HandlerError> {
        self.begun.fetch_add(1, Ordering::SeqCst);
        _ = self.held.lock().unwrap().recv();
        self.ended.fetch_add(1, Ordering::SeqCst);
        Ok(Outcome::Nothing)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_blocks_its_thread_delays_no_answer_to_senders() {
    let fixture = Fixture::start().await;
    let mut config = config(&fixture.stack.redis_url());
    config.partner_api.base_url = format!("{}/partner/v1", fixture.simulator.url());
    let begun = Arc::new(AtomicUsize::new(0));
    let ended = Arc::new(AtomicUsize::new(0));
    let name = EventName { feature: Feature::Extraction, stage: Stage::Completed };
    let (hold, held) = mpsc::channel();
    let handler = Arc::new(Blocks { held: held.into(), begun: Arc::clone(&begun), ended: Arc::clone(&ended) });
    let (stop, (told, port)) = (CancellationToken::new(), oneshot::channel());
    let stopped = stop.clone();
    let backend = thread::spawn(move || {
        // The workers have one thread, which the handler blocks.
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(async {
            let ingest = TcpListener::bind("127.0.0.1:0").await?;
            let admin = TcpListener::bind("127.0.0.1:0").await?;
            told.send(ingest.local_addr()?.port()).expect("the test waits for the port");
            let inbox = Inbox::connect(&config).await?;
            let listeners = Listeners { ingest, admin, console: None };
            server::run(config, inbox, |handlers, _| handlers.with(name, handler), listeners, None, stopped).await
        })
    });
    let url = format!("http://127.0.0.1:{}/", port.await.unwrap());
    let client = harness::simulator::sender::client();
    let send = async |case: &str| {
        let event = fixture.event(case, Feature::Extraction, Stage::Completed, "2025-06-22T10:30:00Z");
        let judged = Judgement::write(PROOF, "test", Mark::Accepted);
        let request = client.post(&url).header("content-type", "application/json").header(headers::JUDGED, judged);
        request.body(event.body).timeout(Duration::from_secs(3)).send().await.map(|answer| answer.status())
    };
    eventually("the backend accepts an event", async || send("blocking-1").await.is_ok_and(|status| status == 202))
        .await;
    eventually("its handler blocks", async || begun.load(Ordering::SeqCst) == 1).await;
    assert_eq!(send("blocking-2").await.unwrap(), 202);
    assert_eq!(ended.load(Ordering::SeqCst), 0, "the handler still blocks");
    drop(hold);
    stop.cancel();
    backend.join().unwrap().unwrap();
}
