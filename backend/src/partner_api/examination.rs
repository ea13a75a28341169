//! What `backend doctor` asks the Partner API.

use std::{sync::Arc, time::SystemTime};

use reqwest::{
    Url,
    header::{DATE, HeaderValue},
};
use tokio::time::Instant;

use super::{Case, PartnerApi, PartnerApiError, PartnerApiErrorKind};
use crate::http_client;

/// The answer to a call that lists cases.
pub(crate) struct Listed {
    /// Why there was no answer.
    pub(crate) unreachable: Option<String>,
    /// The position of the API key that was used, from 1: the first that the API did not reject.
    pub(crate) key: usize,
    /// The identifiers of the cases, or why the API returned none.
    pub(crate) cases: Result<Vec<String>, PartnerApiError>,
    /// The API's clock as its answer states it, to the second, and this machine's at that time.
    pub(crate) clocks: Option<(SystemTime, SystemTime)>,
}

impl PartnerApi {
    /// Lists at most `size` of the cases that follow the first `skip`, with the first key that the
    /// API does not reject. Unlike other calls, this one does not count towards the limits on calls.
    pub(crate) async fn list(&self, size: usize, skip: usize) -> Listed {
        let mut listed =
            Listed { unreachable: None, key: 0, cases: Err(PartnerApiErrorKind::Unauthorized.into()), clocks: None };
        let keys = Arc::clone(&self.keys.borrow());
        for (position, key) in keys.in_order() {
            listed = Listed { key: position + 1, ..self.list_with(key, self.page_url(size, skip)).await };
            let is_rejected = listed.cases.as_ref().is_err_and(|error| error.kind == PartnerApiErrorKind::Unauthorized);
            if !is_rejected {
                break;
            }
        }
        listed
    }

    async fn list_with(&self, key: &HeaderValue, url: Url) -> Listed {
        let asked = Instant::now();
        let response = match self.send(key, url).await {
            Ok(response) => response,
            Err(error) => {
                let cases = Err(PartnerApiErrorKind::of_call(&error).into());
                return Listed { unreachable: Some(http_client::reason(&error)), key: 0, cases, clocks: None };
            }
        };
        let ours = SystemTime::now() - asked.elapsed() / 2;
        let date = response.headers().get(DATE).and_then(|date| date.to_str().ok());
        let clocks = date.and_then(|date| Some((httpdate::parse_http_date(date).ok()?, ours)));
        let cases = async {
            let answer = self.receive(response).await?;
            let (_, data) = Self::read(&answer, "").await?;
            let cases: Vec<Case> = data.parse().await.map_err(|_| PartnerApiErrorKind::Unreadable)?;
            Ok(cases.into_iter().map(|case| case.id).collect())
        };
        Listed { unreachable: None, key: 0, cases: cases.await, clocks }
    }
}
