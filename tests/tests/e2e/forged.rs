//! Events that are not true: an event is only a hint, and the Partner API decides.

use envelope::{Feature, Stage};

use crate::fixture::{Fixture, eventually};

const AT: &str = "2025-06-22T10:30:00Z";

async fn retries(fixture: &Fixture, code: &str) -> u64 {
    let metrics = fixture.stack.backend_metrics().await.unwrap();
    metrics.sum("edge_retries_total", &[&format!("code=\"{code}\"")])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_completed_event_is_delivered_only_once_the_api_shows_its_stage_at_its_end() {
    for refuses_early in [false, true] {
        let fixture = Fixture::start().await;
        let world = &fixture.simulator.world;
        if refuses_early {
            world.refuse_early();
        }
        world.upload("queued", None, &Feature::ALL);
        for feature in Feature::ALL {
            fixture.send_accepted(&world.forge("queued", feature, Stage::Completed, AT).unwrap()).await;
        }
        eventually("each was looked at more than once", async || retries(&fixture, "not_ready").await >= 12).await;
        assert_eq!(fixture.simulator.application.counts(), (0, 0), "refuses_early: {refuses_early}");
        for (number, feature) in (1..).zip(Feature::ALL) {
            world.end("queued", feature, Stage::Completed, AT).unwrap();
            fixture.delivered_once(number).await;
        }
        fixture.nothing_left_over().await;
        assert_eq!(fixture.dead_letters().await, []);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_says_that_the_call_failed_is_retried_and_never_delivered() {
    let fixture = Fixture::start().await;
    fixture.simulator.world.be_unsuccessful(3);
    fixture.send_accepted(&fixture.event("unsuccessful", Feature::Extraction, Stage::Completed, AT)).await;
    fixture.delivered_once(1).await;
    let delivery = &fixture.simulator.application.deliveries()[0];
    assert!(delivery.body["outcome"]["result"]["id"] == "unsuccessful", "{}", delivery.body);
    assert_eq!(retries(&fixture, "api_unsuccessful").await, 3);
}
