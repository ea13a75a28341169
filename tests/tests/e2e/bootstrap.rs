//! Envoy accepts the bootstrap with each of its options, with every pair, and with all of them.

use std::{fs, process::Command};

use envoy::bootstrap::{Bootstrap, BootstrapError};
use harness::tools;
use rcgen::{CertificateParams, KeyPair};

#[test]
fn envoy_accepts_every_pair_of_bootstrap_options_except_mtls_without_tls() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &str| {
        let path = folder.path().join(name);
        fs::write(&path, content).unwrap();
        path.display().to_string()
    };
    let certificate = CertificateParams::new(vec!["sender".to_owned()]).unwrap();
    let certificate = certificate.self_signed(&KeyPair::generate().unwrap()).unwrap().pem();
    let values = [
        ("filter_file", file("filter.json", "{}")),
        ("filter_directory", folder.path().display().to_string()),
        ("log_limit_file", file("log-limit.yaml", include_str!("../../../envoy/log-limit.yaml"))),
        ("tls_file", file("tls.yaml", include_str!("../../../envoy/tls.yaml"))),
        ("sender_authority", file("sender-ca.pem", &certificate)),
    ];
    let options: Vec<_> = Bootstrap::options().into_iter().collect();
    assert!(options.len() >= 6, "{options:?}");
    let mut choices = vec![Vec::new(), options.clone()];
    for (number, one) in options.iter().enumerate() {
        choices.push(vec![*one]);
        choices.extend(options[number + 1..].iter().map(|other| vec![*one, *other]));
    }
    for chosen in choices {
        let mut bootstrap = Bootstrap::shipped();
        for option in &chosen {
            bootstrap = bootstrap.enable(option).unwrap();
        }
        for (name, value) in &values {
            bootstrap = bootstrap.set(name, value).unwrap();
        }
        let rendered = bootstrap.render();
        if chosen.contains(&"mtls") && !chosen.contains(&"tls") {
            assert_eq!(rendered, Err(BootstrapError::Needs { option: "mtls", other: "tls" }));
            continue;
        }
        let config = file("bootstrap.yaml", &rendered.unwrap());
        let mut envoy = Command::new(tools::envoy().unwrap());
        let checked = envoy.args(["--mode", "validate", "--log-level", "error", "-c", &config]).output().unwrap();
        assert!(checked.status.success(), "{chosen:?}: {}", String::from_utf8_lossy(&checked.stderr));
    }
}
