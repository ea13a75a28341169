//! Events that never arrive are backfilled.

use std::{
    fs,
    time::{Duration, SystemTime},
};

use backend::test_support::inbox::{
    Expected, Inbox,
    MissingEvents::{AssumedReceived, Noted},
    keys::Keys,
};
use envelope::{CaseId, Feature, Stage, Timestamp};
use harness::simulator::{sender::Answer, world::Event};

use crate::fixture::{Fixture, IN_PROCESS_PREFIX, PATIENCE, config, eventually};

const AT: &str = "2025-06-22T10:30:00Z";

/// Starts a stack whose reconciler uses pages of two cases and no grace period.
async fn start() -> Fixture {
    Fixture::start_with(|options| options.backend("partner_api.paging.size", 2).backend("reconciler.grace_s", 0)).await
}

/// The current time in RFC 3339 format.
pub(crate) fn now() -> String {
    rfc3339(SystemTime::now())
}

/// A time in RFC 3339 format.
pub(crate) fn rfc3339(time: SystemTime) -> String {
    let millis = time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis();
    Timestamp::from_unix_millis(i64::try_from(millis).unwrap()).to_string()
}

fn reconcile(fixture: &Fixture) -> String {
    fixture.stack.backend_command(&["reconcile"]).unwrap()
}

/// Creates a case with one upload whose stages have all finished, and returns the events that
/// TruEnroll sends.
fn finished_case(fixture: &Fixture, case: &str) -> Vec<Event> {
    fixture.simulator.world.upload(case, Some("applicant-1"), &Feature::ALL);
    let finish = |feature| fixture.simulator.world.finish(case, feature, Stage::Completed, AT).unwrap();
    Feature::ALL.into_iter().map(finish).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_event_is_backfilled_once_even_if_it_arrives_later() {
    let fixture = start().await;
    for number in 0..5 {
        finished_case(&fixture, &format!("before-{number}"));
    }
    let said = reconcile(&fixture);
    let first = "compared 5 cases: 0 events backfilled, 0 within the grace period, 20 assumed received\n";
    assert!(said.starts_with(first) && said.contains("backend reconcile --since"), "a first round: {said}");

    let mut events = finished_case(&fixture, "incomplete");
    let lost = events.remove(2);
    for event in &events {
        fixture.send_accepted(event).await;
    }
    assert_eq!(
        reconcile(&fixture),
        "compared 6 cases: 1 event backfilled, 0 within the grace period, 0 assumed received\n"
    );
    fixture.delivered_once(4).await;
    let deliveries = fixture.simulator.application.deliveries();
    let backfilled: Vec<_> = deliveries.iter().filter(|delivery| delivery.body["backfilled"] == true).collect();
    assert_eq!(backfilled.len(), 1);
    assert_eq!(backfilled[0].lane, ("incomplete".to_owned(), "forensics".to_owned()));
    assert!(backfilled[0].body["outcome"]["result"].is_object(), "the result was fetched as for any other event");
    assert_eq!(
        reconcile(&fixture),
        "compared 6 cases: 0 events backfilled, 0 within the grace period, 0 assumed received\n",
        "a second round backfills nothing"
    );

    assert_eq!(
        fixture.sender.send(&lost).await,
        Answer::Duplicate(lost.key.clone()),
        "a backfilled event that arrives later is a duplicate"
    );
    assert_eq!(fixture.sender.send(&lost).await, Answer::Duplicate(lost.key.clone()));

    // A second upload, whose events are lost.
    fixture.simulator.world.upload("incomplete", None, &[Feature::Forensics, Feature::Extraction]);
    let finish =
        |feature| fixture.simulator.world.finish("incomplete", feature, Stage::Completed, "2099-06-22T10:31:00Z");
    finish(Feature::Forensics).unwrap();
    fixture.simulator.world.delete("before-3");
    assert_eq!(
        reconcile(&fixture),
        "compared 5 cases: 0 events backfilled, 0 within the grace period, 0 assumed received\n",
        "one stage of the upload has not finished"
    );
    finish(Feature::Extraction).unwrap();
    assert_eq!(
        reconcile(&fixture),
        "compared 5 cases: 2 events backfilled, 0 within the grace period, 0 assumed received\n"
    );
    fixture.delivered_once(6).await;
    fixture.nothing_left_over().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_backend_reconciles_periodically() {
    let fixture = Fixture::start_with(|options| {
        options
            .backend("reconciler.interval_s", 1)
            .backend("reconciler.grace_s", 1)
            .backend("reconciler.backfill_first_round", true)
    })
    .await;
    finished_case(&fixture, "lost");
    fixture.delivered_once(4).await;
    eventually("the backfilled events are counted", async || {
        fixture.stack.backend_metrics().await.unwrap().sum("truenroll_backend_backfilled_total", &[]) == 4
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_round_ends_with_an_error_that_names_the_setting_if_the_api_ignores_the_skip_parameter() {
    let fixture = Fixture::start_with(|options| {
        options.backend("partner_api.paging.size", 2).backend("reconciler.interval_s", 60)
    })
    .await;
    let world = &fixture.simulator.world;
    for number in 0..5 {
        finished_case(&fixture, &format!("case-{number}"));
    }
    world.ignore_skip();
    eventually("the round of the running backend has failed", async || {
        fixture.stack.backend.log().contains("`partner_api.paging.skip_parameter`")
    })
    .await;
    assert!(world.calls() <= 12, "{} calls", world.calls());
    // The log also says what the round assumed received before it failed, since no later round
    // reports that.
    let log = fixture.stack.backend.log();
    assert!(log.contains("8 missing events were assumed received") && log.contains("--since TIME"), "{log}");
    let error = fixture.stack.backend_command(&["reconcile"]).unwrap_err().to_string();
    assert!(error.contains("`partner_api.paging.skip_parameter`"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_case_is_skipped_when_others_are_deleted_between_two_pages() {
    let fixture = start().await;
    finished_case(&fixture, "before");
    reconcile(&fixture);
    fixture.simulator.world.delete("before");
    for number in 0..8 {
        finished_case(&fixture, &format!("case-{number}"));
    }
    fixture.simulator.world.delete_listed();
    reconcile(&fixture);
    let left = fixture.simulator.world.case_ids();
    assert!(!left.is_empty());
    eventually("every event of the remaining cases is backfilled", async || {
        let deliveries = fixture.simulator.application.deliveries();
        left.iter().all(|case| deliveries.iter().filter(|delivery| delivery.lane.0 == *case).count() == 4)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_missing_event_has_its_own_grace_period() {
    let fixture = Fixture::start_with(|options| options.backend("reconciler.grace_s", 2)).await;
    let world = &fixture.simulator.world;
    reconcile(&fixture);
    let upload = |at: &str| {
        world.upload("grace", None, &[Feature::Extraction]);
        world.finish("grace", Feature::Extraction, Stage::Completed, at).unwrap()
    };
    let lost = upload(AT);
    reconcile(&fixture);
    let noticed = SystemTime::now();
    eventually("the grace period of the first event is over", async || {
        noticed.elapsed().unwrap() > Duration::from_secs(2)
    })
    .await;
    // The stage of this event finished after the first event was found missing; the event is on its
    // way during the round.
    let on_its_way = upload(&now());
    let said = reconcile(&fixture);
    assert!(said.starts_with("compared 1 case: 1 event backfilled, 1 within the grace period"), "{said}");
    fixture.send_accepted(&on_its_way).await;
    assert_eq!(
        fixture.sender.send(&lost).await,
        Answer::Duplicate(lost.key.clone()),
        "a backfilled event that arrives later is a duplicate"
    );
    let said = reconcile(&fixture);
    assert!(said.starts_with("compared 1 case: 0 events backfilled, 0 within the grace period"), "{said}");
    fixture.delivered_once(2).await;
    fixture.nothing_left_over().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_the_loss_of_all_data_events_that_finished_since_a_given_time_are_backfilled() {
    let mut fixture = start().await;
    let world = fixture.simulator.world.clone();
    let old = finished_case(&fixture, "old");
    world.upload("recent", None, &[Feature::Extraction]);
    let first = world.finish("recent", Feature::Extraction, Stage::Completed, AT).unwrap();
    world.upload("recent", None, &[Feature::Extraction, Feature::Forensics]);
    let at = "2026-01-02T00:00:00Z";
    let second = world.finish("recent", Feature::Extraction, Stage::Completed, at).unwrap();
    let third = world.finish("recent", Feature::Forensics, Stage::Completed, at).unwrap();
    for event in old.iter().chain([&first, &second, &third]) {
        fixture.send_accepted(event).await;
    }
    fixture.delivered_once(7).await;
    fixture.stack.backend.stop(PATIENCE).unwrap();
    let client = redis::Client::open(fixture.stack.redis_url()).unwrap();
    redis::cmd("FLUSHALL").exec(&mut client.get_connection().unwrap()).unwrap();
    fixture.stack.start_backend().unwrap();

    // One more event arrives before the loss is noticed.
    world.upload("recent", None, &[Feature::Extraction]);
    let last = world.finish("recent", Feature::Extraction, Stage::Completed, "2026-01-03T00:00:00Z").unwrap();
    fixture.send_accepted(&last).await;
    fixture.delivered_once(8).await;
    world.upload("undated", None, &[Feature::Extraction]);
    world.finish("undated", Feature::Extraction, Stage::Completed, at).unwrap();
    world.remove_times("undated");

    let said = reconcile(&fixture);
    assert!(said.contains("3 cases: 0 events backfilled") && said.contains("8 assumed received"), "{said}");
    assert!(said.contains("if the store was lost, run `backend reconcile --since TIME`"), "{said}");
    let since = || fixture.stack.backend_command(&["reconcile", "--since", "2026-01-01T00:00:00Z"]).unwrap();
    let said = since();
    assert!(said.contains("3 cases: 2 events backfilled") && said.contains("0 assumed received"), "{said}");
    assert!(said.contains("skipped 1 upload for --since"), "{said}");
    fixture.delivered_once(10).await;
    assert!(since().contains("3 cases: 0 events backfilled"), "a second round backfills nothing");
    let deliveries = fixture.simulator.application.deliveries();
    let mut lanes: Vec<_> =
        deliveries.iter().filter(|one| one.body["backfilled"] == true).map(|one| &one.lane).collect();
    lanes.sort();
    assert_eq!(lanes.iter().map(|lane| lane.1.as_str()).collect::<Vec<_>>(), ["extraction", "forensics"]);
    fixture.nothing_left_over().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_round_backfills_events_since_a_given_time_if_requested() {
    let fixture = start().await;
    finished_case(&fixture, "old");
    fixture.simulator.world.upload("recent", None, &[Feature::Extraction]);
    fixture.simulator.world.finish("recent", Feature::Extraction, Stage::Completed, "2026-01-02T00:00:00Z").unwrap();
    let said = fixture.stack.backend_command(&["reconcile", "--since", "2026-01-01T00:00:00Z"]).unwrap();
    assert!(said.contains("2 cases: 1 event backfilled") && said.contains("4 assumed received"), "{said}");
    fixture.delivered_once(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn features_that_the_policy_disables_are_not_backfilled() {
    let policy = tempfile::NamedTempFile::new().unwrap();
    let file = policy.path().display().to_string();
    fs::write(policy.path(), "disabled_features = [\"translation\"]").unwrap();
    let fixture = Fixture::start_with(|options| {
        let options = options.backend("reconciler.policy_file", &file);
        options.backend("reconciler.grace_s", 0).backend("reconciler.backfill_first_round", true)
    })
    .await;
    finished_case(&fixture, "lost");
    assert!(reconcile(&fixture).starts_with("compared 1 case: 3 events backfilled"));
    fixture.delivered_once(3).await;
    let deliveries = fixture.simulator.application.deliveries();
    assert!(deliveries.iter().all(|delivery| delivery.lane.1 != "translation"));

    // Each round reads the file again.
    fs::write(policy.path(), "").unwrap();
    assert!(
        reconcile(&fixture).starts_with("compared 1 case: 0 events backfilled"),
        "a stage that finished while its feature was disabled is not backfilled later"
    );
    finished_case(&fixture, "later");
    assert!(reconcile(&fixture).starts_with("compared 2 cases: 4 events backfilled"));
    fs::write(policy.path(), "disabled_features = [\"verification\"]").unwrap();
    let error = fixture.stack.backend_command(&["reconcile"]).unwrap_err().to_string();
    assert!(error.contains("`reconciler.policy_file`") && error.contains(&file), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_missing_event_keeps_its_time_and_a_time_in_the_future_is_replaced() {
    let fixture = Fixture::start().await;
    let config = config(&fixture.stack.redis_url());
    let inbox = Inbox::connect(&config).await.unwrap();
    let case = CaseId::new("times").unwrap();
    let compare = async |required, missing, max_assumed_received| {
        let expected = Expected { feature: Feature::Extraction, required, missing, max_assumed_received };
        inbox.compare(&case, expected).await.unwrap()
    };
    let first = compare(1, Noted, None).await.missing_since;
    let both = compare(2, Noted, None).await.missing_since;
    assert!(first.len() == 1 && both.len() == 2 && both[0] == first[0] && both[1] > first[0], "{first:?} {both:?}");

    let client = redis::Client::open(fixture.stack.redis_url()).unwrap();
    let mut connection = client.get_connection().unwrap();
    let key = Keys::new(IN_PROCESS_PREFIX, 1).of_partition(0).case(&case);
    let mut set = |field: &str, value: &str| {
        redis::cmd("HSET").arg(&key).arg(field).arg(value).exec(&mut connection).unwrap();
    };
    // One of the two events arrives. Which one is not known, so the older time is removed, and the
    // other one stays.
    set("extraction", "1");
    assert_eq!(compare(2, Noted, None).await.missing_since, both[1..]);
    for ahead in ["4102444800000 4102444800000", "99999999999999999999999"] {
        set("extraction", "0");
        set("extraction:missing", ahead);
        let since = compare(2, Noted, None).await.missing_since;
        assert!(since.len() == 2 && since[0] < since[1], "{since:?}");
        assert!(since[1] <= SystemTime::now() + Duration::from_secs(1), "{since:?}");
    }

    let assumed = compare(3, AssumedReceived, None).await;
    assert_eq!(
        (assumed.newly_assumed_received, assumed.reopened, assumed.received, assumed.missing_since.len()),
        (3, 0, 3, 0)
    );
    let reopened = compare(3, Noted, Some(1)).await;
    assert_eq!(
        (reopened.newly_assumed_received, reopened.reopened, reopened.received, reopened.missing_since.len()),
        (0, 2, 1, 2)
    );
    let again = compare(3, Noted, Some(1)).await;
    assert_eq!(
        (again.newly_assumed_received, again.reopened, again.received, again.missing_since),
        (0, 0, 1, reopened.missing_since)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_backend_warns_about_what_its_first_round_assumes_received() {
    // The first round comes 3 to 9 seconds after the start, so the case exists by then.
    let fixture = Fixture::start_with(|options| options.backend("reconciler.interval_s", 60)).await;
    finished_case(&fixture, "before");
    eventually("the log reports the first round, and says what to do if the data was lost", async || {
        let log = fixture.stack.backend.log();
        log.lines()
            .any(|line| line.contains("WARN") && line.contains("4") && line.contains("backend reconcile --since TIME"))
    })
    .await;
    assert_eq!(fixture.simulator.application.counts(), (0, 0));
}
