//! HTTPS at the edge, client certificates of senders, and TLS to Redis.

use std::{fs, path::Path, sync::Arc};

use envelope::Feature;
use harness::{backend_settings::BackendSettings, redis_server::FSYNC, simulator::world::Event, stack::Options};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use reqwest::{Certificate, Client, Identity, StatusCode};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    },
};

use crate::{
    fixture::{Fixture, PATIENCE, eventually, redis},
    start::backend_with_variables,
};

/// The name that a sender's certificate must contain.
const SENDER: &str = "webhooks.sender.example";

/// A certificate authority that exists for one test.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Its own certificate, in PEM.
    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for `name` and its key, in PEM.
    pub(crate) fn sign(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        // Otherwise it has the same name as its authority, and looks self-signed.
        params.distinguished_name.push(DnType::CommonName, name);
        (params.signed_by(&key, &self.0).unwrap().pem(), key.serialize_pem())
    }
}

/// Installs a certificate for Envoy as a renewal would: complete files that are renamed into place.
fn install(folder: &Path, (certificate, key): (String, String)) {
    for (name, text) in [("certificate.pem", certificate), ("key.pem", key)] {
        fs::write(folder.join("new"), text).unwrap();
        fs::rename(folder.join("new"), folder.join(name)).unwrap();
    }
}

/// Starts a stack whose edge has a certificate of `authority`. Senders need one of `senders`, if
/// given.
async fn start(authority: &Authority, senders: Option<&Authority>, folder: &Path) -> Fixture {
    install(folder, authority.sign("localhost"));
    let shipped = include_str!("../../../envoy/tls.yaml");
    let file = folder.join("tls.yaml");
    fs::write(&file, shipped.replace("/etc/edge/tls", folder.to_str().unwrap())).unwrap();
    let mut bootstrap = vec![
        ("tls_file", file.display().to_string()),
        // Shorter than the shipped timeouts, to save time.
        ("first_bytes_timeout", "2s".to_owned()),
        ("handshake_timeout", "2s".to_owned()),
    ];
    let mut enable = vec!["tls"];
    if let Some(senders) = senders {
        let file = folder.join("sender-ca.pem");
        fs::write(&file, senders.0.pem()).unwrap();
        bootstrap.extend([("sender_authority", file.display().to_string()), ("sender_name", SENDER.to_owned())]);
        enable.push("mtls");
    }
    Fixture::start_with(|options| Options { enable, bootstrap, ..options }).await
}

fn client(authority: &Authority, identity: Option<(String, String)>) -> Client {
    let root = Certificate::from_pem(authority.0.pem().as_bytes()).unwrap();
    let builder =
        backend::test_support::http_client::builder(crate::fixture::PATIENCE).no_proxy().tls_certs_only([root]);
    let identity = identity.map(|(certificate, key)| Identity::from_pem((certificate + &key).as_bytes()).unwrap());
    identity.into_iter().fold(builder, reqwest::ClientBuilder::identity).build().unwrap()
}

async fn post(client: &Client, fixture: &Fixture, event: &Event) -> Result<StatusCode, reqwest::Error> {
    let url = fixture.stack.webhook().replace("http://127.0.0.1", "https://localhost");
    let request = client.post(url).header("content-type", "application/json").body(event.body.clone());
    request.send().await.map(|answer| answer.status())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_certificate_is_used_without_a_restart() {
    let authority = Authority::new();
    let next = Authority::new();
    let folder = tempfile::tempdir().unwrap();
    let fixture = start(&authority, None, folder.path()).await;
    let event = fixture.events("tls", 1).remove(0);
    assert_eq!(post(&client(&authority, None), &fixture, &event).await.unwrap(), 202);
    assert!(post(&client(&next, None), &fixture, &event).await.is_err(), "the certificate is of another authority");
    let plain = harness::simulator::sender::client().post(fixture.stack.webhook()).body(event.body.clone());
    assert!(plain.send().await.is_err(), "plain HTTP is not accepted");

    install(folder.path(), next.sign("localhost"));
    let renewed = client(&next, None);
    eventually("Envoy uses the renewed certificate", async || post(&renewed, &fixture, &event).await.is_ok()).await;
    // Publication and verification of a build also work with TLS.
    let build = fixture.stack.build(serde_json::json!({ "disabled_features": [Feature::Classification.as_str()] }));
    fixture.stack.publisher().unwrap().publish(&build.unwrap()).unwrap();
    assert_eq!(post(&renewed, &fixture, &event).await.unwrap(), 422);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unfinished_tls_handshake_is_closed() {
    let authority = Authority::new();
    let folder = tempfile::tempdir().unwrap();
    let fixture = start(&authority, None, folder.path()).await;
    let edge = fixture.stack.edge().replace("http://", "");
    let mut stalled = Vec::new();
    // A client that sends nothing, and one that sends only the beginning of a handshake.
    for begun in [&b""[..], b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"] {
        let mut socket = TcpStream::connect(&edge).await.unwrap();
        socket.write_all(begun).await.unwrap();
        stalled.push((begun.len(), socket));
    }
    let event = fixture.events("handshake", 1).remove(0);
    assert_eq!(post(&client(&authority, None), &fixture, &event).await.unwrap(), 202);
    for (begun, mut socket) in stalled {
        let closed = timeout(PATIENCE, socket.read(&mut [0; 64])).await;
        assert!(matches!(closed, Ok(Ok(0) | Err(_))), "after {begun} bytes: {closed:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_mtls_only_the_configured_sender_is_accepted() {
    let authority = Authority::new();
    let senders = Authority::new();
    let folder = tempfile::tempdir().unwrap();
    let fixture = start(&authority, Some(&senders), folder.path()).await;
    let event = fixture.events("mtls", 1).remove(0);
    for (identity, why) in [
        (None, "no certificate"),
        (Some(authority.sign(SENDER)), "the right name, but another authority"),
        (Some(senders.sign("other.example")), "another name"),
    ] {
        assert!(post(&client(&authority, identity), &fixture, &event).await.is_err(), "{why}");
    }
    let sender = client(&authority, Some(senders.sign(SENDER)));
    assert_eq!(post(&sender, &fixture, &event).await.unwrap(), 202);
    fixture.delivered_once(1).await;
}

/// Starts a TLS endpoint in front of the server at port `behind`, and returns its port.
pub(crate) async fn tls_in_front_of(behind: u16, (certificate, key): (String, String)) -> u16 {
    backend::test_support::tls::prepare();
    let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((inside, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let mut inside = acceptor.accept(inside).await?;
                let mut outside = TcpStream::connect(("127.0.0.1", behind)).await?;
                tokio::io::copy_bidirectional(&mut inside, &mut outside).await
            });
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_is_used_over_tls_if_its_certificate_is_trusted() {
    let server = redis(&FSYNC);
    let authority = Authority::new();
    let folder = tempfile::tempdir().unwrap();
    let port = tls_in_front_of(server.port(), authority.sign("localhost")).await;
    let trusted = folder.path().join("ca.pem");
    fs::write(&trusted, authority.0.pem()).unwrap();
    let fixture = Fixture::start_with(|options| {
        let redis_url = Some(format!("rediss://localhost:{port}"));
        let mut options = Options { redis_url, ..options };
        options.backend.set_variable("SSL_CERT_FILE", trusted.display());
        options
    })
    .await;
    for event in fixture.events("rediss", 8) {
        fixture.send_accepted(&event).await;
    }
    fixture.delivered_once(8).await;

    let other = tls_in_front_of(server.port(), Authority::new().sign("localhost")).await;
    let url = format!("rediss://localhost:{other}");
    let variables = [("SSL_CERT_FILE", trusted.to_str().unwrap())];
    let (code, said) = backend_with_variables(&[("redis.url", &url)], &variables);
    assert!(code == Some(1) && said.contains("certificate"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn backend_doctor_says_whether_the_certificate_of_the_application_is_trusted() {
    let fixture = Fixture::start().await;
    let authority = Authority::new();
    let folder = tempfile::tempdir().unwrap();
    let trusted = folder.path().join("ca.pem");
    fs::write(&trusted, authority.0.pem()).unwrap();
    let simulator = fixture.simulator.url().rsplit_once(':').unwrap().1.parse().unwrap();
    for (certificate, expected) in
        [(authority.sign("localhost"), "\"pass\""), (Authority::new().sign("localhost"), "certificate")]
    {
        let port = tls_in_front_of(simulator, certificate).await;
        let mut own = BackendSettings::default().with("sink.url", format!("https://localhost:{port}/outcomes"));
        own.set_variable("SSL_CERT_FILE", trusted.display());
        let output = fixture.stack.backend_output(&["doctor", "--json", "--probe-sink"], &own).unwrap();
        let printed = String::from_utf8(output.stdout).unwrap();
        for check in ["sink", "sink-test"] {
            let line = printed.lines().find(|line| line.contains(&format!("\"name\":\"{check}\""))).unwrap();
            assert!(line.contains(expected), "{line}");
        }
    }
    assert_eq!(fixture.simulator.application.tests(), 1);
}
