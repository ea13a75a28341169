//! Whether a server does what it should, as far as it has been proved.

use tokio::sync::watch;

use crate::inbox::{InboxError, server_check::Proof};

/// What a server has last proved about itself. It stays so until a check has proved something else: one that got no answer
/// proves nothing.
pub(in crate::inbox) struct Fitness {
    address: String,
    /// What the server does not do as it should.
    problem: watch::Sender<Option<String>>,
}

impl Fitness {
    /// A server of which nothing is known yet counts as fit.
    pub(super) fn new(address: String) -> Self {
        Self { address, problem: watch::Sender::default() }
    }

    /// Takes note of a check.
    pub(in crate::inbox) fn note(&self, check: &Result<Proof, InboxError>) {
        match check {
            Ok(_) => {
                if self.set(None) {
                    tracing::info!("Redis at {} does again what it should", self.address);
                }
            }
            Err(InboxError::Server(problem)) => {
                if self.set(Some(problem.clone())) {
                    tracing::error!("no event is stored there: {problem}");
                }
            }
            #[cfg(feature = "mutations")]
            Err(_) if crate::mutation::current() == Some(crate::mutation::Mutation::Fitness) => drop(self.set(None)),
            // Everybody who asks the server notices by himself that it does not answer.
            Err(_) => {}
        }
    }

    /// # Errors
    /// What the server does not do as it should.
    pub(in crate::inbox) fn ensure(&self) -> Result<(), InboxError> {
        self.problem.borrow().clone().map_or(Ok(()), |problem| Err(InboxError::Server(problem)))
    }

    /// Returns whether that is news.
    fn set(&self, problem: Option<String>) -> bool {
        self.problem.send_if_modified(|known| {
            let is_news = *known != problem;
            *known = problem;
            is_news
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_check_without_an_answer_proves_nothing() {
        let unanswered = || Err(InboxError::Timeout(Duration::ZERO));
        let unfit = || Err(InboxError::Server("appendonly no".to_owned()));
        let fit = || Ok(Proof { syncs_always: true });
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
}
