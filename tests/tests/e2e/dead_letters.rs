//! The page Dead letters: what was previewed is replayed, and nothing else.

use std::time::Duration;

use axum::http::StatusCode;
use envelope::{Feature, Stage};
use harness::{
    browser::{Browser, Script},
    stack::Options,
};
use serde_json::{Value, json};

use crate::{
    browser::{WIDE, shows},
    console::{WithConsole, hidden},
    fixture::eventually,
};

const PATH: &str = "/dead-letters";
const AT: &str = "2025-06-22T10:30:00Z";

/// Sends events of new cases, which the application no longer wants, so that they become dead letters.
pub(crate) async fn become_dead(console: &WithConsole, name: &str, feature: Feature, events: usize) {
    let before = groups(console).await.values().sum::<u64>();
    let gone = vec![(StatusCode::GONE, Duration::ZERO); events];
    console.fixture.simulator.application.fail_next(gone);
    for number in 0..events {
        let event = console.fixture.event(&format!("{name}-{number}"), feature, Stage::Completed, AT);
        console.fixture.send_accepted(&event).await;
    }
    let expected = before + events as u64;
    eventually("they are dead letters", async || groups(console).await.values().sum::<u64>() == expected).await;
}

/// The number of dead letters by feature.
async fn groups(console: &WithConsole) -> std::collections::BTreeMap<String, u64> {
    let answer = console.json("/api/v1/dead-letters").await;
    let groups = answer["groups"].as_array().unwrap().iter();
    groups.map(|group| (group["feature"].as_str().unwrap().to_owned(), group["events"].as_u64().unwrap())).collect()
}

async fn job(console: &WithConsole) -> Value {
    console.json("/api/v1/dead-letters").await["job"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_takes_what_was_previewed_and_nothing_else() {
    let console = WithConsole::start().await;
    assert!(console.page(PATH).await.contains("There are no dead letters"));
    become_dead(&console, "extracted", Feature::Extraction, 2).await;
    become_dead(&console, "translated", Feature::Translation, 1).await;
    let group = &console.json("/api/v1/dead-letters").await["groups"][0];
    assert_eq!(
        (&group["code"], &group["feature"], &group["events"]),
        (&json!("sink_rejected"), &json!("extraction"), &json!(2))
    );
    assert!(group["meaning"].as_str().unwrap().contains("other than 2xx"), "{group}");
    assert!(group["advice"].as_str().unwrap().contains("then replay"), "{group}");
    let page = console.page(&format!("{PATH}?code=sink_rejected&feature=extraction")).await;
    assert!(page.contains("Replay 2 dead letters") && page.contains("the application answered 410"), "{page}");
    assert!(page.contains("extracted-1") && !page.contains("translated-0"), "{page}");
    assert!(!page.contains("applicant-1"), "the page shows an externalId");

    let (until, total) = (hidden(&page, "until_ms"), hidden(&page, "total"));
    let fields = |rate: &str| format!("feature=extraction&code=sink_rejected&case=&total={total}&rate={rate}");
    let form = |rate: &str| format!("{}&until_ms={until}", fields(rate));
    for (name, wrong) in [
        ("an empty form", String::new()),
        ("no moment", fields("50")),
        ("no rate", form("")),
        ("a rate of zero", form("0")),
        ("a rate that is too high", form("1001")),
        ("a wrong feature", form("50").replace("extraction", "verification")),
        ("a wrong code", form("50").replace("sink_rejected", "two+words")),
        ("a wrong case", form("50").replace("case=", "case=a+case")),
    ] {
        let answer = console.post("/dead-letters/replay", &wrong).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 400, "{name}");
    }
    become_dead(&console, "later", Feature::Extraction, 1).await;
    let answer = console.post("/dead-letters/replay", &form("50")).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.headers()["location"].to_str().unwrap()), (303, PATH));
    console.fixture.delivered_once(2).await;
    eventually("the replay has ended", async || job(&console).await["state"] == "completed").await;
    let expected = json!({
        "what": "replay", "by": "anybody on this machine", "done": 2, "total": 2, "state": "completed",
        "result": "replayed 2 dead letters",
    });
    assert_eq!(job(&console).await, expected);
    let left = [("extraction".to_owned(), 1), ("translation".to_owned(), 1)];
    assert_eq!(groups(&console).await, left.into());
    assert!(console.page(PATH).await.contains("later-0"));
    let log = console.fixture.stack.backend.log();
    assert!(log.contains("replay started in the console") && log.contains("anybody on this machine"), "{log}");
}

/// The application still rejects what is replayed, and the form has a moment that has not come yet.
#[tokio::test(flavor = "multi_thread")]
async fn a_replay_ends_even_if_its_events_become_dead_letters_again() {
    let console = WithConsole::start().await;
    become_dead(&console, "dead", Feature::Extraction, 3).await;
    console.fixture.simulator.application.fail_next(vec![(StatusCode::GONE, Duration::ZERO); 100]);
    let form = format!("feature=&code=&case=&total=3&rate=2&until_ms={}", u64::MAX);
    console.post("/dead-letters/replay", &form).send().await.unwrap();
    eventually("the replay has ended", async || job(&console).await["state"] == "completed").await;
    assert_eq!(job(&console).await["result"], "replayed 3 dead letters");
    eventually("they are dead letters again", async || groups(&console).await.values().sum::<u64>() == 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_understood_replayed_slowly_cancelled_and_replayed_in_a_browser() {
    let console = WithConsole::start().await;
    become_dead(&console, "extracted", Feature::Extraction, 4).await;
    become_dead(&console, "translated", Feature::Translation, 2).await;
    let browser = Browser::open(WIDE, Script::On).await.unwrap();
    browser.go_to(&console.url).await.unwrap();
    browser.press_enter(r#"dd a[href="/dead-letters"]"#).await.unwrap();
    eventually("the page explains the code", async || shows(&browser, "tbody", "Fix the application").await).await;
    browser.press_enter("#sink_rejected-extraction").await.unwrap();
    eventually("the preview is shown", async || shows(&browser, "#replay", "Replay 4 dead letters").await).await;
    browser.evaluate("document.querySelector('#rate').value = 1").await.unwrap();
    become_dead(&console, "later", Feature::Extraction, 1).await;
    browser.press_enter("#replay").await.unwrap();
    eventually("the progress is shown", async || shows(&browser, ".notice", "is running").await).await;
    browser.press_enter("#cancel").await.unwrap();
    eventually("the page says what was done", async || shows(&browser, ".notice", "was cancelled: replayed").await)
        .await;
    let replayed = job(&console).await["done"].as_u64().unwrap();
    assert!(replayed < 4, "{replayed} were replayed");
    eventually("the page can replay the rest", async || {
        shows(&browser, "#replay", &format!("Replay {} dead letters", 7 - replayed)).await
    })
    .await;
    browser.press_enter("#replay").await.unwrap();
    eventually("all are gone", async || shows(&browser, ".empty", "There are no dead letters").await).await;
    console.fixture.delivered_once(7).await;
    assert_eq!(browser.errors().await.unwrap(), [""; 0]);
}

/// What an operator does after an outage of the application, from page to page.
#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_the_application_is_seen_understood_and_made_good_in_a_browser() {
    let give_up_at_once = |options: Options| {
        let options = options.backend("worker.give_up_after_s", 0).backend("worker.min_attempts", 2);
        options.backend("worker.backoff_base_ms", 1)
    };
    let console = WithConsole::start_with(give_up_at_once).await;
    let application = &console.fixture.simulator.application;
    application.fail_next(vec![(StatusCode::SERVICE_UNAVAILABLE, Duration::ZERO); 100]);
    let transcript = console.fixture.event("transcript", Feature::Extraction, Stage::Completed, AT);
    let diploma = console.fixture.event("diploma", Feature::Translation, Stage::Completed, AT);
    for event in [&transcript, &diploma] {
        console.fixture.send_accepted(event).await;
    }
    let browser = Browser::open(WIDE, Script::On).await.unwrap();
    browser.go_to(&console.url).await.unwrap();
    eventually("something needs attention", async || shows(&browser, ".notice", "there are 2 dead letters").await)
        .await;
    browser.press_enter(r#"dd a[href="/dead-letters"]"#).await.unwrap();
    eventually("the page explains the code", async || shows(&browser, "tbody", "Fix the application").await).await;
    browser.press_enter("#sink_rejected-extraction").await.unwrap();
    eventually("the event is listed", async || shows(&browser, ".any", &transcript.key).await).await;
    browser.press_enter(".any a").await.unwrap();
    eventually("both attempts are shown", async || {
        shows(&browser, ".timeline", "became a dead letter at attempt 2: sink_rejected: the application answered 503")
            .await
    })
    .await;
    assert!(shows(&browser, ".story strong", "Fix the application").await, "the page advises");

    application.heal();
    browser.press_enter(r#"nav a[href="/dead-letters"]"#).await.unwrap();
    eventually("both can be replayed", async || shows(&browser, "#replay", "Replay 2 dead letters").await).await;
    browser.press_enter("#replay").await.unwrap();
    console.fixture.delivered_once(2).await;
    eventually("all are gone", async || shows(&browser, ".empty", "There are no dead letters").await).await;
    browser.press_enter(r#"nav a[href="/"]"#).await.unwrap();
    eventually("all is well", async || shows(&browser, "h1", "All is well").await).await;
    assert_eq!(browser.errors().await.unwrap(), [""; 0]);
}
