//! The client of TruEnroll's Partner API, and the only place that calls it.

use std::{sync::Arc, time::Duration};

use envelope::CaseId;
use reqwest::{
    Client, Response, StatusCode, Url,
    header::{HeaderMap, HeaderValue, RETRY_AFTER},
    redirect,
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use crate::config;

mod case;
mod error;

pub use case::{Case, CaseStatus, Credential, StageResult, Upload};
pub use error::{PartnerApiError, PartnerApiErrorKind};

use error::PartnerApiErrorKind as Kind;

/// The client, cheap to clone.
#[derive(Clone)]
pub struct PartnerApi {
    client: Client,
    base: Arc<Url>,
    max_response_bytes: usize,
}

/// What every answer is wrapped in.
#[derive(Deserialize)]
struct Answer<T> {
    data: T,
}

impl PartnerApi {
    /// A client for the configured account.
    ///
    /// # Errors
    /// Where the settings make no client.
    pub fn new(settings: &config::PartnerApi) -> anyhow::Result<Self> {
        let mut base = Url::parse(&settings.base_url)?;
        base.path_segments_mut().map_err(|()| anyhow::anyhow!("the base URL has no path"))?.pop_if_empty();
        let mut key = HeaderValue::from_str(settings.api_key.reveal())?;
        key.set_sensitive(true);
        let client = crate::sink::http_client(settings.timeout)
            .default_headers(HeaderMap::from_iter([(reqwest::header::HeaderName::from_static("x-api-key"), key)]))
            .redirect(redirect::Policy::none())
            .build()?;
        Ok(Self { client, base: Arc::new(base), max_response_bytes: settings.max_response_bytes })
    }

    /// `GET /cases/{id}`
    ///
    /// # Errors
    /// Where the API does not give the case.
    pub async fn case(&self, id: &CaseId<'_>) -> Result<Case, PartnerApiError> {
        self.get(id, None).await
    }

    /// `GET /cases/{id}/extraction`
    ///
    /// # Errors
    /// Where the API does not give the result.
    pub async fn extraction(&self, id: &CaseId<'_>) -> Result<StageResult, PartnerApiError> {
        self.result(id, "extraction").await
    }

    /// `GET /cases/{id}/forensics`
    ///
    /// # Errors
    /// Where the API does not give the result.
    pub async fn forensics(&self, id: &CaseId<'_>) -> Result<StageResult, PartnerApiError> {
        self.result(id, "forensics").await
    }

    /// `GET /cases/{id}/translation`
    ///
    /// # Errors
    /// Where the API does not give the result.
    pub async fn translation(&self, id: &CaseId<'_>) -> Result<StageResult, PartnerApiError> {
        self.result(id, "translation").await
    }

    async fn result(&self, id: &CaseId<'_>, name: &'static str) -> Result<StageResult, PartnerApiError> {
        let data: Value = self.get(id, Some(name)).await?;
        Ok(StageResult::new(name, data))
    }

    async fn get<T: DeserializeOwned>(&self, id: &CaseId<'_>, result: Option<&str>) -> Result<T, PartnerApiError> {
        let mut url = Url::clone(&self.base);
        // The segments percent-encode whatever a path cannot hold.
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.extend(["cases", id.as_str()]).extend(result);
        }
        let response = self.client.get(url).send().await.map_err(|error| Kind::of_call(&error))?;
        let status = response.status();
        if status != StatusCode::OK {
            return Err(PartnerApiError { kind: Kind::of_status(status), retry_after: retry_after(&response) });
        }
        let body = self.read(response).await?;
        let answer: Answer<T> = serde_json::from_slice(&body).map_err(|_| Kind::Unreadable)?;
        Ok(answer.data)
    }

    async fn read(&self, mut response: Response) -> Result<Vec<u8>, Kind> {
        let mut body = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(|error| Kind::of_call(&error))? {
            if body.len() + piece.len() > self.max_response_bytes {
                return Err(Kind::TooLarge);
            }
            body.extend_from_slice(&piece);
        }
        Ok(body)
    }
}

/// The wait that a server asks for, where it does so in seconds.
pub(crate) fn retry_after(response: &Response) -> Option<Duration> {
    let seconds = response.headers().get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}
