//! The client of TruEnroll's Partner API, and the only place that calls it.

use std::{sync::Arc, time::Duration};

use envelope::{CaseId, Feature};
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
mod gate;

pub use case::{Case, CaseStatus, Credential, StageResult, Upload};
pub use error::{PartnerApiError, PartnerApiErrorKind};

use error::PartnerApiErrorKind as Kind;
use gate::Gate;

/// The client, cheap to clone.
#[derive(Clone)]
pub struct PartnerApi {
    client: Client,
    base: Arc<Url>,
    max_response_bytes: usize,
    paging: Arc<config::Paging>,
    gate: Arc<Gate>,
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
        let (base, paging) = (Arc::new(base), Arc::new(settings.paging.clone()));
        let gate = Arc::new(Gate::new(settings));
        Ok(Self { client, base, max_response_bytes: settings.max_response_bytes, paging, gate })
    }

    /// `GET /cases/{id}`
    ///
    /// # Errors
    /// Where the API does not give the case.
    pub async fn case(&self, id: &CaseId<'_>) -> Result<Case, PartnerApiError> {
        self.get(self.url(&["cases", id.as_str()])).await
    }

    /// `GET /cases/{id}/extraction`
    ///
    /// # Errors
    /// Where the API does not give the result.
    pub async fn extraction(&self, id: &CaseId<'_>) -> Result<StageResult, PartnerApiError> {
        self.result(id, Feature::Extraction).await
    }

    /// `GET /cases/{id}/forensics`
    ///
    /// # Errors
    /// Where the API does not give the result.
    pub async fn forensics(&self, id: &CaseId<'_>) -> Result<StageResult, PartnerApiError> {
        self.result(id, Feature::Forensics).await
    }

    /// `GET /cases/{id}/translation`
    ///
    /// # Errors
    /// Where the API does not give the result.
    pub async fn translation(&self, id: &CaseId<'_>) -> Result<StageResult, PartnerApiError> {
        self.result(id, Feature::Translation).await
    }

    /// `GET /cases`, a page of them after the first `skip`; empty where there are no more.
    ///
    /// # Errors
    /// Where the API does not give the page.
    pub async fn cases(&self, skip: usize) -> Result<Vec<Case>, PartnerApiError> {
        let mut url = self.url(&["cases"]);
        let page = [(&self.paging.size_parameter, self.paging.size), (&self.paging.skip_parameter, skip)];
        url.query_pairs_mut().extend_pairs(page.map(|(name, number)| (name, number.to_string())));
        self.get(url).await
    }

    /// The result of a feature that has one of its own: all but classification.
    ///
    /// # Errors
    /// Where the API does not give the result.
    pub async fn result(&self, id: &CaseId<'_>, feature: Feature) -> Result<StageResult, PartnerApiError> {
        let name = feature.as_str();
        let data: Value = self.get(self.url(&["cases", id.as_str(), name])).await?;
        Ok(StageResult::new(name, data))
    }

    /// The segments are percent-encoded wherever they hold what a path cannot.
    fn url(&self, segments: &[&str]) -> Url {
        let mut url = Url::clone(&self.base);
        if let Ok(mut path) = url.path_segments_mut() {
            path.extend(segments);
        }
        url
    }

    async fn get<T: DeserializeOwned>(&self, url: Url) -> Result<T, PartnerApiError> {
        let pass = self.gate.pass().await?;
        let answer = self.call(url).await;
        self.gate.tell(answer.as_ref().err());
        drop(pass);
        answer
    }

    async fn call<T: DeserializeOwned>(&self, url: Url) -> Result<T, PartnerApiError> {
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
