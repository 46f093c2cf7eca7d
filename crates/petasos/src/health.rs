//! `petasos health`: asks a hub whether it is ready or alive, for containers that have no other program to ask with.

use std::{io, net::IpAddr, sync::Arc, time::Duration};

use clap::{Arg, ArgAction, ArgMatches, Command};
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

use petasos::output::STANDARD_ERROR;

use crate::settings::{Address, Listens, Source, arguments};

/// A question to a hub.
pub(crate) struct Health {
    url: Option<String>,
    /// Whether it lives, and not whether it is ready.
    is_live: bool,
}

/// How long a hub may take to answer: less than an orchestrator waits for the command.
const ANSWER_MAX: Duration = Duration::from_secs(3);

/// Far more than the answer has.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

/// The command line of the command.
pub(crate) fn command() -> Command {
    Command::new("health")
        .about("Ask a hub on this machine whether it is ready; the exit code is 0 if it is, else 1")
        .arg(Arg::new("url").value_name("URL").help(
            "Where it is, such as http://127.0.0.1:5500; the certificate of an https URL is not verified [default: where a hub with these settings listens]",
        ))
        .arg(
            Arg::new("live")
                .long("live")
                .action(ArgAction::SetTrue)
                .help("Ask whether it lives, even if its log is unavailable"),
        )
        .arg(arguments::for_development())
        .args(arguments::hidden())
        .after_help("The answer must come within three seconds.")
}

impl Health {
    pub(crate) fn read(matches: &ArgMatches) -> Self {
        Self { url: matches.get_one::<String>("url").cloned(), is_live: matches.get_flag("live") }
    }

    /// Whether the hub says yes, and what it says.
    ///
    /// # Errors
    /// Why it could not be asked.
    pub(crate) async fn ask(&self, source: &Source) -> Result<(bool, String), String> {
        let path = if self.is_live { "/healthz" } else { "/readyz" };
        let (address, path, has_tls) = match &self.url {
            Some(url) => parse(url, path)?,
            None => {
                let Listens { address, has_tls, warning } = source.listen()?;
                let address = reached_at(address)?;
                if let Some(problem) = warning {
                    STANDARD_ERROR.print(&format!("petasos: {problem}: asking {address}"));
                }
                (address, path.to_owned(), has_tls)
            }
        };
        let asking = timeout(ANSWER_MAX, ask(&address, &path, has_tls)).await;
        let answer = asking
            .map_err(|_| format!("{address}: no answer within three seconds"))?
            .map_err(|error| format!("{address}: {error}"))?;
        let status = answer.split(' ').nth(1).unwrap_or_default();
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body).trim_end();
        match answer.starts_with("HTTP/1.") {
            true => Ok((status == "200", format!("{status}: {body}"))),
            false => Err(format!("{address}: this is no answer in HTTP")),
        }
    }
}

async fn ask(address: &Address, path: &str, has_tls: bool) -> io::Result<String> {
    let stream = TcpStream::connect((&*address.host, address.port)).await?;
    match has_tls {
        true => {
            let name = match address.host.parse::<IpAddr>() {
                Ok(ip) => ip.into(),
                Err(_) => ServerName::try_from(address.host.clone()).map_err(io::Error::other)?,
            };
            exchange(connector()?.connect(name, stream).await?, address, path).await
        }
        false => exchange(stream, address, path).await,
    }
}

async fn exchange(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    address: &Address,
    path: &str,
) -> io::Result<String> {
    let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    stream.flush().await?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// A client of TLS that takes every certificate.
fn connector() -> io::Result<TlsConnector> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider));
    let config = config.with_safe_default_protocol_versions().map_err(io::Error::other)?;
    let config = config.dangerous().with_custom_certificate_verifier(Arc::new(Unverified(provider)));
    Ok(TlsConnector::from(Arc::new(config.with_no_client_auth())))
}

/// Verifies no name and no issuer: the hub on this machine is asked by its address, and its certificate is for another name.
/// Nothing secret is sent.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// The address and the path of a URL, and whether it is reached over TLS; `path` if it has none.
fn parse(url: &str, path: &str) -> Result<(Address, String, bool), String> {
    let wrong = || format!("{url}: write a URL such as http://127.0.0.1:5500");
    let (scheme, rest) = url.split_once("://").ok_or_else(wrong)?;
    let (has_tls, default_port) = match scheme {
        "http" => (false, 80),
        "https" => (true, 443),
        _ => return Err(wrong()),
    };
    let (authority, own) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let address = if has_port { authority.parse() } else { format!("{authority}:{default_port}").parse() };
    let is_text = own.bytes().all(|byte| byte.is_ascii_graphic());
    let address = address.ok().filter(|_| is_text).ok_or_else(wrong)?;
    Ok((address, if own.len() > 1 { own.to_owned() } else { path.to_owned() }, has_tls))
}

/// How this machine reaches a hub that listens there.
fn reached_at(listen: Address) -> Result<Address, String> {
    let host = match listen.host.as_str() {
        "0.0.0.0" => "127.0.0.1".to_owned(),
        "::" => "::1".to_owned(),
        _ => listen.host,
    };
    match listen.port {
        0 => Err("the system chooses the port of this hub: give its URL".to_owned()),
        port => Ok(Address { host, port }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        let parsed = |url: &str| {
            let (address, path, has_tls) = parse(url, "/readyz")?;
            Ok::<_, String>(format!("{}{address}{path}", if has_tls { "TLS " } else { "" }))
        };
        assert_eq!(parsed("http://127.0.0.1:5500"), Ok("127.0.0.1:5500/readyz".to_owned()));
        assert_eq!(parsed("http://localhost/"), Ok("localhost:80/readyz".to_owned()));
        assert_eq!(parsed("http://[::1]:1/healthz"), Ok("[::1]:1/healthz".to_owned()));
        assert_eq!(parsed("https://hub.example"), Ok("TLS hub.example:443/readyz".to_owned()));
        assert_eq!(parsed("https://[::1]:1/healthz"), Ok("TLS [::1]:1/healthz".to_owned()));
        for wrong in ["ftp://a", "https://", "127.0.0.1:5500", "http://", "http://a/b c", "http://a/\r\nX: y"]
        {
            assert!(parsed(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_hub_that_listens_everywhere_is_reached_on_loopback() {
        let reached = |listen: &str| reached_at(listen.parse().expect("an address")).map(|at| at.to_string());
        assert_eq!(reached("0.0.0.0:5500"), Ok("127.0.0.1:5500".to_owned()));
        assert_eq!(reached("[::]:5500"), Ok("[::1]:5500".to_owned()));
        assert_eq!(reached("hub.example:1"), Ok("hub.example:1".to_owned()));
        assert!(reached("0.0.0.0:0").is_err());
    }
}
