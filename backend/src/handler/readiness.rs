//! Decides from the Partner API's answers whether a stage has finished. An event alone is only a
//! hint: it may be forged, or arrive before the Partner API shows the stage as finished.

use envelope::Feature;

use crate::partner_api::{Case, CaseStatus, Parts, Upload};

/// Whether a stage's result can be delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Readiness {
    /// Yes: the stage has finished for at least one upload.
    Ready,
    /// Not yet.
    NotReady,
    /// Never: every upload has finished, and none requested the feature.
    NotRequested,
    /// The result does not say; the case does.
    Unclear,
}

/// Judges by the statuses of the result's parts.
pub(super) fn of_parts(parts: Parts) -> Readiness {
    if parts.finished() > 0 {
        return Readiness::Ready;
    }
    if parts.all > 0 && parts.pending == parts.all {
        return Readiness::NotReady;
    }
    // The result has no parts, or their statuses are not documented.
    Readiness::Unclear
}

/// Judges by the case, for a result without a part whose status is documented.
pub(super) fn of_unclear_result(case: &Case, feature: Feature) -> Readiness {
    let has_finished = case.uploads.iter().any(|upload| upload.requests(feature) && upload.is_finished());
    if has_finished { Readiness::Ready } else { Readiness::NotReady }
}

/// Judges by the case, for a result that the API answered with 400: either no upload requested it,
/// or it does not exist yet.
pub(super) fn of_missing_result(case: &Case, feature: Feature) -> Readiness {
    let can_still_come = |upload: &Upload| upload.requests(feature) || !upload.is_finished();
    if case.uploads.is_empty() || case.uploads.iter().any(can_still_come) {
        Readiness::NotReady
    } else {
        Readiness::NotRequested
    }
}

/// Judges by the case, for classification, whose result is the case itself.
pub(super) fn of_classification(case: &Case) -> Readiness {
    let feature = Feature::Classification;
    let is_classified = case.uploads.iter().any(|upload| upload.requests(feature) && is_classified(case, upload));
    if is_classified && case.status != CaseStatus::Queued {
        return Readiness::Ready;
    }
    of_missing_result(case, feature)
}

/// Whether classification has finished for an upload: the whole upload has, or it has credentials
/// and none is pending.
fn is_classified(case: &Case, upload: &Upload) -> bool {
    if upload.is_finished() {
        return true;
    }
    let credentials = case.credentials.iter().filter(|credential| credential.upload_id == upload.upload_id);
    let statuses: Vec<_> = credentials.map(|credential| credential.status.as_str()).collect();
    let is_pending = |status: &&str| matches!(*status, "queued" | "processing");
    // No credentials at all could also mean that classification has not begun.
    upload.status == "processing" && !statuses.is_empty() && !statuses.iter().any(is_pending)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Readiness::*, *};

    fn case(status: &str, uploads: &[Value], credentials: &[(&str, &str)]) -> Case {
        let credentials = credentials.iter().enumerate().map(|(number, (upload, status))| {
            json!({ "credentialId": number.to_string(), "uploadId": upload, "status": status, "credentialType": null })
        });
        let credentials: Vec<_> = credentials.collect();
        let case =
            json!({ "id": "c", "externalId": null, "status": status, "uploads": uploads, "credentials": credentials });
        serde_json::from_value(case).unwrap()
    }

    fn upload(id: &str, status: &str, features: &[&str], classify: bool) -> Value {
        json!({ "uploadId": id, "status": status, "features": features, "classify": classify })
    }

    #[test]
    fn a_result_is_ready_once_one_of_its_parts_has_finished() {
        for (all, pending, finished, expected) in [
            (1, 0, 1, Ready),
            (3, 2, 1, Ready),
            (1, 1, 0, NotReady),
            (2, 2, 0, NotReady),
            (0, 0, 0, Unclear),
            (1, 0, 0, Unclear),
            (2, 1, 0, Unclear),
        ] {
            assert_eq!(
                of_parts(Parts { all, pending, completed: finished, failed: 0 }),
                expected,
                "{all} parts, {pending} pending, {finished} finished"
            );
        }
    }

    #[test]
    fn a_result_without_a_documented_status_is_judged_by_the_case() {
        let extraction = ["extraction"];
        for (uploads, unclear, missing) in [
            (vec![], NotReady, NotReady),
            (vec![upload("u", "completed", &extraction, true)], Ready, NotReady),
            (vec![upload("u", "failed", &extraction, true)], Ready, NotReady),
            (vec![upload("u", "processing", &extraction, true)], NotReady, NotReady),
            (vec![upload("u", "queued", &extraction, true)], NotReady, NotReady),
            (vec![upload("u", "archived", &extraction, true)], NotReady, NotReady),
            (vec![upload("u", "completed", &["forensics"], true)], NotReady, NotRequested),
            (vec![upload("u", "processing", &["forensics"], true)], NotReady, NotReady),
            (vec![upload("u", "archived", &[], true)], NotReady, NotReady),
            (
                vec![upload("u", "completed", &["forensics"], true), upload("v", "queued", &extraction, true)],
                NotReady,
                NotReady,
            ),
            (
                vec![upload("u", "completed", &extraction, true), upload("v", "queued", &extraction, true)],
                Ready,
                NotReady,
            ),
        ] {
            let case = case("processing", &uploads, &[]);
            assert_eq!(of_unclear_result(&case, Feature::Extraction), unclear, "{uploads:?}");
            assert_eq!(of_missing_result(&case, Feature::Extraction), missing, "{uploads:?}");
        }
    }

    #[test]
    fn classification_is_ready_once_an_upload_or_its_credentials_have_finished() {
        for (status, uploads, credentials, expected) in [
            ("queued", vec![upload("u", "queued", &[], true)], vec![], NotReady),
            ("queued", vec![upload("u", "completed", &[], true)], vec![("u", "completed")], NotReady),
            ("processing", vec![upload("u", "processing", &[], true)], vec![], NotReady),
            ("processing", vec![upload("u", "processing", &[], true)], vec![("u", "processing")], NotReady),
            ("processing", vec![upload("u", "processing", &[], true)], vec![("u", "queued")], NotReady),
            ("processing", vec![upload("u", "processing", &[], true)], vec![("u", "completed")], Ready),
            ("processing", vec![upload("u", "processing", &[], true)], vec![("u", "classified")], Ready),
            (
                "processing",
                vec![upload("u", "processing", &[], true)],
                vec![("u", "completed"), ("u", "processing")],
                NotReady,
            ),
            ("processing", vec![upload("u", "processing", &[], true)], vec![("v", "completed")], NotReady),
            ("processing", vec![upload("u", "processing", &[], false)], vec![("u", "completed")], NotReady),
            ("processing", vec![upload("u", "queued", &[], true)], vec![("u", "completed")], NotReady),
            ("completed", vec![upload("u", "completed", &[], true)], vec![], Ready),
            ("failed", vec![upload("u", "failed", &[], true)], vec![], Ready),
            ("completed", vec![upload("u", "completed", &[], false)], vec![("u", "completed")], NotRequested),
            ("archived", vec![upload("u", "completed", &[], true)], vec![], Ready),
            ("completed", vec![], vec![], NotReady),
        ] {
            let case = case(status, &uploads, &credentials);
            assert_eq!(of_classification(&case), expected, "{status} {uploads:?} {credentials:?}");
        }
    }
}
