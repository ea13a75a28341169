//! What `backend doctor` asks the Partner API.

use std::time::SystemTime;

use reqwest::header::DATE;
use tokio::time::Instant;

use super::{Case, PartnerApi, PartnerApiError, PartnerApiErrorKind};
use crate::http_client;

/// The answer to a call that lists cases.
pub(crate) struct Listed {
    /// Why there was no answer.
    pub(crate) unreachable: Option<String>,
    /// The identifiers of the cases, or why the API returned none.
    pub(crate) cases: Result<Vec<String>, PartnerApiError>,
    /// The API's clock as its answer states it, to the second, and this machine's at that time.
    pub(crate) clocks: Option<(SystemTime, SystemTime)>,
}

impl PartnerApi {
    /// Lists at most `size` of the cases that follow the first `skip`. Unlike other calls, this one
    /// does not count towards the limits on calls.
    pub(crate) async fn list(&self, size: usize, skip: usize) -> Listed {
        let asked = Instant::now();
        let response = match self.client.get(self.page_url(size, skip)).send().await {
            Ok(response) => response,
            Err(error) => {
                let cases = Err(PartnerApiErrorKind::of_call(&error).into());
                return Listed { unreachable: Some(http_client::reason(&error)), cases, clocks: None };
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
        Listed { unreachable: None, cases: cases.await, clocks }
    }
}
