//! Reads a list that an API returns in pages, and that changes between the calls, without skipping
//! a case.
//!
//! Pages overlap: each is requested so that it begins with the last case of the previous page. If
//! it begins with a case that was not seen before, earlier cases were deleted and later ones moved
//! forward, so reading steps back until a page begins with a seen case. Cases that are added move
//! others backward, where they are seen again.
//!
//! Invariant: every case that precedes a seen case, and was in the list from the start, was seen
//! too. A page that begins with a seen case preserves this, since a page is contiguous.

use std::{
    collections::HashSet,
    hash::{BuildHasher, RandomState},
};

/// The state of reading a list.
pub(super) struct Pages {
    /// Number of cases that the next call skips.
    skip: usize,
    /// What the page of the next call is expected to begin with.
    expected: FirstCase,
    /// Length of the last step back; 0 if there was none since the last page.
    back: usize,
    /// Hashes of the seen cases, with a random key.
    seen: HashSet<u64>,
    hasher: RandomState,
    /// The hashes of the previous page.
    previous: Vec<u64>,
    /// Number of pages in a row that were the same.
    same: u32,
    /// Number of pages in a row without a new case.
    fruitless: u32,
}

/// What the next page is expected to begin with.
#[derive(Clone, Copy, PartialEq, Eq)]
enum FirstCase {
    /// A case that was seen.
    Seen,
    /// Anything: the previous page had a single case, which cannot overlap with this page.
    Any,
}

/// What a page contains.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Page {
    /// The indices of the cases that were not seen before.
    New(Vec<usize>),
    /// Nothing: the list has been read to its end.
    End,
}

/// Why the list cannot be read to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PagingError {
    /// The same page again and again, or too many pages without a new case.
    #[error(
        "the Partner API's list of cases contains nothing new however many cases are skipped: check whether the Partner API \
         knows the query parameter that `partner_api.paging.skip_parameter` names"
    )]
    NothingNew,
    /// More cases than are kept in memory.
    #[error("the Partner API's list of cases has more than {MOST_CASES} cases, which is more than a round can compare")]
    TooManyCases,
}

/// Maximum number of cases. Each takes about 16 bytes of memory.
const MOST_CASES: usize = 2_000_000;
/// Maximum number of pages in a row without a new case. Steps back double, so a few suffice.
const MOST_FRUITLESS: u32 = 64;
/// Maximum number of times that the same page is returned for different numbers to skip. A few
/// times can be chance, if cases are added meanwhile.
const MOST_SAME: u32 = 8;

impl Pages {
    pub(super) fn new() -> Self {
        Self {
            skip: 0,
            expected: FirstCase::Seen,
            back: 0,
            seen: HashSet::new(),
            hasher: RandomState::new(),
            previous: Vec::new(),
            same: 0,
            fruitless: 0,
        }
    }

    /// Returns the number of cases that the next call has to skip.
    pub(super) fn skip(&self) -> usize {
        self.skip
    }

    /// Takes the identifiers of the cases on the page that was returned for [`Pages::skip`].
    ///
    /// # Errors
    /// If the list cannot be read to its end.
    pub(super) fn take<'a>(&mut self, ids: impl IntoIterator<Item = &'a str>) -> Result<Page, PagingError> {
        let page: Vec<_> = ids.into_iter().map(|id| self.hasher.hash_one(id)).collect();
        let begins_seen = page.first().is_some_and(|first| self.seen.contains(first));
        if !begins_seen && self.expected == FirstCase::Seen && self.skip > 0 {
            return self.step_back();
        }
        if page.is_empty() {
            return Ok(Page::End);
        }
        let mut new = Vec::new();
        for (index, case) in page.iter().enumerate() {
            if self.seen.insert(*case) {
                new.push(index);
            }
        }
        self.same = if page == self.previous && new.is_empty() { self.same + 1 } else { 0 };
        self.fruitless = if new.is_empty() { self.fruitless + 1 } else { 0 };
        if self.same > MOST_SAME || self.fruitless > MOST_FRUITLESS {
            return Err(PagingError::NothingNew);
        }
        if self.seen.len() > MOST_CASES {
            return Err(PagingError::TooManyCases);
        }
        if page.len() > 1 {
            self.skip = self.skip.saturating_add(page.len() - 1);
            self.expected = FirstCase::Seen;
        } else {
            // The next page cannot overlap with a single case without repeating the whole page.
            self.skip = self.skip.saturating_add(1);
            self.expected = FirstCase::Any;
        }
        self.back = 0;
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

    /// A list of cases, and how the API returns it.
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

    /// Reads the list, and changes it after each call. Returns the cases that were seen, and the
    /// number of calls.
    fn walk(mut list: List, mut change: impl FnMut(&mut List)) -> Result<(HashSet<String>, usize), PagingError> {
        let mut pages = Pages::new();
        let mut seen = HashSet::new();
        let mut calls = 0;
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
    fn an_unchanged_list_is_read_whole_in_few_calls() {
        for (count, most, calls) in [(0, 100, 1), (1, 100, 2), (2, 100, 3), (100, 100, 3), (1_000, 100, 13), (5, 1, 6)]
        {
            let (seen, took) = walk(List::new(count, most), |_| ()).unwrap();
            assert_eq!((seen.len(), took), (count, calls), "{count} cases by {most}");
        }
    }

    #[test]
    fn an_api_that_ignores_the_skip_parameter_is_an_error_soon() {
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
    fn no_case_is_skipped_whatever_is_added_and_deleted_meanwhile() {
        for seed in 0..2_000 {
            let mut rng = Rng::with_seed(seed);
            let list = List::new(rng.usize(0..60), rng.usize(2..12));
            let mut staying: HashSet<_> = list.cases.iter().cloned().collect();
            let mut changes = rng.usize(0..40);
            let mut added = 0;
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
