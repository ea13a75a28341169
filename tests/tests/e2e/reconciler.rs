//! Events that never come.

use envelope::{Feature, Stage};
use tests::simulator::{sender::Answer, world::Event};

use crate::fixture::{Fixture, eventually};

const AT: &str = "2025-06-22T10:30:00Z";

/// A stack whose reconciler pages by two and waits for nothing.
async fn start() -> Fixture {
    Fixture::start_with(|options| {
        options.backend("EDGE__PARTNER_API__PAGING__SIZE", 2).backend("EDGE__RECONCILER__GRACE_S", 0)
    })
    .await
}

fn reconcile(fixture: &Fixture) -> String {
    fixture.stack.backend_command(&["reconcile"]).unwrap()
}

/// A case with one upload whose features are all at their end: the events that TruEnroll sends of it.
fn ended(fixture: &Fixture, case: &str) -> Vec<Event> {
    fixture.simulator.world.upload(case, Some("applicant-1"), &Feature::ALL);
    let end = |feature| fixture.simulator.world.end(case, feature, Stage::Completed, AT).unwrap();
    Feature::ALL.into_iter().map(end).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_never_came_is_made_up_for_once_even_if_it_comes_after_all() {
    let fixture = start().await;
    for number in 0..5 {
        ended(&fixture, &format!("before-{number}"));
    }
    assert_eq!(reconcile(&fixture), "looked at 5 cases: 0 missed events put through, 20 noted\n", "a first round");

    let mut events = ended(&fixture, "missed");
    let lost = events.remove(2);
    for event in &events {
        fixture.send_accepted(event).await;
    }
    assert_eq!(reconcile(&fixture), "looked at 6 cases: 1 missed events put through, 0 noted\n");
    fixture.delivered_once(4).await;
    let deliveries = fixture.simulator.application.deliveries();
    let made_up: Vec<_> = deliveries.iter().filter(|delivery| delivery.body["reconciled"] == true).collect();
    assert_eq!(made_up.len(), 1);
    assert_eq!(made_up[0].lane, ("missed".to_owned(), "forensics".to_owned()));
    assert!(made_up[0].body["outcome"]["result"].is_object(), "its result was fetched as any other's");
    assert_eq!(
        reconcile(&fixture),
        "looked at 6 cases: 0 missed events put through, 0 noted\n",
        "it does not repeat itself"
    );

    assert_eq!(fixture.sender.send(&lost).await, Answer::Duplicate(lost.key.clone()), "late after all");
    assert_eq!(fixture.sender.send(&lost).await, Answer::Duplicate(lost.key.clone()));

    // A second upload, one of whose events is lost as well.
    fixture.simulator.world.upload("missed", None, &[Feature::Forensics, Feature::Extraction]);
    let end = |feature| fixture.simulator.world.end("missed", feature, Stage::Completed, "2099-06-22T10:31:00Z");
    end(Feature::Forensics).unwrap();
    fixture.simulator.world.delete("before-3");
    assert_eq!(
        reconcile(&fixture),
        "looked at 5 cases: 0 missed events put through, 0 noted\n",
        "it is not at its end"
    );
    end(Feature::Extraction).unwrap();
    assert_eq!(reconcile(&fixture), "looked at 5 cases: 2 missed events put through, 0 noted\n");
    fixture.delivered_once(6).await;
    fixture.nothing_left_over().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_backend_reconciles_by_itself() {
    let fixture = Fixture::start_with(|options| {
        options
            .backend("EDGE__RECONCILER__INTERVAL_S", 1)
            .backend("EDGE__RECONCILER__GRACE_S", 1)
            .backend("EDGE__RECONCILER__FIRST_ROUND_COUNTS", true)
    })
    .await;
    ended(&fixture, "lost");
    fixture.delivered_once(4).await;
    eventually("the missed events are counted", async || {
        fixture.stack.backend_metrics().await.unwrap().sum("edge_missed_events_total", &[]) == 4
    })
    .await;
}
