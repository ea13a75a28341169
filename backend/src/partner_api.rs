//! The client of TruEnroll's Partner API, and the only module that calls it.

use std::{path::Path, sync::Arc, time::Instant};

use envelope::{CaseId, Feature};
use reqwest::{Client, Response, StatusCode, Url, header::HeaderValue, redirect};
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use crate::{
    config,
    document::{Document, Spool},
    http_client,
    telemetry::{CallLabels, Metrics},
    traces::Span,
};

mod answer;
mod case;
mod error;
mod examination;
mod gate;
mod keys;
mod known;
mod share;

pub use case::{Case, CaseStatus, Credential, Parts, StageResult, Upload};
pub use error::{PartnerApiError, PartnerApiErrorKind};
pub(crate) use examination::Listed;
pub(crate) use known::KnownCases;

use gate::Gate;
use keys::Keys;

/// A client of the Partner API, cheap to clone. All clones share the limits on calls.
#[derive(Clone)]
pub struct PartnerApi {
    client: Client,
    keys: watch::Sender<Arc<Keys>>,
    metrics: Arc<Metrics>,
    base: Arc<Url>,
    max_response_bytes: u64,
    /// The folder for large answers.
    spool: Arc<Path>,
    paging: Arc<config::Paging>,
    gate: Arc<Gate>,
    known: Arc<KnownCases>,
}

/// The result of a search by the partner's own reference.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Search {
    /// The case.
    Found(Case),
    /// There is no such case.
    None,
    /// The API returned other cases: it does not know the query parameter.
    Ignored,
}

impl PartnerApi {
    /// Returns a client for the configured account.
    ///
    /// # Errors
    /// If the URL or an API key is invalid, or the HTTP client cannot be built.
    pub(crate) fn new(settings: &config::PartnerApi) -> anyhow::Result<Self> {
        let mut base = Url::parse(&settings.base_url)?;
        base.path_segments_mut().map_err(|()| anyhow::anyhow!("the base URL has no path"))?.pop_if_empty();
        let client = http_client::builder(settings.timeout).redirect(redirect::Policy::none()).build()?;
        let known = Arc::new(KnownCases::default());
        Ok(Self {
            client,
            keys: watch::Sender::new(Arc::new(Keys::new(&settings.api_key)?)),
            metrics: Arc::default(),
            base: Arc::new(base),
            max_response_bytes: settings.max_response_bytes,
            spool: Path::new(&settings.spool_folder).into(),
            paging: Arc::new(settings.paging.clone()),
            gate: Arc::new(Gate::new(settings, Arc::clone(&known))),
            known,
        })
    }

    /// Returns the same client, which counts its calls in `metrics`.
    pub(crate) fn counting(self, metrics: &Arc<Metrics>) -> Self {
        Self { metrics: Arc::clone(metrics), ..self }
    }

    /// Returns whether no calls are made for a while because they keep failing.
    pub(crate) fn is_circuit_open(&self) -> bool {
        self.gate.is_open()
    }

    /// Has the calls of all clones that begin from now on use these keys.
    ///
    /// # Errors
    /// If a key is invalid.
    pub(crate) fn change_keys(&self, setting: &config::Secret) -> anyhow::Result<()> {
        self.keys.send_replace(Arc::new(Keys::new(setting)?));
        Ok(())
    }

    /// Returns the cases that are known to exist.
    pub(crate) fn known(&self) -> &Arc<KnownCases> {
        &self.known
    }

    /// Fetches a case: `GET /cases/{id}`.
    ///
    /// # Errors
    /// If the API does not return the case. [`PartnerApiError::is_not_found`] says whether it
    /// exists.
    pub async fn case(&self, id: &CaseId<'_>) -> Result<Case, PartnerApiError> {
        self.get(self.case_url(id, None), Some(id)).await
    }

    /// Returns whether a case exists, for a person who asks. Unlike [`PartnerApi::case`], this says
    /// nothing about events: it is not held back while cases that do not exist arrive, and does not
    /// count as one of them.
    ///
    /// # Errors
    /// If the API does not answer.
    pub(crate) async fn exists(&self, id: &CaseId<'_>) -> Result<bool, PartnerApiError> {
        match self.get::<Case>(self.case_url(id, None), None).await {
            Ok(_) => Ok(true),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Fetches a page of the cases that follow the first `skip`: `GET /cases`. A page after the
    /// last case is empty.
    ///
    /// # Errors
    /// If the API does not return the page.
    pub(crate) async fn cases(&self, skip: usize) -> Result<Vec<Case>, PartnerApiError> {
        let cases: Vec<Case> = self.get(self.page_url(self.paging.size, skip), None).await?;
        for case in &cases {
            self.known.is_listed(&case.id);
        }
        Ok(cases)
    }

    /// Searches for the case that the partner knows as `external_id`: `GET /cases`.
    ///
    /// # Errors
    /// If the API does not return cases.
    pub(crate) async fn search(&self, external_id: &str) -> Result<Search, PartnerApiError> {
        let mut url = self.page_url(self.paging.size, 0);
        url.query_pairs_mut().append_pair(&self.paging.external_id_parameter, external_id);
        let cases: Vec<Case> = self.get(url, None).await?;
        let is_ignored = !cases.is_empty();
        let found = cases.into_iter().find(|case| case.external_id.as_deref() == Some(external_id));
        Ok(found.map_or(if is_ignored { Search::Ignored } else { Search::None }, Search::Found))
    }

    /// Fetches the result of a feature. Classification has no result of its own: its result is the
    /// case.
    ///
    /// # Errors
    /// If the API does not return the result, for example because no upload requested it.
    pub async fn result(&self, id: &CaseId<'_>, feature: Feature) -> Result<StageResult, PartnerApiError> {
        let name = feature.as_str();
        let path = (feature != Feature::Classification).then_some(name);
        let answer = self.fetch(self.case_url(id, path), Some(id)).await?;
        let (parts, document) = Self::read(&answer, name).await?;
        Ok(StageResult { parts, document })
    }

    /// Fetches a case, and returns it also as the API wrote it.
    ///
    /// # Errors
    /// If the API does not return the case.
    pub async fn case_with_document(&self, id: &CaseId<'_>) -> Result<(Case, Document), PartnerApiError> {
        let answer = self.fetch(self.case_url(id, None), Some(id)).await?;
        let (_, data) = Self::read(&answer, "").await?;
        let case = data.clone().parse().await.map_err(|_| PartnerApiErrorKind::Unreadable)?;
        Ok((case, data))
    }

    /// Unwraps an answer: returns its data, and counts the parts of the result `name`.
    async fn read(answer: &Document, name: &'static str) -> Result<(Parts, Document), PartnerApiError> {
        let read = match answer.in_memory() {
            Some(bytes) => answer::read(bytes, name),
            None => answer.clone().read(move |reader| answer::read_from(reader, name)).await.flatten(),
        };
        match read {
            Ok(read) if read.is_failure => Err(PartnerApiErrorKind::Unsuccessful.into()),
            Ok(read) => Ok((read.parts, answer.part(read.data))),
            Err(_) => Err(PartnerApiErrorKind::Unreadable.into()),
        }
    }

    /// Returns the URL of a case, or of something below it.
    fn case_url(&self, id: &CaseId<'_>, below: Option<&str>) -> Url {
        let mut segments = vec!["cases", id.as_str()];
        segments.extend(below);
        self.url(&segments)
    }

    /// Returns the URL of a page of the list of cases.
    fn page_url(&self, size: usize, skip: usize) -> Url {
        let mut url = self.url(&["cases"]);
        url.query_pairs_mut()
            .append_pair(&self.paging.size_parameter, &size.to_string())
            .append_pair(&self.paging.skip_parameter, &skip.to_string());
        url
    }

    /// Returns the URL with these path segments, percent-encoded where necessary.
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
        Ok(data.parse().await.map_err(|_| PartnerApiErrorKind::Unreadable)?)
    }

    /// Makes a call with one key after the other until one of them is not rejected.
    async fn fetch(&self, url: Url, case: Option<&CaseId<'_>>) -> Result<Document, PartnerApiError> {
        let mut answer = Err(PartnerApiErrorKind::Unauthorized.into());
        let keys = Arc::clone(&self.keys.borrow());
        for (position, key) in keys.in_order() {
            answer = self.fetch_with(key, url.clone(), case).await;
            if !answer.as_ref().is_err_and(|error| error.kind == PartnerApiErrorKind::Unauthorized) {
                break;
            }
            self.metrics.api_key_rejections.inc();
            keys.reject(position);
        }
        answer
    }

    /// Makes a call within the limits, and records what it shows about the API and the case.
    async fn fetch_with(
        &self,
        key: &HeaderValue,
        url: Url,
        case: Option<&CaseId<'_>>,
    ) -> Result<Document, PartnerApiError> {
        let asked_at = Instant::now();
        let pass = self.gate.pass(case.map(CaseId::as_str)).await;
        self.metrics.partner_api_wait_seconds.observe(asked_at.elapsed().as_secs_f64());
        let pass = pass?;
        let called_at = Instant::now();
        let answer = self.call(key, url).await;
        let labels = CallLabels { code: answer.as_ref().map_or_else(PartnerApiError::code, |_| "ok") };
        self.metrics.partner_api_seconds.get_or_create(&labels).observe(called_at.elapsed().as_secs_f64());
        self.gate.report(answer.as_ref().err());
        if let Some(case) = case {
            match answer.as_ref().map_err(|error| error.kind) {
                Ok(_) | Err(PartnerApiErrorKind::NotRequested) => self.known.exists(case.as_str()),
                Err(PartnerApiErrorKind::CaseNotFound) => self.known.does_not_exist(case.as_str()),
                Err(_) => {}
            }
        }
        drop(pass);
        answer
    }

    async fn call(&self, key: &HeaderValue, url: Url) -> Result<Document, PartnerApiError> {
        // The context of the span is not sent: TruEnroll has no part in the trace.
        let span = Span::call("GET", &url, || template(&self.base, &url));
        let answer = async {
            let response = self.send(key, url).await.map_err(|error| PartnerApiErrorKind::of_call(&error))?;
            span.answered(response.status().as_u16());
            self.receive(response).await
        }
        .await;
        span.end(answer.as_ref().err().map(PartnerApiError::code));
        answer
    }

    async fn send(&self, key: &HeaderValue, url: Url) -> reqwest::Result<Response> {
        self.client.get(url).header("x-api-key", key).send().await
    }

    /// Reads an answer into memory or, if it is large, into a file.
    async fn receive(&self, mut response: Response) -> Result<Document, PartnerApiError> {
        let status = response.status();
        if status != StatusCode::OK {
            let retry_after = http_client::retry_after(response.headers());
            return Err(PartnerApiError { kind: PartnerApiErrorKind::of_status(status), retry_after });
        }
        let mut answer = Spool::new();
        while let Some(piece) = response.chunk().await.map_err(|error| PartnerApiErrorKind::of_call(&error))? {
            if answer.len() + piece.len() as u64 > self.max_response_bytes {
                return Err(PartnerApiErrorKind::TooLarge.into());
            }
            answer = answer.add(piece, Arc::clone(&self.spool)).await.map_err(|error| {
                tracing::error!("cannot write a large answer to `partner_api.spool_folder`: {error}");
                PartnerApiErrorKind::NotKept
            })?;
        }
        Ok(answer.finish())
    }
}

/// Returns the path of a URL below the base URL, with a placeholder for the case.
fn template(base: &Url, url: &Url) -> String {
    let path = url.path().strip_prefix(base.path().trim_end_matches('/')).unwrap_or_default();
    let mut segments: Vec<_> = path.split('/').collect();
    if let Some(case) = segments.get_mut(2) {
        *case = "{id}";
    }
    segments.join("/")
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_template_names_the_call_but_not_the_case() {
        for base in ["https://api.example/partner/v1", "https://api.example/", "https://api.example"] {
            for (below, expected) in [
                ("/cases?skip=7&externalId=applicant-1", "/cases"),
                ("/cases/6850abc", "/cases/{id}"),
                ("/cases/cases/extraction", "/cases/{id}/extraction"),
            ] {
                let url = format!("{}{below}", base.trim_end_matches('/'));
                assert_eq!(template(&Url::parse(base).unwrap(), &Url::parse(&url).unwrap()), expected, "{url}");
            }
        }
    }

    #[tokio::test]
    async fn the_questions_of_a_person_are_no_flood_of_unknown_cases() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let config = format!(
            "[ingest]\nproof = \"0123456789abcdef\"\n[partner_api]\napi_key = \"key\"\nbase_url = \"http://{}\"\n",
            listener.local_addr().unwrap()
        );
        let knows_no_case = axum::Router::new().fallback(async || reqwest::StatusCode::NOT_FOUND);
        tokio::spawn(async move { axum::serve(listener, knows_no_case).await });
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(config.as_bytes()).unwrap();
        let api = PartnerApi::new(&config::Config::load(Some(file.path())).unwrap().partner_api).unwrap();
        for number in 0..40 {
            let case = CaseId::new(format!("asked-{number}")).unwrap();
            assert!(!api.exists(&case).await.unwrap());
        }
        assert!(!api.known().is_flooded());
        for number in 0..40 {
            let case = CaseId::new(format!("unknown-{number}")).unwrap();
            _ = api.case(&case).await.unwrap_err();
            if api.known().is_flooded() {
                break;
            }
        }
        assert!(api.known().is_flooded(), "the API is not asked");
        assert!(!api.exists(&CaseId::new("asked").unwrap()).await.unwrap());
    }
}
