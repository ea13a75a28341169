//! The client of TruEnroll's Partner API, and the only place that calls it.

use std::{path::Path, sync::Arc};

use envelope::{CaseId, Feature};
use reqwest::{
    Client, StatusCode, Url,
    header::{HeaderMap, HeaderValue},
    redirect,
};
use serde::de::DeserializeOwned;

use crate::{
    config,
    document::{Document, Spool},
    http_client,
};

mod answer;
mod case;
mod error;
mod gate;
mod known;
mod share;

pub use case::{Case, CaseStatus, Credential, Parts, StageResult, Upload};
pub use error::{PartnerApiError, PartnerApiErrorKind};
pub use known::KnownCases;

use error::PartnerApiErrorKind as Kind;
use gate::Gate;

/// The client, cheap to clone.
#[derive(Clone)]
pub struct PartnerApi {
    client: Client,
    base: Arc<Url>,
    max_response_bytes: u64,
    /// Where large answers are kept.
    spool: Arc<Path>,
    paging: Arc<config::Paging>,
    gate: Arc<Gate>,
    known: Arc<KnownCases>,
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
        let client = http_client::builder(settings.timeout)
            .default_headers(HeaderMap::from_iter([(reqwest::header::HeaderName::from_static("x-api-key"), key)]))
            .redirect(redirect::Policy::none())
            .build()?;
        let (base, paging) = (Arc::new(base), Arc::new(settings.paging.clone()));
        let known = Arc::new(KnownCases::default());
        let gate = Arc::new(Gate::new(settings, Arc::clone(&known)));
        let spool = Path::new(&settings.spool_folder).into();
        Ok(Self { client, base, max_response_bytes: settings.max_response_bytes, spool, paging, gate, known })
    }

    /// The cases that the API has shown to this client.
    pub fn known(&self) -> &Arc<KnownCases> {
        &self.known
    }

    /// `GET /cases/{id}`
    ///
    /// # Errors
    /// Where the API does not give the case.
    pub async fn case(&self, id: &CaseId<'_>) -> Result<Case, PartnerApiError> {
        self.get(self.url(&["cases", id.as_str()]), Some(id)).await
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
        let cases: Vec<Case> = self.get(url, None).await?;
        cases.iter().for_each(|case| self.known.is_listed(&case.id));
        Ok(cases)
    }

    /// The result of a feature; classification's is the case itself.
    ///
    /// # Errors
    /// Where the API does not give the result.
    pub async fn result(&self, id: &CaseId<'_>, feature: Feature) -> Result<StageResult, PartnerApiError> {
        let name = feature.as_str();
        let own = Some(name).filter(|_| feature != Feature::Classification);
        let segments: Vec<_> = ["cases", id.as_str()].into_iter().chain(own).collect();
        let url = self.url(&segments);
        let answer = self.fetch(url, Some(id)).await?;
        let (statuses, data) = Self::read(&answer, name).await?;
        Ok(StageResult::new(statuses, data))
    }

    /// `GET /cases/{id}`, also as the API wrote it.
    ///
    /// # Errors
    /// Where the API does not give the case.
    pub async fn case_with_document(&self, id: &CaseId<'_>) -> Result<(Case, Document), PartnerApiError> {
        let answer = self.fetch(self.url(&["cases", id.as_str()]), Some(id)).await?;
        let (_, data) = Self::read(&answer, "").await?;
        let case = data.clone().parse().await.map_err(|_| Kind::Unreadable)?;
        Ok((case, data))
    }

    /// What the parts of the result `name` state, and the answer's data.
    async fn read(answer: &Document, name: &'static str) -> Result<(answer::Statuses, Document), PartnerApiError> {
        let read = match answer.in_memory() {
            Some(bytes) => answer::read(bytes, name),
            None => answer.clone().read(move |reader| answer::read_from(reader, name)).await.flatten(),
        };
        match read {
            Ok(answer::Answered { is_failure: false, statuses, data }) => Ok((statuses, answer.part(data))),
            Ok(_) => Err(Kind::Unsuccessful.into()),
            Err(_) => Err(Self::unreadable(answer)),
        }
    }

    /// The error for an answer that is not as documented, which may say itself that the call
    /// failed.
    fn unreadable(answer: &Document) -> PartnerApiError {
        let says_so = answer.in_memory().is_some_and(answer::says_that_it_failed);
        if says_so { Kind::Unsuccessful.into() } else { Kind::Unreadable.into() }
    }

    /// The segments are percent-encoded wherever they hold what a path cannot.
    fn url(&self, segments: &[&str]) -> Url {
        let mut url = Url::clone(&self.base);
        if let Ok(mut path) = url.path_segments_mut() {
            path.extend(segments);
        }
        url
    }

    async fn get<T: DeserializeOwned + Send + 'static>(
        &self,
        url: Url,
        case: Option<&CaseId<'_>>,
    ) -> Result<T, PartnerApiError> {
        let answer = self.fetch(url, case).await?;
        let (_, data) = Self::read(&answer, "").await?;
        Ok(data.parse().await.map_err(|_| Kind::Unreadable)?)
    }

    async fn fetch(&self, url: Url, case: Option<&CaseId<'_>>) -> Result<Document, PartnerApiError> {
        let pass = self.gate.pass(case.map(CaseId::as_str)).await?;
        let answer = self.call(url).await;
        self.gate.tell(answer.as_ref().err());
        if let Some(case) = case {
            match &answer {
                Ok(_) | Err(PartnerApiError { kind: Kind::NotRequested, .. }) => self.known.exists(case.as_str()),
                Err(PartnerApiError { kind: Kind::CaseNotFound, .. }) => self.known.does_not_exist(case.as_str()),
                Err(_) => {}
            }
        }
        drop(pass);
        answer
    }

    async fn call(&self, url: Url) -> Result<Document, PartnerApiError> {
        let mut response = self.client.get(url).send().await.map_err(|error| Kind::of_call(&error))?;
        let status = response.status();
        if status != StatusCode::OK {
            return Err(PartnerApiError {
                kind: Kind::of_status(status),
                retry_after: http_client::retry_after(response.headers()),
            });
        }
        let mut answer = Spool::new();
        while let Some(piece) = response.chunk().await.map_err(|error| Kind::of_call(&error))? {
            if answer.len() + piece.len() as u64 > self.max_response_bytes {
                return Err(Kind::TooLarge.into());
            }
            answer = answer.add(piece, Arc::clone(&self.spool)).await.map_err(|error| {
                tracing::error!("cannot keep a large answer in a file (`partner_api.spool_folder`): {error}");
                Kind::NotKept
            })?;
        }
        Ok(answer.finish())
    }
}
