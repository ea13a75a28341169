//! Whether a server has been proved fit or unfit. A fit server meets the requirements, and holds
//! events in formats that this backend may use.

use tokio::sync::watch;

use super::requirements::Proof;
use crate::{
    inbox::{InboxError, error::Unfit},
    mutation,
};

/// The result of checking a server.
pub(super) type Check = Result<Proof, InboxError>;

/// The last proof that a server is fit or unfit.
///
/// It changes only when a check proves something else. A check without an answer proves nothing, so
/// an unfit server stays unfit.
pub(super) struct Fitness {
    address: String,
    /// Why the server is unfit.
    problem: watch::Sender<Option<Unfit>>,
}

/// How much a check counts beside other checks of the same server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Weight {
    ProvesNothing,
    Fit,
    Unfit,
}

impl Fitness {
    /// Returns the fitness of a server that was never checked. It counts as fit.
    pub(super) fn new(address: String) -> Self {
        Self { address, problem: watch::Sender::default() }
    }

    /// Records a check.
    pub(super) fn note(&self, check: &Check) {
        match check {
            Ok(_) => {
                if self.set(None) {
                    tracing::info!("Redis at {} is fit to store events again", self.address);
                }
            }
            Err(InboxError::Unfit(problem)) => {
                if self.set(Some(problem.clone())) {
                    tracing::error!("no events are stored on an unfit server: {problem}");
                }
            }
            // Not logged: the calls that need the server fail and say so.
            Err(_) => mutation::instead!(Fitness => { self.set(None); }),
        }
    }

    /// Returns whether the server counts as fit.
    ///
    /// # Errors
    /// Returns [`InboxError::Unfit`] if the server was last proved unfit.
    pub(super) fn ensure(&self) -> Result<(), InboxError> {
        match &*self.problem.borrow() {
            Some(problem) => Err(InboxError::Unfit(problem.clone())),
            None => Ok(()),
        }
    }

    /// Returns whether the server was last proved to hold a newer format that excludes this backend.
    pub(super) fn excludes(&self) -> bool {
        matches!(&*self.problem.borrow(), Some(Unfit::Excluded(_)))
    }

    /// Sets the problem, and returns whether that changed it.
    fn set(&self, problem: Option<Unfit>) -> bool {
        self.problem.send_if_modified(|known| {
            let is_changed = *known != problem;
            *known = problem;
            is_changed
        })
    }
}

/// Returns which of two checks of one server counts. The checks went over different connections,
/// which may lead to different processes: an unfit one outweighs a fit one, and either outweighs a
/// check without an answer.
pub(super) fn combine(first: Check, second: Check) -> Check {
    if weight(&second) > weight(&first) { second } else { first }
}

/// Returns whether a check proves that the server is fit or unfit.
pub(super) fn proves_something(check: &Check) -> bool {
    weight(check) > Weight::ProvesNothing
}

fn weight(check: &Check) -> Weight {
    match check {
        Ok(_) => Weight::Fit,
        Err(InboxError::Unfit(_)) => Weight::Unfit,
        Err(_) => Weight::ProvesNothing,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn unanswered() -> Check {
        Err(InboxError::Timeout(Duration::ZERO))
    }

    fn unfit() -> Check {
        Err(InboxError::Unfit(Unfit::Unusable("appendonly no".to_owned())))
    }

    fn fit() -> Check {
        Ok(Proof { syncs_always: true })
    }

    #[test]
    fn a_check_without_an_answer_proves_nothing() {
        for (checks, is_fit) in [
            (vec![unanswered()], true),
            (vec![unfit()], false),
            (vec![unfit(), unanswered(), unanswered()], false),
            (vec![unfit(), unanswered(), fit()], true),
            (vec![fit(), unanswered()], true),
            (vec![fit(), unfit()], false),
        ] {
            let fitness = Fitness::new("localhost".to_owned());
            for check in &checks {
                fitness.note(check);
            }
            assert_eq!(fitness.ensure().is_ok(), is_fit, "{checks:?}");
        }
    }

    #[test]
    fn only_a_newer_format_excludes_this_backend() {
        let excluded = || Err(InboxError::Unfit(Unfit::Excluded("format 7".to_owned())));
        for (checks, excludes) in [
            (vec![fit()], false),
            (vec![unfit()], false),
            (vec![fit(), excluded(), unanswered()], true),
            (vec![excluded(), fit()], false),
        ] {
            let fitness = Fitness::new("localhost".to_owned());
            for check in &checks {
                fitness.note(check);
            }
            assert_eq!(fitness.excludes(), excludes, "{checks:?}");
        }
    }

    #[test]
    fn unfit_outweighs_fit_and_fit_outweighs_no_answer() {
        for (first, second, expected) in [
            (unanswered(), unanswered(), Weight::ProvesNothing),
            (unanswered(), fit(), Weight::Fit),
            (unanswered(), unfit(), Weight::Unfit),
            (fit(), fit(), Weight::Fit),
            (fit(), unfit(), Weight::Unfit),
            (unfit(), unfit(), Weight::Unfit),
        ] {
            let proves = expected != Weight::ProvesNothing;
            for combined in [combine(first.clone(), second.clone()), combine(second.clone(), first.clone())] {
                assert_eq!(weight(&combined), expected, "{first:?} {second:?}");
                assert_eq!(proves_something(&combined), proves);
            }
        }
    }
}
