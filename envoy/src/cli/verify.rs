//! `guardctl verify`: what it takes, and how it reports.

use std::{io::Write, time::Duration};

use anyhow::{Result, bail};
use clap::{Args, error::ErrorKind};
use envelope::SigningKey;

use crate::verify::{self, Answer, Check, Fault, NoAnswer, Target, TestEvent};

/// What to verify.
#[derive(Args)]
pub(super) struct Verify {
    /// The webhook's URL, without a token: https://hooks.example.com/webhooks/truenroll.
    url: String,
    /// The path token, if the policy requires one. Of several, separated by white space, the first
    /// is used.
    #[arg(long, env = "WEBHOOK_TOKEN", hide_env_values = true, allow_hyphen_values = true)]
    token: Option<String>,
    /// A secret to sign the requests with (`whsec_…`), if the policy requires signatures.
    #[arg(long, env = "WEBHOOK_SECRET", hide_env_values = true)]
    secret: Option<String>,
    /// A path of the same listener that the filter must leave alone, for example /health. Can be
    /// repeated.
    #[arg(long = "other-path", value_name = "PATH")]
    other_paths: Vec<String>,
    /// Also send a valid event of the case `guardctl-verify`, and expect 202. The backend stores
    /// it, and dead-letters it because TruEnroll has no such case.
    #[arg(long)]
    store_test_event: bool,
    /// How many seconds to wait for each answer. Envoy retries for up to 20 seconds before it
    /// answers 503.
    #[arg(long, default_value_t = 25)]
    timeout: u64,
}

impl Verify {
    /// Runs the checks and writes one line for each, then each fault with what to do about it.
    ///
    /// # Errors
    /// If an argument is invalid, or a check failed.
    pub(super) fn run(self, out: &mut impl Write) -> Result<()> {
        let target = self.target()?;
        let replies = verify::verify(&target);
        let faults = verify::judge(&replies);
        for ((check, reply), fault) in replies.iter().zip(&faults) {
            let verdict = if fault.is_none() { "ok    " } else { "FAILED" };
            writeln!(out, "{verdict}  {check}: {}", describe(reply))?;
        }
        if !verify::can_send_trailers(&target) {
            writeln!(
                out,
                "skipped {}: it can be sent only without TLS. Verify an http:// listener to check it",
                Check::Trailers
            )?;
        }
        let failed = faults.iter().flatten().count();
        let mut named: Vec<&Fault> = Vec::new();
        for fault in faults.iter().flatten() {
            if !named.contains(&fault) {
                writeln!(out, "\n{fault}.")?;
                named.push(fault);
            }
        }
        if failed > 0 {
            bail!("{failed} of {} checks failed", replies.len());
        }
        Ok(())
    }

    fn target(self) -> Result<Target, clap::Error> {
        let has_scheme = self.url.starts_with("http://") || self.url.starts_with("https://");
        if !has_scheme || self.url.contains(['?', '#']) {
            return Err(invalid("the URL must be http(s)://HOST[:PORT]/PATH without a query"));
        }
        if !self.other_paths.iter().all(|path| path.starts_with('/')) {
            return Err(invalid("--other-path must begin with /"));
        }
        if self.timeout == 0 {
            return Err(invalid("--timeout must be at least 1"));
        }
        let token = self.token.as_deref().and_then(|tokens| tokens.split_whitespace().next());
        let signing_key = self.secret.as_deref().map(SigningKey::parse).transpose();
        let signing_key = signing_key.map_err(|error| invalid(&format!("--secret is invalid: {error}")))?;
        Ok(Target {
            url: self.url,
            token: token.map(str::to_owned),
            signing_key,
            other_paths: self.other_paths,
            test_event: if self.store_test_event { TestEvent::Store } else { TestEvent::Omit },
            timeout: Duration::from_secs(self.timeout),
        })
    }
}

/// The error for an argument that is invalid. Unlike clap's own, it does not show the argument,
/// which may be a secret.
fn invalid(message: &str) -> clap::Error {
    clap::Error::raw(ErrorKind::ValueValidation, format!("{message}\n"))
}

fn describe(reply: &Result<Answer, NoAnswer>) -> String {
    match reply {
        Ok(answer) => match answer.rejection.as_ref().or(answer.code.as_ref()) {
            Some(code) => format!("{} {code}", answer.status),
            None => answer.status.to_string(),
        },
        Err(NoAnswer::NoConnection(_)) => "no connection".to_owned(),
        Err(NoAnswer::Timeout) => "no answer".to_owned(),
        Err(NoAnswer::Broken(_)) => "connection failed".to_owned(),
    }
}
