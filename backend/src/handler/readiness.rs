//! Whether a stage is at its end, by what the Partner API says. An event is only a hint: it may be forged, or come before
//! the API knows.

use envelope::Feature;

use crate::partner_api::{Case, CaseStatus, Parts, Upload};

/// Whether a stage's result is to be delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Readiness {
    /// It is: the stage is at its end, at least for one upload.
    Ready,
    /// Not yet.
    NotReady,
    /// Never: every upload is at its end, and none asked for the feature.
    NotRequested,
    /// The result alone does not tell; the case does.
    Unclear,
}

/// By the parts of the result.
pub(super) fn of_parts(parts: Parts) -> Readiness {
    match parts {
        Parts { ended: 1.., .. } => Readiness::Ready,
        Parts { all, pending, .. } if all > 0 && pending == all => Readiness::NotReady,
        // There are no parts, or they have statuses that are not documented.
        _ => Readiness::Unclear,
    }
}

/// By the case, if the result has no parts whose status is documented.
pub(super) fn of_unclear_result(case: &Case, feature: Feature) -> Readiness {
    let is_ended = case.uploads.iter().any(|upload| upload.asked_for(feature) && upload.is_at_end());
    if is_ended { Readiness::Ready } else { Readiness::NotReady }
}

/// By the case, if the API answered 400: no upload asked for the result, or the result does not exist yet.
pub(super) fn of_missing_result(case: &Case, feature: Feature) -> Readiness {
    let can_come = |upload: &Upload| upload.asked_for(feature) || !upload.is_at_end();
    if case.uploads.is_empty() || case.uploads.iter().any(can_come) {
        Readiness::NotReady
    } else {
        Readiness::NotRequested
    }
}

/// By the case, for classification, whose result is the case itself.
pub(super) fn of_classification(case: &Case) -> Readiness {
    let feature = Feature::Classification;
    let classified = |upload: &Upload| {
        let mut credentials = case.credentials.iter().filter(|credential| credential.upload_id == upload.upload_id);
        // None at all could also mean that classification has not begun.
        let begun = credentials.clone().next().is_some();
        let is_pending = credentials.any(|credential| is_pending(&credential.status));
        upload.is_at_end() || (upload.status == "processing" && begun && !is_pending)
    };
    let is_ready = case.uploads.iter().any(|upload| upload.asked_for(feature) && classified(upload));
    match (is_ready, &case.status) {
        (true, status) if *status != CaseStatus::Queued => Readiness::Ready,
        _ => of_missing_result(case, feature),
    }
}

fn is_pending(status: &str) -> bool {
    matches!(status, "queued" | "processing")
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
    fn a_result_is_ready_if_one_of_its_parts_is_at_its_end() {
        for (all, pending, ended, expected) in [
            (1, 0, 1, Ready),
            (3, 2, 1, Ready),
            (1, 1, 0, NotReady),
            (2, 2, 0, NotReady),
            (0, 0, 0, Unclear),
            (1, 0, 0, Unclear),
            (2, 1, 0, Unclear),
        ] {
            assert_eq!(
                of_parts(Parts { all, pending, ended }),
                expected,
                "{all} parts, {pending} pending, {ended} ended"
            );
        }
    }

    #[test]
    fn a_result_that_does_not_tell_is_judged_by_the_case() {
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
    fn classification_is_ready_if_an_upload_is_at_its_end_or_its_credentials_are() {
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
