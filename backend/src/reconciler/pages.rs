//! Walks through a list that an API returns in pages and that changes between the calls, without passing over a case.
//!
//! Pages overlap: each is requested so that it begins with the last case of the one before. If it begins with a case that
//! was not seen, cases before it were deleted and others moved into the gap, so the walk steps back until it meets a case
//! that it has seen. Cases that were added move others back, where they are met again.
//!
//! Invariant: every case that precedes a seen case, and was in the list from the beginning, was seen too. A page that begins
//! with a seen case keeps it, since a page is contiguous.

use std::{
    collections::HashSet,
    hash::{BuildHasher, RandomState},
};

/// The walk through the list.
pub(super) struct Pages {
    /// How many cases the next call skips.
    skip: usize,
    expected: Expected,
    /// How far the last step back went; 0 if the last page was taken.
    back: usize,
    /// Hashes of the cases that were seen, by a random key.
    seen: HashSet<u64>,
    hasher: RandomState,
    previous: Vec<u64>,
    /// How many pages in a row were the same.
    same: u32,
    /// How many pages in a row brought nothing new.
    fruitless: u32,
}

/// What the next page is to begin with.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Expected {
    /// A case that was seen.
    Seen,
    /// Nothing that is known: the page before held a single case, so this one should be empty.
    Nothing,
}

/// What a page came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Page {
    /// The places of the cases on it that were not seen before.
    New(Vec<usize>),
    /// The list is at its end.
    End,
}

/// Why the walk cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PagingError {
    /// The same page again and again, or nothing new for too long.
    #[error(
        "its list of cases brings nothing new however many cases are skipped: it may not know the parameter that \
         `partner_api.paging.skip_parameter` names"
    )]
    NothingNew,
    /// More cases than the walk keeps in memory.
    #[error("its list has more than {MOST_CASES} cases")]
    TooManyCases,
}

/// How many cases a round looks at. Each takes about 16 bytes of memory.
const MOST_CASES: usize = 2_000_000;
/// After how many pages without a new case the walk ends. Steps back double, so that a few suffice.
const MOST_FRUITLESS: u32 = 64;
/// How often the same page may be repeated for different numbers to skip. A few times can be chance: cases were added meanwhile.
const MOST_SAME: u32 = 8;

impl Pages {
    pub(super) fn new() -> Self {
        Self {
            skip: 0,
            expected: Expected::Seen,
            back: 0,
            seen: HashSet::new(),
            hasher: RandomState::new(),
            previous: Vec::new(),
            same: 0,
            fruitless: 0,
        }
    }

    /// How many cases the next call has to skip.
    pub(super) fn skip(&self) -> usize {
        self.skip
    }

    /// Takes the page that was returned for [`Pages::skip`], given as its cases' identifiers.
    ///
    /// # Errors
    /// If the list cannot be walked through to its end.
    pub(super) fn take<'a>(&mut self, ids: impl IntoIterator<Item = &'a str>) -> Result<Page, PagingError> {
        let page: Vec<_> = ids.into_iter().map(|id| self.hasher.hash_one(id)).collect();
        let begins_seen = page.first().is_some_and(|first| self.seen.contains(first));
        if !begins_seen && self.expected == Expected::Seen && self.skip > 0 {
            return self.step_back();
        }
        if page.is_empty() {
            return Ok(Page::End);
        }
        let new: Vec<_> = page.iter().enumerate().filter(|(_, case)| self.seen.insert(**case)).collect();
        let new: Vec<_> = new.into_iter().map(|(place, _)| place).collect();
        self.same = if page == self.previous && new.is_empty() { self.same + 1 } else { 0 };
        self.fruitless = if new.is_empty() { self.fruitless + 1 } else { 0 };
        if self.same > MOST_SAME || self.fruitless > MOST_FRUITLESS {
            return Err(PagingError::NothingNew);
        }
        if self.seen.len() > MOST_CASES {
            return Err(PagingError::TooManyCases);
        }
        // A single case cannot overlap with what follows it.
        let (step, expected) = if page.len() > 1 { (page.len() - 1, Expected::Seen) } else { (1, Expected::Nothing) };
        (self.skip, self.expected, self.back) = (self.skip.saturating_add(step), expected, 0);
        self.previous = page;
        Ok(Page::New(new))
    }

    fn step_back(&mut self) -> Result<Page, PagingError> {
        self.fruitless += 1;
        if self.fruitless > MOST_FRUITLESS {
            return Err(PagingError::NothingNew);
        }
        self.back = (self.back * 2).max(1);
        self.skip = self.skip.saturating_sub(self.back);
        Ok(Page::New(Vec::new()))
    }
}

#[cfg(test)]
mod tests {
    use fastrand::Rng;

    use super::*;

    /// An API's list, and how it is returned.
    struct List {
        cases: Vec<String>,
        most: usize,
        ignores_skip: bool,
    }

    impl List {
        fn new(count: usize, most: usize) -> Self {
            Self { cases: (0..count).map(|number| format!("case-{number}")).collect(), most, ignores_skip: false }
        }

        fn page(&self, skip: usize) -> Vec<String> {
            let skip = if self.ignores_skip { 0 } else { skip };
            self.cases.iter().skip(skip).take(self.most).cloned().collect()
        }
    }

    /// Walks through the list, changing it after each call. Returns what was seen and how many calls it took.
    fn walk(mut list: List, mut change: impl FnMut(&mut List)) -> Result<(HashSet<String>, usize), PagingError> {
        let (mut pages, mut seen, mut calls) = (Pages::new(), HashSet::new(), 0);
        loop {
            let page = list.page(pages.skip());
            calls += 1;
            assert!(calls < 100_000, "the walk does not end");
            match pages.take(page.iter().map(String::as_str))? {
                Page::End => return Ok((seen, calls)),
                Page::New(new) => {
                    for place in new {
                        assert!(seen.insert(page[place].clone()), "a case is new once");
                    }
                }
            }
            change(&mut list);
        }
    }

    #[test]
    fn a_list_that_stays_as_it_is_is_seen_whole_in_few_calls() {
        for (count, most, calls) in [(0, 100, 1), (1, 100, 2), (2, 100, 3), (100, 100, 3), (1_000, 100, 13), (5, 1, 6)]
        {
            let (seen, took) = walk(List::new(count, most), |_| ()).unwrap();
            assert_eq!((seen.len(), took), (count, calls), "{count} cases by {most}");
        }
    }

    #[test]
    fn a_list_that_ignores_the_skip_parameter_ends_the_walk_soon() {
        for (count, most) in [(1, 20), (2, 20), (20, 20), (1_000, 20), (1_000, 1)] {
            let list = List { ignores_skip: true, ..List::new(count, most) };
            assert_eq!(walk(list, |_| ()), Err(PagingError::NothingNew), "{count} cases by {most}");
        }
        let mut calls = 0;
        let list = List { ignores_skip: true, ..List::new(50, 20) };
        let walked = walk(list, |list| {
            calls += 1;
            list.cases.swap(0, calls % 20);
        });
        assert_eq!(walked, Err(PagingError::NothingNew), "also if its order changes");
        assert!(calls <= 100, "{calls} calls");
    }

    #[test]
    fn no_case_is_passed_over_whatever_is_added_and_deleted_meanwhile() {
        for seed in 0..2_000 {
            let mut rng = Rng::with_seed(seed);
            let list = List::new(rng.usize(0..60), rng.usize(2..12));
            let mut staying: HashSet<_> = list.cases.iter().cloned().collect();
            let (mut changes, mut added) = (rng.usize(0..40), 0);
            let walked = walk(list, |list| {
                for _ in 0..rng.usize(0..6) {
                    if changes == 0 {
                        return;
                    }
                    changes -= 1;
                    if rng.bool() && !list.cases.is_empty() {
                        let gone = list.cases.remove(rng.usize(..list.cases.len()));
                        staying.remove(&gone);
                    } else {
                        added += 1;
                        list.cases.insert(rng.usize(..=list.cases.len()), format!("added-{added}"));
                    }
                }
            });
            let (seen, _) = walked.unwrap();
            assert!(staying.is_subset(&seen), "seed {seed}: {:?}", staying.difference(&seen).collect::<Vec<_>>());
        }
    }
}
