//! The page Events: a list of events, and the search for a case or an event.
//!
//! A search is a POST, so that the partner's own reference appears in no URL, and therefore in no log
//! of a proxy and no history of a browser.

use std::time::{Duration, SystemTime};

use askama::Template;
use axum::{
    http::StatusCode,
    response::{Redirect, Response},
};
use clap::ValueEnum as _;
use envelope::{CaseId, Feature};
use serde::{Deserialize, Serialize};

use super::{
    Context,
    answer::{Asked, Failure, Frame, Sent},
    form::{invalid, optional},
    stories,
};
use crate::{
    events::{self, Budget, Cursor, Event, Filter, Subject},
    partner_api::Search,
    time::{as_millis, parse_rfc3339},
};

/// Which events to list, as the form states it. What is empty selects everything.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Chosen {
    feature: String,
    state: String,
    code: String,
    /// How far to go back from now.
    within: String,
    /// Times as RFC 3339 writes them, or as a browser's field does: in UTC, without a zone.
    since: String,
    until: String,
    cursor: String,
}

/// What the page shows.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Events {
    /// The events, the one that changed last first.
    events: Vec<Event>,
    /// Where the list continues.
    next: Option<String>,
    /// If reading on would have taken too long: how far back the events were searched.
    #[serde(rename = "searchedToMs", serialize_with = "as_millis")]
    searched_to: Option<SystemTime>,
    /// Whether completed events are recorded at all.
    has_history: bool,
}

#[derive(Template)]
#[template(path = "events.html")]
struct Page {
    frame: Frame,
    chosen: Chosen,
    view: Events,
}

/// The form of a search.
#[derive(Deserialize)]
pub(super) struct Sought {
    text: String,
    /// Whether the text is the partner's own reference.
    by: Option<String>,
}

/// How many events a page shows.
const SHOWN: usize = 50;
/// How much is read for a page. Whoever wants more continues the list.
const BUDGET: Budget = Budget { time: Duration::from_secs(2), entries: 200_000 };
/// How far back the choices go.
const WITHIN: [(&str, &str, Duration); 4] = [
    ("15m", "15 minutes", Duration::from_secs(15 * 60)),
    ("1h", "hour", Duration::from_secs(3_600)),
    ("1d", "day", Duration::from_secs(24 * 3_600)),
    ("7d", "7 days", Duration::from_secs(7 * 24 * 3_600)),
];

pub(super) async fn show(Asked { context, frame }: Asked, Sent(chosen): Sent<Chosen>) -> Result<Response, Failure> {
    let page = Page { view: Events::read(&context, &chosen).await?, frame, chosen };
    Ok(page.frame.show(&page, &page.view))
}

/// Leads to the case or the event that is sought. The answer never repeats the text.
pub(super) async fn search(asked: Asked, Sent(Sought { text, by }): Sent<Sought>) -> Result<Redirect, Failure> {
    let text = text.trim();
    if by.as_deref() != Some("externalId") {
        let subject = Subject::parse(text).ok_or_else(|| {
            invalid(
                "This is neither an event key nor the identifier of a case",
                "To search by your own reference, use the other button.",
            )
        })?;
        return Ok(Redirect::to(&stories::path(&subject)));
    }
    if text.is_empty() {
        return Err(invalid("There is nothing to search for", "Enter your own reference of the case."));
    }
    match asked.context.api.search(text).await.map_err(stories::unanswered)? {
        Search::Found(case) => {
            let undocumented = || stories::unavailable("The case has an undocumented identifier", "Ask TruEnroll.");
            let case = CaseId::new(case.id).ok_or_else(undocumented)?;
            Ok(Redirect::to(&stories::path(&Subject::Case(case))))
        }
        Search::None => Err(Failure::new(
            StatusCode::NOT_FOUND,
            "TruEnroll has no case with this reference",
            "Check its spelling: upper and lower case and spaces count.",
        )),
        Search::Ignored => Err(stories::unavailable(
            "The Partner API returned other cases",
            "Check whether it knows the query parameter that `partner_api.paging.external_id_parameter` names.",
        )),
    }
}

impl Events {
    async fn read(context: &Context, chosen: &Chosen) -> Result<Self, Failure> {
        let filter = chosen.filter(SystemTime::now())?;
        let cursor = optional(&chosen.cursor, |text| text.parse::<Cursor>())?;
        let listing = events::list(&context.inbox, &filter, cursor, SHOWN, BUDGET).await?;
        Ok(Self {
            events: listing.events,
            next: listing.next.map(|next| next.to_string()),
            searched_to: listing.searched_to,
            has_history: context.inbox.has_history(),
        })
    }
}

impl Chosen {
    fn filter(&self, now: SystemTime) -> Result<Filter, Failure> {
        let feature = |name: &str| Feature::parse(name).ok_or("is not a feature");
        let unlisted = |_| "is not a state by which events can be listed";
        let state = |name: &str| events::State::from_str(name, false).map_err(unlisted);
        let within = |name: &str| {
            let found = WITHIN.into_iter().find(|(known, ..)| *known == name);
            found.map(|(.., length)| now - length).ok_or("is not one of the choices")
        };
        Ok(Filter {
            feature: optional(&self.feature, feature)?,
            state: optional(&self.state, state)?,
            code: optional(&self.code, |code| Ok(code.to_owned()))?,
            since: optional(&self.since, time)?.max(optional(&self.within, within)?),
            until: optional(&self.until, time)?,
            ..Filter::default()
        })
    }

    /// Whether this is the first page of a list that new events join.
    fn is_live(&self) -> bool {
        self.cursor.is_empty() && self.until.is_empty()
    }

    /// The fields of a form that continues the list.
    fn fields(&self) -> [(&'static str, &str); 6] {
        [
            ("feature", &self.feature),
            ("state", &self.state),
            ("code", &self.code),
            ("within", &self.within),
            ("since", &self.since),
            ("until", &self.until),
        ]
    }
}

/// Reads a time; one without a zone, as browsers send it, is in UTC.
fn time(text: &str) -> Result<SystemTime, &'static str> {
    let seconds = if text.len() == "2025-06-22T10:30".len() { ":00" } else { "" };
    parse_rfc3339(text).or_else(|_| parse_rfc3339(&format!("{text}{seconds}Z")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::from_millis;

    #[test]
    fn a_filter_is_read_from_the_form() {
        let now = from_millis(1_750_588_200_000);
        let hour = Chosen { within: "1h".to_owned(), ..Chosen::default() };
        assert_eq!(hour.filter(now).unwrap().since, Some(now - Duration::from_secs(3_600)));
        let later = Chosen { since: "2025-06-22T10:00".to_owned(), ..hour };
        assert_eq!(later.filter(now).unwrap().since, Some(from_millis(1_750_586_400_000)), "the later time counts");
        let empty = Chosen { code: " ".to_owned(), ..Chosen::default() }.filter(now).unwrap();
        assert!(empty.code.is_none() && empty.since.is_none() && empty.state.is_none());
        for wrong in [
            Chosen { feature: "verification".to_owned(), ..Chosen::default() },
            Chosen { state: "expired".to_owned(), ..Chosen::default() },
            Chosen { within: "2h".to_owned(), ..Chosen::default() },
            Chosen { until: "yesterday".to_owned(), ..Chosen::default() },
        ] {
            assert!(wrong.filter(now).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_time_without_a_zone_is_in_utc() {
        for text in ["2025-06-22T10:30:00Z", "2025-06-22T10:30:00", "2025-06-22T10:30", "2025-06-22T12:30:00+02:00"] {
            assert_eq!(time(text), Ok(from_millis(1_750_588_200_000)), "{text}");
        }
        for text in ["", "10:30", "2025-06-22", "2025-06-22T10"] {
            assert!(time(text).is_err(), "{text}");
        }
    }
}
