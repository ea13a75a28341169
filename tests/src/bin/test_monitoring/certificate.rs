//! The certificate of Envoy.

use std::{fs, path::Path, time::Duration};

use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

/// A certificate authority for one run.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new() -> Result<Self> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Ok(Self(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?))
    }

    /// The authority's certificate, which clients trust.
    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// Installs a certificate for Envoy as a renewal would: complete files that are renamed into place.
    pub(crate) fn install(&self, folder: &Path, valid_for: Duration) -> Result<()> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(vec!["localhost".to_owned()])?;
        // Otherwise it has the same name as its authority, and looks self-signed.
        params.distinguished_name.push(DnType::CommonName, "localhost");
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
        params.not_after = rcgen::date_time_ymd(1970, 1, 1) + now + valid_for;
        let certificate = params.signed_by(&key, &self.0)?;
        for (name, text) in [("certificate.pem", certificate.pem()), ("key.pem", key.serialize_pem())] {
            fs::write(folder.join("new"), text)?;
            fs::rename(folder.join("new"), folder.join(name))?;
        }
        Ok(())
    }
}
