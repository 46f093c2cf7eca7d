//! The start of a hub: its log, its sockets, and the hub that runs already, if it takes over from one.

use std::{
    env, io,
    net::TcpListener,
    path::{Path, PathBuf},
    sync::Arc,
};

use petasos::{
    Checked, Log,
    activation::Activated,
    deadline::STOP_MAX,
    takeover::{Offer, Predecessor, SOCKETS_MAX, Sockets, is_offered},
};
use petasos_server::{AdminPort, Connections, Listener, RedirectPort};
use tokio::{task::spawn_blocking, time::timeout};

use crate::{
    acme::{AcmeOptions, Challenges, Shelf},
    admin::AdminOptions,
    certificates::Certificates,
    failure::Failure,
    settings::Address,
};

/// What a hub starts with.
pub(crate) struct Start {
    pub(crate) checked: Checked,
    /// The sockets of the service manager.
    pub(crate) activated: Activated,
    pub(crate) listen: Address,
    /// What the sockets for clients offer, wherever they come from. `None`: no TLS.
    pub(crate) certificates: Option<Certificates>,
    pub(crate) acme: AcmeOptions,
    /// Where plain HTTP is sent on to TLS.
    pub(crate) redirect: Option<Address>,
    pub(crate) operators: AdminOptions,
    /// Where hubs take over from each other.
    pub(crate) takeover: Option<PathBuf>,
    pub(crate) log: Log,
}

/// A hub that is ready to accept connections.
pub(crate) struct Started {
    pub(crate) connections: Connections,
    pub(crate) listeners: Vec<Listener>,
    pub(crate) admin_port: Option<AdminPort>,
    pub(crate) redirect_port: Option<RedirectPort>,
    /// What the nodes share about their certificate, and how they answer the authority, if there is one.
    pub(crate) acme: Option<(Shelf, Challenges)>,
    /// The hub that runs, and waits to be relieved.
    pub(crate) predecessor: Option<Predecessor>,
    /// For the next hub. Nobody finds it before it is published.
    pub(crate) offer: Option<Offer>,
}

impl Start {
    /// Opens the log and the sockets. Nothing is taken from the hub that runs: if this fails, that one goes on.
    ///
    /// # Errors
    /// What cannot be used, and what to change.
    pub(crate) async fn run(self) -> Result<Started, Failure> {
        let Self { checked, activated, listen, certificates, acme, redirect, operators, takeover, log } =
            self;
        let predecessor = match &takeover {
            Some(path) => find_predecessor(path, &log).await?,
            None => None,
        };
        let offer =
            takeover.as_deref().map(Offer::new).transpose().map_err(|error| wrong_takeover(&error))?;
        let connections = checked.start().await?;
        let acme = shelf(&acme, &log, &connections).await?;
        let tls = certificates.map(|offer| match &acme {
            Some((_, challenges)) => offer.tls().clone().with_challenges(Arc::new(challenges.clone())),
            None => offer.tls().clone(),
        });
        let redirect_port = redirect_port(activated.redirect, redirect.as_ref(), takeover.is_some()).await?;
        let listeners = listeners(activated.listeners, predecessor.as_ref(), &listen).await?;
        if offer.is_some() && listeners.len() >= SOCKETS_MAX {
            return Err(format!(
                "takeover: a hub with {} sockets cannot be taken over: pass {} to it at most, or leave takeover out",
                listeners.len(),
                SOCKETS_MAX - 1
            )
            .into());
        }
        let listeners = match tls {
            Some(tls) => listeners.into_iter().map(|listener| listener.with_tls(tls.clone())).collect(),
            None => listeners,
        };
        let admin_socket = predecessor.as_ref().and_then(|hub| hub.admin.as_ref());
        let admin_socket = admin_socket.map(TcpListener::try_clone).transpose()?.or(activated.admin);
        let admin_port = operators.port(admin_socket).await?;
        Ok(Started { connections, listeners, admin_port, redirect_port, acme, predecessor, offer })
    }
}

impl Started {
    /// Copies of the sockets, for the next hub.
    ///
    /// # Errors
    /// If the process may open no more files.
    pub(crate) fn sockets(&self) -> io::Result<Sockets> {
        let listeners = self.listeners.iter().map(Listener::duplicate).collect::<io::Result<_>>()?;
        let admin = self.admin_port.as_ref().map(AdminPort::duplicate).transpose()?;
        Ok(Sockets { listeners, admin })
    }
}

/// Where the account and certificates are, if there is an authority.
async fn shelf(
    acme: &AcmeOptions,
    log: &Log,
    connections: &Connections,
) -> Result<Option<(Shelf, Challenges)>, Failure> {
    if !acme.is_given() {
        return Ok(None);
    }
    let shared = connections.service().hub().documents().filter(|_| acme.cache.is_none());
    let documents = match shared {
        Some(shared) => shared,
        None => {
            let directory = acme.place(log, |name| env::var(name).ok())?;
            let prepared = directory.clone();
            spawn_blocking(move || prepared.prepare()).await?.map_err(|error| {
                format!(
                    "acme_cache: {} cannot be written to: {error}: give another directory",
                    directory.path().display()
                )
            })?;
            Arc::new(directory)
        }
    };
    let shelf = Shelf::new(documents, acme);
    let challenges = Challenges::new(shelf.clone(), &acme.domains);
    Ok(Some((shelf, challenges)))
}

/// The port of plain HTTP, if there is one. `shares`: whether the hub that runs may have it, too.
async fn redirect_port(
    passed: Option<TcpListener>,
    listen: Option<&Address>,
    shares: bool,
) -> Result<Option<RedirectPort>, Failure> {
    match (passed, listen) {
        (Some(passed), _) => Ok(Some(RedirectPort::from_std(passed)?)),
        (None, Some(listen)) => match RedirectPort::bind(&listen.host, listen.port, shares).await {
            Ok(port) => Ok(Some(port)),
            Err(error) => Err(format!(
                "redirect_listen: cannot listen on {listen}: {error}: {}",
                remedy(listen, &error)
            )
            .into()),
        },
        (None, None) => Ok(None),
    }
}

/// What to do about a port that cannot be listened on.
fn remedy(listen: &Address, error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied if listen.port < 1024 => {
            "let the hub use ports below 1024 (AmbientCapabilities=CAP_NET_BIND_SERVICE in a systemd unit), or choose \
             another port"
        }
        _ => "choose another address",
    }
}

/// Tells the hub that runs that this one accepts connections.
///
/// # Errors
/// If that one waits no longer, and goes on. This one has stopped then.
pub(crate) async fn relieve(
    predecessor: Predecessor,
    path: &Path,
    connections: &Connections,
) -> Result<(), Failure> {
    let Err(error) = predecessor.relieve().await else { return Ok(()) };
    if is_offered(path).await {
        // What has come to this hub meanwhile is answered.
        let _ = timeout(STOP_MAX, connections.stop()).await;
        return Err(format!(
            "takeover: the hub that answers at {} no longer waits for this one, and goes on ({error}): start again",
            path.display()
        )
        .into());
    }
    tracing::info!(%error, "the hub that ran has ended by itself");
    Ok(())
}

/// The hub that runs and waits at the path to be relieved, if there is one.
async fn find_predecessor(path: &Path, log: &Log) -> Result<Option<Predecessor>, Failure> {
    let predecessor = Predecessor::find(path).await.map_err(|error| {
        let remedy = match error.kind() {
            io::ErrorKind::ResourceBusy => "wait until that one serves or has failed, and start again",
            io::ErrorKind::PermissionDenied => "give a path in a directory of this user alone",
            _ => "stop what listens there, or give another path",
        };
        format!("takeover: {}: {error}: {remedy}", path.display())
    })?;
    let Some(found) = &predecessor else { return Ok(None) };
    if found.is_log_exclusive && log.is_exclusive() {
        return Err(format!(
            "transport: the hub that answers at {} has a durable log, which one process alone can have open: use host:///DIRECTORY \
             or a store, which several processes can have, or stop that hub before you start this one",
            path.display()
        )
        .into());
    }
    if !log.is_stored() {
        tracing::warn!(
            setting = "takeover",
            "the log is in memory, so this hub begins without history, and does not get what the hub that runs is still told: use \
             host:///DIRECTORY or a store"
        );
    }
    Ok(predecessor)
}

fn wrong_takeover(error: &io::Error) -> Failure {
    format!("takeover: {error}: give a path in a directory of this user alone, or leave it out").into()
}

/// How texts call the hub that this one takes over from.
const RUNNING: &str = "the hub that runs";

/// The sockets on which the hub accepts connections: those of the service manager, those of the hub that runs, or its own.
async fn listeners(
    activated: Vec<TcpListener>,
    predecessor: Option<&Predecessor>,
    listen: &Address,
) -> Result<Vec<Listener>, Failure> {
    let (from, passed) = match predecessor {
        _ if !activated.is_empty() => ("the service manager", activated),
        Some(predecessor) => {
            let copies = predecessor.listeners.iter().map(TcpListener::try_clone);
            (RUNNING, copies.collect::<io::Result<Vec<_>>>()?)
        }
        None => {
            let listener = Listener::bind(&listen.host, listen.port).await.map_err(|error| {
                format!("cannot listen on {listen}: {error}: {} with --listen", remedy(listen, &error))
            })?;
            return Ok(vec![listener]);
        }
    };
    let listeners = passed.into_iter().map(Listener::from_std).collect::<io::Result<Vec<_>>>()?;
    let addresses: Vec<_> = listeners.iter().map(|listener| listener.address().to_string()).collect();
    let addresses = addresses.join(", ");
    // Whoever writes an address of this machine alone wants that, also where a proxy passes the requests of others on.
    if listen.is_loopback()
        && listeners.iter().any(|listener| !listener.address().ip().to_canonical().is_loopback())
    {
        return Err(format!(
            "listen: other machines reach the socket of {from}, {addresses}, and listen says {listen}: give the address of \
             the socket as listen, or let the socket listen on loopback"
        )
        .into());
    }
    if from == RUNNING && !listeners.iter().any(|listener| listen.fits(listener.address())) {
        return Err(format!(
            "takeover: the hub that runs listens on {addresses}, and listen says {listen}: give each hub a takeover of its \
             own; to change the address of this one, stop the hub that runs, and start again"
        )
        .into());
    }
    tracing::info!(addresses, "the listening socket comes from {from}, and not from --listen");
    Ok(listeners)
}
