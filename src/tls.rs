//! TLS that verifies the server: the certificates of the broker's and of the database's connections.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

/// PEM files that a URI names.
#[derive(Debug, Default)]
pub(crate) struct TlsFiles {
    /// Authorities to trust instead of the system's.
    pub(crate) roots: Option<PathBuf>,
    /// Certificate that this client presents, with its chain.
    pub(crate) certificate: Option<PathBuf>,
    /// Private key of the certificate.
    pub(crate) key: Option<PathBuf>,
}

/// File that cannot be used, with the cause.
#[derive(Debug, thiserror::Error)]
#[error("names {0}, which cannot be used: {1}")]
pub struct TlsFileError(PathBuf, String);

impl TlsFiles {
    /// Returns whether any file is named.
    pub(crate) fn any(&self) -> bool {
        self.roots.is_some() || self.certificate.is_some() || self.key.is_some()
    }

    /// Returns the settings of a client that verifies the server's certificate and name.
    pub(crate) fn client_config(&self) -> Result<Arc<ClientConfig>, TlsFileError> {
        let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable(Path::new("TLS"), &error))?
            .with_root_certificates(self.trusted()?);
        let config = match (&self.certificate, &self.key) {
            (Some(certificate), Some(key)) => {
                let chain = certificates(certificate)?;
                let secret = PrivateKeyDer::from_pem_file(key).map_err(|error| unusable(key, &error))?;
                builder.with_client_auth_cert(chain, secret).map_err(|error| unusable(certificate, &error))?
            }
            (None, None) => builder.with_no_client_auth(),
            (Some(path), None) => return Err(unusable(path, &"a client certificate needs its key")),
            (None, Some(path)) => return Err(unusable(path, &"a client key needs its certificate")),
        };
        Ok(Arc::new(config))
    }

    fn trusted(&self) -> Result<RootCertStore, TlsFileError> {
        let mut roots = RootCertStore::empty();
        match &self.roots {
            Some(path) => {
                for certificate in certificates(path)? {
                    roots.add(certificate).map_err(|error| unusable(path, &error))?;
                }
            }
            None => {
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
                if roots.is_empty() {
                    return Err(unusable(
                        Path::new("the system's certificates"),
                        &"none were found\nhint: install ca-certificates, or name a file",
                    ));
                }
            }
        }
        Ok(roots)
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsFileError> {
    let certificates: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| unusable(path, &error))?;
    if certificates.is_empty() {
        return Err(unusable(path, &"the file has no certificate in PEM format"));
    }
    Ok(certificates)
}

fn unusable(path: &Path, cause: &dyn Display) -> TlsFileError {
    TlsFileError(path.to_owned(), cause.to_string())
}
