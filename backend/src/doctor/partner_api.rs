//! The Partner API: whether it accepts the key, and whether the list of cases can be paged through.

use super::{Checked, Finding, examined::Examined};
use crate::{
    config::{self, Paging},
    http_client,
    partner_api::{Listed, PartnerApi, PartnerApiError, PartnerApiErrorKind},
};

const CHECK_URL: &str = "check `partner_api.base_url`, the network, and which certificates this machine trusts";

pub(super) async fn access(examined: &Examined) -> Checked {
    client(examined)?;
    let Some(listed) = examined.first_case().await else { return Err(Finding::not_checked("no client", CHECK_URL)) };
    Ok(judge_access(listed, &examined.config.partner_api))
}

fn client(examined: &Examined) -> Result<&PartnerApi, Finding> {
    examined.partner_api.as_ref().map_err(|error| Finding::failure(error, CHECK_URL))
}

fn judge_access(listed: &Listed, settings: &config::PartnerApi) -> Finding {
    let host = http_client::host_of(&settings.base_url).unwrap_or_default();
    match (&listed.unreachable, &listed.cases) {
        (Some(reason), _) => Finding::failure(format!("{host} cannot be reached: {reason}"), CHECK_URL),
        (None, Ok(_)) => judge_key(&host, listed.key, settings.api_key.parts().count()),
        (None, Err(error)) => of_error(*error),
    }
}

/// Judges which of the keys the API accepts first, by its position from 1.
fn judge_key(host: &str, key: usize, number: usize) -> Finding {
    match (key, number) {
        (_, 1) => Finding::pass(format!("{host} accepts the API key")),
        (1, _) => Finding::pass(format!("{host} accepts key 1 of {number} in `partner_api.api_key`")),
        _ => Finding::warning(
            format!("{host} accepts key {key} of {number} in `partner_api.api_key`, and rejects those before it (401)"),
            "ask TruEnroll about the rejected keys before the accepted one is revoked",
        ),
    }
}

/// The finding after a call that lists cases. Some statuses mean something else there than after a
/// call for a case.
fn of_error(error: PartnerApiError) -> Finding {
    match error.kind {
        PartnerApiErrorKind::NotRequested => Finding::failure(
            "the Partner API answered 400 to a call that lists cases",
            "ask TruEnroll for the names of the paging parameters, and set them in `partner_api.paging`",
        ),
        PartnerApiErrorKind::CaseNotFound => Finding::failure(
            "the Partner API answered 404 to a call that lists cases",
            "check the path in `partner_api.base_url`",
        ),
        _ => Finding::of_error(&error, CHECK_URL),
    }
}

pub(super) async fn paging(examined: &Examined) -> Checked {
    let api = client(examined)?;
    let settings = &examined.config.partner_api.paging;
    let unlisted = || Finding::not_checked("the Partner API lists no cases", "see `partner-api`");
    let first = examined.first_case().await.and_then(|listed| listed.cases.as_ref().ok()).ok_or_else(unlisted)?;
    let second = api.list(1, 1).await.cases.map_err(of_error)?;
    let checked = judge_paging(first, &second, settings);
    if checked.advice.is_none() {
        return Ok(checked);
    }
    // A case may have been created between the two calls.
    let first = api.list(1, 0).await.cases.map_err(of_error)?;
    let second = api.list(1, 1).await.cases.map_err(of_error)?;
    Ok(judge_paging(&first, &second, settings))
}

/// Judges two answers: at most one case, and at most one case after skipping the first.
fn judge_paging(first: &[String], second: &[String], settings: &Paging) -> Finding {
    let Paging { size_parameter, skip_parameter, .. } = settings;
    let ignored = |parameter: &str, setting| {
        Finding::failure(
            format!("the Partner API ignores `{parameter}`, so the reconciler cannot page through the cases"),
            format!("ask TruEnroll for the parameter's name, and set `partner_api.paging.{setting}`"),
        )
    };
    let later = "run this again once it has two cases; until then the reconciler does not need paging";
    match (first, second) {
        ([_, _, ..], _) | (_, [_, _, ..]) => ignored(size_parameter, "size_parameter"),
        ([], _) => Finding::warning("not checked: the account has no case", later),
        ([_], []) => Finding::warning("not checked: the account has only one case", later),
        ([first], [second]) if first == second => ignored(skip_parameter, "skip_parameter"),
        ([_], [_]) => Finding::pass(format!("`{size_parameter}` and `{skip_parameter}` work")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Status;

    #[test]
    fn paging_that_does_not_work_is_noticed_as_soon_as_there_are_two_cases() {
        let settings = Paging {
            size: 100,
            size_parameter: "limit".to_owned(),
            skip_parameter: "skip".to_owned(),
            external_id_parameter: "externalId".to_owned(),
        };
        let cases = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
        for (first, second, status, said) in [
            (&["a"][..], &["b"][..], Status::Pass, "`limit` and `skip` work"),
            (&["a", "b"], &["a", "b"], Status::Failure, "ignores `limit`"),
            (&["a"], &["b", "c"], Status::Failure, "ignores `limit`"),
            (&["a"], &["a"], Status::Failure, "ignores `skip`"),
            (&["a"], &[], Status::Warning, "only one case"),
            (&[], &[], Status::Warning, "no case"),
        ] {
            let finding = judge_paging(&cases(first), &cases(second), &settings);
            assert!(finding.status == status && finding.found.contains(said), "{first:?} {second:?}: {finding:?}");
        }
    }

    #[test]
    fn the_accepted_key_is_named_by_its_position() {
        for (key, number, status, said) in [
            (1, 1, Status::Pass, "api accepts the API key"),
            (1, 2, Status::Pass, "api accepts key 1 of 2 in"),
            (2, 3, Status::Warning, "api accepts key 2 of 3 in"),
        ] {
            let finding = judge_key("api", key, number);
            assert!(finding.status == status && finding.found.starts_with(said), "{finding:?}");
        }
    }

    #[test]
    fn a_key_that_is_unknown_and_one_that_may_not_are_told_apart() {
        for (kind, found, advice) in [
            (PartnerApiErrorKind::Unauthorized, "rejected the API key (401)", "check `partner_api.api_key`"),
            (PartnerApiErrorKind::Forbidden, "denied access (403)", "ask TruEnroll"),
            (PartnerApiErrorKind::NotRequested, "answered 400", "partner_api.paging"),
            (PartnerApiErrorKind::CaseNotFound, "answered 404", "partner_api.base_url"),
            (PartnerApiErrorKind::Server(502), "answered 502", "ask TruEnroll"),
            (PartnerApiErrorKind::Unreadable, "not as documented", "partner_api.base_url"),
        ] {
            let finding = of_error(kind.into());
            assert_eq!(finding.status, Status::Failure);
            let says = finding.advice.as_ref().is_some_and(|text| text.contains(advice));
            assert!(says && finding.found.contains(found) && !finding.found.contains("check "), "{finding:?}");
        }
    }
}
