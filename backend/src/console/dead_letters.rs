//! The page Dead letters: why events could not be handled, and their replay.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use askama::Template;
use axum::response::{Redirect, Response};
use envelope::{CaseId, Feature};
use serde::{Deserialize, Serialize};

use super::{
    Context,
    answer::{Asked, Failure, Frame, Sent},
    form::{invalid, optional},
    job::JobState,
};
use crate::{
    codes,
    events::{Budget, Event, Filter, Letters, Replayed},
    time::{as_millis, from_millis},
    units::{count, duration},
};

/// Which dead letters to preview, as the form states it. What is empty selects all.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Chosen {
    feature: String,
    code: String,
    case: String,
}

/// The form of a replay: what was previewed, and how fast to replay it.
#[derive(Deserialize)]
pub(super) struct Previewed {
    feature: String,
    code: String,
    case: String,
    until_ms: u64,
    total: u64,
    rate: u32,
}

/// What the page shows.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DeadLetters {
    /// The moment that the page shows, by the clock of Redis. A replay leaves alone what becomes a
    /// dead letter later.
    #[serde(rename = "untilMs", serialize_with = "as_millis")]
    until: SystemTime,
    /// When the page was read, by the same clock.
    #[serde(skip)]
    now: SystemTime,
    /// Whether these are all. If there are too many to count, the moment is that of the last one that
    /// was counted.
    is_complete: bool,
    /// All dead letters, by code and feature; the largest group first.
    groups: Vec<Group>,
    /// How many of the chosen ones can be replayed.
    total: u64,
    /// How many of the chosen ones cannot, because their stored bodies are not events.
    unreadable: u64,
    /// The oldest of the chosen ones.
    events: Vec<Event>,
    /// The replay that runs, or the last one.
    job: Option<JobState>,
}

/// The dead letters of one code and feature.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Group {
    code: String,
    /// `None` if the event's key names none.
    feature: Option<&'static str>,
    events: u64,
    #[serde(rename = "oldestMs", serialize_with = "as_millis")]
    oldest: SystemTime,
    #[serde(rename = "newestMs", serialize_with = "as_millis")]
    newest: SystemTime,
    /// What the code means; `None` for a code of a custom handler.
    meaning: Option<&'static str>,
    advice: Option<&'static str>,
}

#[derive(Template)]
#[template(path = "dead_letters.html")]
struct Page {
    frame: Frame,
    chosen: Chosen,
    view: DeadLetters,
}

/// How many events the page shows.
const SHOWN: usize = 50;
/// How much is read for a page.
const BUDGET: Budget = Budget { time: Duration::from_secs(4), entries: 500_000 };
/// How many dead letters are read again and again, for a page that shows changes by itself.
const LIVE: usize = 10_000;
/// The most events that are replayed per second.
const MAX_RATE: u32 = 1_000;
/// The longest code.
const MAX_CODE: usize = 64;

pub(super) async fn show(Asked { context, frame }: Asked, Sent(chosen): Sent<Chosen>) -> Result<Response, Failure> {
    let page = Page { view: DeadLetters::read(&context, &chosen).await?, frame, chosen };
    Ok(page.frame.show(&page, &page.view))
}

/// Starts the replay of the dead letters that were previewed.
pub(super) async fn replay(Asked { context, frame }: Asked, Sent(form): Sent<Previewed>) -> Result<Redirect, Failure> {
    let Previewed { feature, code, case, until_ms, total, rate } = form;
    if !(1..=MAX_RATE).contains(&rate) {
        return Err(invalid("The rate is invalid", format!("Replay 1 to {MAX_RATE} events per second.")));
    }
    // Whatever the form says, an event that becomes a dead letter again is not replayed again.
    let now = context.inbox.examined(&context.config()).slowest_clock().await?;
    let chosen = Chosen { feature, code, case };
    let filter = chosen.filter()?.before(from_millis(until_ms)).before(now);
    let at_work = Arc::clone(&context);
    let redirect = context.replays.start(&context, total, &frame.visitor, |job| async move {
        let report = |done: &Replayed| job.has_done(done.replayed, &at_work);
        let letters = Letters::new(&at_work.inbox, filter);
        let replayed = letters.replay(rate.into(), &job.cancelled, report).await;
        replayed.map(|replayed| replayed.summary("replayed")).map_err(|error| error.to_string())
    })?;
    let Chosen { feature, code, case } = chosen;
    tracing::info!(feature, code, case, until_ms, rate, "the replay is of these dead letters");
    Ok(redirect)
}

/// Cancels the replay.
pub(super) async fn cancel(Asked { context, frame }: Asked) -> Redirect {
    context.replays.cancel(&frame.visitor)
}

impl Chosen {
    fn filter(&self) -> Result<Filter, Failure> {
        let is_code = |code: &str| code.len() <= MAX_CODE && code.bytes().all(|byte| byte.is_ascii_graphic());
        let code = |code: &str| is_code(code).then(|| code.to_owned()).ok_or("is not a code");
        Ok(Filter {
            feature: optional(&self.feature, |name| Feature::parse(name).ok_or("is not a feature"))?,
            code: optional(&self.code, code)?,
            case: optional(&self.case, |case| CaseId::new(case.to_owned()).ok_or("is not the identifier of a case"))?,
            ..Filter::default()
        })
    }
}

impl DeadLetters {
    /// Reads all dead letters, oldest first, until the budget is used up.
    async fn read(context: &Context, chosen: &Chosen) -> Result<Self, Failure> {
        let filter = chosen.filter()?;
        let now = context.inbox.examined(&context.config()).slowest_clock().await?;
        let mut until = now;
        let job = context.replays.state();
        let most = if job.as_ref().is_some_and(JobState::is_running) { LIVE } else { BUDGET.entries };
        let mut letters = Letters::new(&context.inbox, Filter::default().before(until));
        let (mut groups, mut selected, mut events) = (BTreeMap::new(), Replayed::default(), Vec::new());
        let (began, mut read, mut last, mut is_complete) = (Instant::now(), 0, SystemTime::UNIX_EPOCH, true);
        while let Some((letter, event)) = letters.next().await? {
            // A replay of what comes before a moment must not include what was not counted.
            if (read >= most || began.elapsed() >= BUDGET.time) && event.since > last {
                (until, is_complete) = (event.since, false);
                break;
            }
            (read, last) = (read + 1, event.since);
            let group = groups.entry((letter.code.clone(), event.feature.map(Feature::as_str)));
            group.or_insert_with(|| Group::of(&letter.code, &event)).add(&event);
            if filter.selects(&event) {
                selected.add(&letter, letter.name.is_some());
                if events.len() < SHOWN {
                    events.push(event);
                }
            }
        }
        let mut groups: Vec<Group> = groups.into_values().collect();
        groups.sort_by_key(|group| std::cmp::Reverse(group.events));
        let Replayed { replayed: total, unreadable } = selected;
        Ok(Self { until, now, is_complete, groups, total, unreadable, events, job })
    }

    fn all(&self) -> String {
        count(self.groups.iter().map(|group| group.events).sum(), "dead letter")
    }

    fn chosen(&self) -> String {
        count(self.total + self.unreadable, "dead letter")
    }

    fn replayable(&self) -> String {
        count(self.total, "dead letter")
    }

    fn is_running(&self) -> bool {
        self.job.as_ref().is_some_and(JobState::is_running)
    }

    /// Whether the page shows changes by itself, for which it is read again and again.
    fn is_live(&self) -> bool {
        self.is_running() || self.groups.iter().map(|group| group.events).sum::<u64>() <= LIVE as u64
    }

    /// How long ago something was.
    fn age(&self, moment: SystemTime) -> String {
        duration(self.now.duration_since(moment).unwrap_or_default())
    }
}

impl Group {
    /// Returns an empty group for dead letters like this one.
    fn of(code: &str, event: &Event) -> Self {
        let (meaning, advice) = codes::explain(code).unzip();
        let feature = event.feature.map(Feature::as_str);
        Self { code: code.to_owned(), feature, events: 0, oldest: event.since, newest: event.since, meaning, advice }
    }

    fn add(&mut self, event: &Event) {
        self.events += 1;
        self.newest = event.since;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_read_from_the_form() {
        let chosen = |feature: &str, code: &str, case: &str| Chosen {
            feature: feature.to_owned(),
            code: code.to_owned(),
            case: case.to_owned(),
        };
        let filter = chosen("extraction", " sink_rejected ", "c1").filter().unwrap();
        assert_eq!((filter.feature, filter.code.as_deref()), (Some(Feature::Extraction), Some("sink_rejected")));
        assert_eq!(filter.case, CaseId::new("c1"));
        assert!(chosen("", "", "").filter().unwrap().code.is_none());
        for wrong in [
            chosen("verification", "", ""),
            chosen("", "two words", ""),
            chosen("", &"x".repeat(65), ""),
            chosen("", "", "a case"),
        ] {
            assert!(wrong.filter().is_err(), "{wrong:?}");
        }
    }
}
