//! Large results.

use envelope::{Feature, Stage};

use crate::fixture::{Fixture, eventually, peak};

const AT: &str = "2025-06-22T10:30:00Z";

#[tokio::test(flavor = "multi_thread")]
async fn large_translations_are_delivered_without_being_held_in_memory() {
    const SIZE: usize = 32 << 20;
    let fixture = Fixture::start_with(|options| options.backend("sink.timeout_ms", 60_000)).await;
    let send = async |case: &str| {
        let event = fixture.event(case, Feature::Translation, Stage::Completed, AT);
        fixture.send_accepted(&event).await;
    };
    send("small").await;
    fixture.delivered_once(1).await;
    let before = peak(fixture.stack.backend.pid());
    fixture.simulator.world.set_translation_size(SIZE);
    for case in ["large-1", "large-2"] {
        send(case).await;
    }
    fixture.delivered_once(3).await;
    let grown = peak(fixture.stack.backend.pid()) - before;
    println!("  2 translations of {} MiB: the backend's memory grew by {} MiB", SIZE >> 20, grown >> 20);
    assert!(grown < 3 * SIZE as u64 / 2, "{grown}");
    for delivery in &fixture.simulator.application.deliveries()[1..] {
        let page = delivery.body["outcome"]["result"]["translation"][0]["htmlRepresentation"].as_str().unwrap();
        assert!(page.len() > SIZE - 14, "{}", page.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_is_too_large_is_dead_lettered_and_one_that_cannot_be_spooled_is_retried() {
    let folder = tempfile::tempdir().unwrap();
    let spool = folder.path().join("spool");
    std::fs::create_dir(&spool).unwrap();
    let fixture = Fixture::start_with(|options| {
        let options = options.backend("partner_api.max_response_bytes", 3 << 20);
        options.backend("partner_api.spool_folder", spool.display())
    })
    .await;
    fixture.simulator.world.set_translation_size(4 << 20);
    fixture.send_accepted(&fixture.event("too-large", Feature::Translation, Stage::Completed, AT)).await;
    eventually("the event is a dead letter", async || {
        fixture.dead_letters().await == [("api_too_large".to_owned(), 1)]
    })
    .await;

    std::fs::remove_dir(&spool).unwrap();
    fixture.simulator.world.set_translation_size(2 << 20);
    fixture.send_accepted(&fixture.event("large", Feature::Translation, Stage::Completed, AT)).await;
    eventually("the event is retried", async || {
        let metrics = fixture.stack.backend_metrics().await.unwrap();
        metrics.sum("truenroll_backend_retries_total", &["code=\"api_not_kept\""]) > 0
    })
    .await;
    std::fs::create_dir(&spool).unwrap();
    fixture.delivered_once(1).await;
}
