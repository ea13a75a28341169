//! The console in Chromium.

use envelope::{Feature, Stage};
use harness::browser::{Browser, Script};
use serde_json::Value;

use crate::{
    console::{WithConsole, quarantine},
    fixture::eventually,
};

/// Every page of the console.
const PAGES: [&str; 6] = ["/", "/events", "/case/quarantined-0", "/dead-letters", "/quarantine", "/health"];
/// As wide as a small telephone.
const NARROW: u32 = 360;
pub(crate) const WIDE: u32 = 1_200;

pub(crate) async fn shows(browser: &Browser, selector: &str, text: &str) -> bool {
    browser.text(selector).await.unwrap().is_some_and(|shown| shown.contains(text))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feature_is_paused_with_the_keyboard_and_the_page_shows_changes_by_itself() {
    let console = WithConsole::start().await;
    let browser = Browser::open(WIDE, Script::On).await.unwrap();
    browser.go_to(&console.url).await.unwrap();
    eventually("all is well", async || shows(&browser, "h1", "All is well").await).await;
    browser.press_enter("#pause-extraction").await.unwrap();
    eventually("the feature is paused", async || shows(&browser, ".notice", "paused: extraction").await).await;
    eventually("the page is live", async || shows(&browser, "#live", "live, as of").await).await;
    let event = console.fixture.event("paused", Feature::Extraction, Stage::Completed, "2025-06-22T10:30:00Z");
    console.fixture.send_accepted(&event).await;
    eventually("the page shows that an event waits", async || shows(&browser, ".notice", "1 event in the inbox").await)
        .await;
    console.fixture.stack.backend_command(&["resume", "extraction"]).unwrap();
    eventually("the page shows that all is well again", async || shows(&browser, "h1", "All is well").await).await;
    assert_eq!(browser.errors().await.unwrap(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pages_work_without_a_script_on_a_narrow_screen() {
    let console = WithConsole::start().await;
    let event = console.fixture.events("quarantined", 1).remove(0);
    quarantine(
        &console.fixture,
        3,
        "unknown.0123456789abcdef:6850abc123def456ghi789:2025-06-22T10:30:00Z",
        &event.body,
    );
    console.fixture.simulator.application.fail_next([(axum::http::StatusCode::GONE, std::time::Duration::ZERO)]);
    let dead = console.fixture.event("dead", Feature::Extraction, Stage::Completed, "2025-06-22T10:30:00Z");
    console.fixture.send_accepted(&dead).await;
    eventually("the page lists the dead letter", async || console.page("/dead-letters").await.contains(&dead.key))
        .await;
    let browser = Browser::open(NARROW, Script::Off).await.unwrap();
    for page in PAGES {
        browser.go_to(&format!("{}{page}", console.url)).await.unwrap();
        for (what, expression, expected) in [
            ("fits the screen", "document.documentElement.scrollWidth <= innerWidth", Value::Bool(true)),
            ("says its language", "document.documentElement.lang", "en".into()),
            ("has one heading", "document.querySelectorAll('h1').length", 1.into()),
            ("has no style of its own", "document.querySelectorAll('[style], style').length", 0.into()),
            (
                "names its buttons",
                "[...document.querySelectorAll('button')].every(button => button.innerText.trim())",
                true.into(),
            ),
            (
                "has fields of one line",
                "[...document.querySelectorAll('input, select')].every(field => field.offsetHeight < 60)",
                true.into(),
            ),
            ("is styled", "getComputedStyle(document.querySelector('nav')).display", "flex".into()),
        ] {
            assert_eq!(browser.evaluate(expression).await.unwrap(), expected, "{page} {what}");
        }
        assert_eq!(browser.errors().await.unwrap(), [""; 0], "{page}");
    }
    browser.go_to(&console.url).await.unwrap();
    browser.press_enter("#pause-forensics").await.unwrap();
    eventually("the feature is paused", async || shows(&browser, ".notice", "paused: forensics").await).await;
    browser.press_enter("#resume-forensics").await.unwrap();
    eventually("the feature is active", async || browser.text("#pause-forensics").await.unwrap().is_some()).await;
    browser.go_to(&format!("{}/quarantine", console.url)).await.unwrap();
    browser.press_enter("#readmit").await.unwrap();
    console.fixture.delivered_once(1).await;
    eventually("the page says what was done", async || {
        browser.go_to(&format!("{}/quarantine", console.url)).await.unwrap();
        shows(&browser, ".notice", "readmitted 1 event").await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_followed_from_waiting_to_delivered() {
    let console = WithConsole::start().await;
    console.fixture.stack.backend_command(&["pause", "extraction"]).unwrap();
    let event = console.fixture.event("followed", Feature::Extraction, Stage::Completed, "2025-06-22T10:30:00Z");
    console.fixture.send_accepted(&event).await;
    let browser = Browser::open(WIDE, Script::On).await.unwrap();
    browser.go_to(&format!("{}/events?feature=extraction", console.url)).await.unwrap();
    eventually("the event is listed", async || shows(&browser, "tbody", &event.key).await).await;
    eventually("the page is live", async || shows(&browser, "#live", "live, as of").await).await;
    browser.press_enter("tbody a").await.unwrap();
    eventually("the page says what the event waits for", async || {
        shows(&browser, ".state", "its feature is paused").await
    })
    .await;
    console
        .fixture
        .simulator
        .application
        .fail_next([(axum::http::StatusCode::SERVICE_UNAVAILABLE, std::time::Duration::ZERO)]);
    console.fixture.stack.backend_command(&["resume", "extraction"]).unwrap();
    eventually("the page shows the delivery", async || shows(&browser, ".state", "delivered: result").await).await;
    assert!(shows(&browser, ".timeline", "sink_rejected: the application answered 503").await);
    assert_eq!(browser.errors().await.unwrap(), [""; 0]);
}
