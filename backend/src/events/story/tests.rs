use envelope::{EventName, Stage};

use super::*;
use crate::{
    inbox::{DeadLetter, Entry, EntryId, Failures, StreamId},
    time::from_millis,
};

pub(in crate::events) const KEY: &str = "case.extraction.completed:c1:2025-06-22T10:30:00Z";
const TOOK: Duration = Duration::from_millis(12);

fn stored(id: &str, source: Source, what: Kept) -> Stored {
    Stored { position: Position { id: StreamId::parse(id).unwrap(), partition: 3, source, place: 0 }, what }
}

pub(in crate::events) fn record(id: &str, change: Change, received: u64) -> Stored {
    let (key, received_at) = (KEY.to_owned(), from_millis(received));
    let record =
        Record { key, change, received_at, backfilled: false, attempts: 1, took: TOOK, error: None, trace_id: None };
    stored(id, Source::History, Kept::Record(record))
}

fn failures() -> Failures {
    Failures::default().and("not_ready", "", from_millis(1_010), TOOK).and("sink_status", "", from_millis(1_020), TOOK)
}

pub(in crate::events) fn pending(id: &str, received: u64, due: Option<u64>) -> Stored {
    let entry = Entry {
        id: EntryId::new(Feature::Extraction, 0, 0),
        body: Vec::new(),
        received_at: from_millis(received),
        backfilled: false,
        attempts: 2,
        due: due.map(from_millis),
        failures: due.map(|_| failures()).unwrap_or_default(),
        trace: None,
        is_trace_over: false,
    };
    stored(id, Source::Inbox(Feature::Extraction), Kept::Pending(KEY.to_owned(), entry))
}

fn letter(id: &str) -> Stored {
    let letter = DeadLetter {
        partition: 3,
        id: id.to_owned(),
        key: KEY.to_owned(),
        name: Some(EventName { feature: Feature::Extraction, stage: Stage::Completed }),
        code: "sink_status".to_owned(),
        detail: String::new(),
        attempts: 2,
        failures: failures(),
        received_at: from_millis(1_000),
        backfilled: false,
        dead_lettered_at: from_millis(2_000),
        trace_id: None,
    };
    stored(id, Source::Dead, Kept::Dead(letter))
}

pub(in crate::events) const RESULT: Change = Change::Completed(Delivered::Result);

#[test]
fn the_state_follows_from_where_the_event_is() {
    for (entries, state) in [
        (vec![pending("1000-0", 1_000, None)], State::Pending),
        (vec![pending("1000-0", 1_000, Some(3_000))], State::Retrying),
        (vec![record("2000-0", RESULT, 1_000)], State::Completed),
        // It was completed while the entries were read.
        (vec![pending("1000-0", 1_000, None), record("2000-0", RESULT, 1_000)], State::Completed),
        (vec![letter("2000-0")], State::Dead),
        // The record has the time of the dead letter.
        (vec![letter("2000-0"), record("2000-5", Change::DeadLettered, 1_000)], State::Dead),
        (vec![record("2000-0", Change::DeadLettered, 1_000)], State::Expired),
        (
            vec![record("2000-0", Change::DeadLettered, 1_000), record("3000-0", Change::Replayed, 1_000)],
            State::Pending,
        ),
        (vec![pending("3000-0", 1_000, Some(4_000)), record("3000-1", Change::Replayed, 1_000)], State::Retrying),
        (vec![record("2000-0", Change::Unknown, 1_000)], State::Pending),
    ] {
        assert_eq!(Story::of(&entries).unwrap().event.state, state, "{entries:?}");
    }
    assert_eq!(Story::of(&[]), None);
}

#[test]
fn a_timeline_has_each_change_once() {
    let kinds = |entries: &[Stored]| -> Vec<(u64, String)> {
        let timeline = Story::of(entries).unwrap().timeline;
        let kind = |step: &Step| serde_json::to_value(&step.what).unwrap()["happened"].as_str().unwrap().to_owned();
        timeline.iter().map(|step| (crate::time::to_millis(step.at), kind(step))).collect()
    };
    let owned = |steps: &[(u64, &str)]| steps.iter().map(|(at, kind)| (*at, (*kind).to_owned())).collect::<Vec<_>>();
    let failed = [(1_000, "received"), (1_010, "failed"), (1_020, "failed")];
    let dead = [&failed[..], &[(2_000, "deadLettered")]].concat();
    assert_eq!(kinds(&[letter("2000-0")]), owned(&dead), "without a history");
    assert_eq!(kinds(&[letter("2000-0"), record("2001-0", Change::DeadLettered, 1_000)])[..3], owned(&failed));
    assert_eq!(kinds(&[letter("2000-0"), record("2000-0", Change::DeadLettered, 1_000)]), owned(&dead));
    let revived = [
        record("2000-0", Change::DeadLettered, 1_000),
        record("3000-0", Change::Revived, 3_000),
        record("4000-0", RESULT, 3_000),
    ];
    let expected = [(1_000, "received"), (2_000, "deadLettered"), (3_000, "revived"), (4_000, "completed")];
    assert_eq!(kinds(&revived), owned(&expected));
}

#[test]
fn an_event_waits_for_the_first_thing_in_its_way() {
    use WaitsFor::{Backend, EarlierEvent, Resume, Retry, Turn};
    let id = StreamId::parse("1-0").unwrap();
    let inbox = |feature| Position { id, partition: 3, source: Source::Inbox(feature), place: 0 };
    let event = |due| Event::of(&pending("1000-0", 1_000, due)).unwrap();
    let other = "case.extraction.completed:c1:2025-06-22T09:00:00Z";
    let first = [(inbox(Feature::Extraction), KEY.to_owned())];
    let second = [(inbox(Feature::Extraction), other.to_owned()), first[0].clone()];
    let other_lane = [(inbox(Feature::Forensics), other.to_owned()), first[0].clone()];
    let paused = HashSet::from([Feature::Extraction]);
    let none = HashSet::new();
    for (due, waiting, paused, has_owner, expected) in [
        (None, &first[..], &none, true, Turn),
        (Some(1), &first, &none, true, Retry),
        (Some(1), &first, &none, false, Backend),
        (None, &first, &paused, false, Resume),
        (None, &second, &paused, false, EarlierEvent(other.to_owned())),
        (None, &other_lane, &none, true, Turn),
    ] {
        assert_eq!(waits_for(&event(due), waiting, paused, has_owner), Some(expected));
    }
    assert_eq!(waits_for(&Event::of(&letter("1-0")).unwrap(), &first, &none, true), None);
}
