//! The port of plain HTTP: it sends browsers to the same address with https, and answers challenges of a certification authority
//! (HTTP-01, RFC 8555, section 8.3).
//!
//! It redirects to hosts of this hub alone, so that nobody can use it to send others elsewhere.

use std::{
    io,
    net::{self, SocketAddr},
    sync::Arc,
    time::Duration,
};

use http::{HeaderValue, Method, StatusCode, header, request::Parts, uri::Authority};
use tokio::{
    net::{TcpListener, TcpSocket, lookup_host},
    time::timeout,
};

use crate::admin::{
    answer::{AdminAnswer, text},
    port::serve,
};

/// A bound socket, not accepting yet.
pub struct RedirectPort {
    socket: TcpListener,
    address: SocketAddr,
}

/// What the port of plain HTTP needs to know.
pub trait Redirection: Send + Sync + 'static {
    /// Whether a host, a name in lower case or an address without brackets, is one of this hub.
    fn is_own(&self, host: &str) -> bool;

    /// The port of https URLs. `None`: 443.
    fn port(&self) -> Option<u16>;

    /// What answers the challenge of a token. Everybody can ask, with any token.
    fn authorization(&self, token: &str) -> impl Future<Output = Option<String>> + Send;
}

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 1_024;

/// How long an answer to a challenge may take: a store that hangs must not hold the few connections that others need. The authority
/// waits for ten seconds or so.
const AUTHORIZATION_MAX: Duration = Duration::from_secs(5);

/// Where the answers to challenges are.
const CHALLENGES: &str = "/.well-known/acme-challenge/";

impl RedirectPort {
    /// Binds to the first address of `host` that can be bound; port 0 lets the system choose. `shares`: whether another process of
    /// this user may listen there, too, if it shares as well. A hub that takes over from another one listens beside it.
    ///
    /// # Errors
    /// If the name is unknown or no address can be bound.
    pub async fn bind(host: &str, port: u16, shares: bool) -> io::Result<Self> {
        let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in lookup_host((host, port)).await? {
            match bind(address, shares) {
                Ok(socket) => return Ok(Self { address: socket.local_addr()?, socket }),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    /// A socket that listens already, such as one that the service manager has passed.
    ///
    /// # Errors
    /// If it is no TCP socket.
    pub fn from_std(socket: net::TcpListener) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let socket = TcpListener::from_std(socket)?;
        Ok(Self { address: socket.local_addr()?, socket })
    }

    /// The bound address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts and answers until it is dropped: 32 connections at once, each with one request.
    pub async fn serve(self, redirection: impl Redirection) {
        let redirection = Arc::new(redirection);
        serve(self.socket, move |head| {
            let redirection = Arc::clone(&redirection);
            async move { answer(&head, &*redirection).await }
        })
        .await;
    }
}

fn bind(address: SocketAddr, shares: bool) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(shares)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

async fn answer(head: &Parts, redirection: &impl Redirection) -> AdminAnswer {
    if let Some(token) = head.uri.path().strip_prefix(CHALLENGES) {
        let authorization = match head.method == Method::GET {
            true => timeout(AUTHORIZATION_MAX, redirection.authorization(token)).await,
            false => Ok(None),
        };
        return match authorization {
            Ok(Some(authorization)) => text(StatusCode::OK, authorization),
            Err(_) => text(StatusCode::SERVICE_UNAVAILABLE, "the store does not answer\n"),
            Ok(None) => text(StatusCode::NOT_FOUND, "there is no such challenge\n"),
        };
    }
    let host = head.headers.get(header::HOST).and_then(|host| host.to_str().ok()?.parse::<Authority>().ok());
    let host = host.or_else(|| head.uri.authority().cloned());
    let own = host.filter(|host| {
        redirection.is_own(host.host().trim_matches(['[', ']']).to_ascii_lowercase().as_str())
    });
    let Some(own) = own else {
        return text(
            StatusCode::MISDIRECTED_REQUEST,
            "this hub has another name: ask for that, with https\n",
        );
    };
    let (host, target) = (own.host(), head.uri.path_and_query().map_or("/", |target| target.as_str()));
    // `OPTIONS *` asks about the whole server.
    let target = if target.starts_with('/') { target } else { "/" };
    let location = match redirection.port() {
        Some(port) => format!("https://{host}:{port}{target}"),
        None => format!("https://{host}{target}"),
    };
    let Ok(location) = HeaderValue::try_from(location) else {
        return text(StatusCode::BAD_REQUEST, "this is no address\n");
    };
    let mut answer = text(StatusCode::PERMANENT_REDIRECT, "ask for the same address with https\n");
    answer.headers_mut().insert(header::LOCATION, location);
    answer
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    struct Own(Option<u16>);

    impl Redirection for Own {
        fn is_own(&self, host: &str) -> bool {
            ["hub.example", "::1"].contains(&host)
        }

        fn port(&self) -> Option<u16> {
            self.0
        }

        async fn authorization(&self, token: &str) -> Option<String> {
            if token == "hangs" {
                std::future::pending::<()>().await;
            }
            (token == "token").then(|| "token.thumbprint".to_owned())
        }
    }

    async fn ask(method: Method, target: &str, host: &str, own: Own) -> (u16, Option<String>) {
        let request = Request::builder().method(method).uri(target).header(header::HOST, host).body(());
        let answer = answer(&request.expect("a request").into_parts().0, &own).await;
        let location = answer.headers().get(header::LOCATION);
        (answer.status().as_u16(), location.map(|value| value.to_str().expect("text").to_owned()))
    }

    #[tokio::test]
    async fn it_redirects_to_its_own_hosts_alone_with_path_and_query() {
        let to = |url: &str| (308, Some(url.to_owned()));
        assert_eq!(
            ask(Method::GET, "/a?topic=%2F&x", "HUB.example:80", Own(None)).await,
            to("https://HUB.example/a?topic=%2F&x")
        );
        assert_eq!(ask(Method::POST, "/a", "[::1]", Own(Some(8443))).await, to("https://[::1]:8443/a"));
        assert_eq!(
            ask(Method::GET, "http://hub.example//b.example/", "hub.example", Own(None)).await,
            to("https://hub.example//b.example/")
        );
        assert_eq!(ask(Method::OPTIONS, "*", "hub.example", Own(None)).await, to("https://hub.example/"));
        for host in ["b.example", "hub.example.b.example", "", "hub.example@b.example", "x y"] {
            assert_eq!(ask(Method::GET, "/a", host, Own(None)).await.0, 421, "{host}");
        }
    }

    #[tokio::test]
    async fn two_hubs_have_one_port_only_if_both_share_it() {
        for (first, second, is_shared) in [(true, true, true), (true, false, false), (false, true, false)] {
            let one = RedirectPort::bind("127.0.0.1", 0, first).await.expect("a free port");
            let other = RedirectPort::bind("127.0.0.1", one.address().port(), second).await;
            assert_eq!(other.is_ok(), is_shared, "{first} {second}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_challenge_is_answered_in_time_by_a_store_that_hangs() {
        let began = tokio::time::Instant::now();
        let (status, _) = ask(Method::GET, &format!("{CHALLENGES}hangs"), "x", Own(None)).await;
        assert_eq!((status, began.elapsed().as_secs()), (503, 5));
    }

    #[tokio::test]
    async fn it_answers_challenges_whatever_the_host() {
        for (method, token, status) in
            [(Method::GET, "token", 200), (Method::GET, "other", 404), (Method::POST, "token", 404)]
        {
            let target = format!("{CHALLENGES}{token}");
            assert_eq!(ask(method, &target, "x", Own(None)).await, (status, None), "{token}");
        }
    }
}
