//! A PostgreSQL of its own for a test.

use std::{env, fs, path::Path, process::Command, sync::Arc};

use async_trait::async_trait;
use petasos_hub::transport::Transport;
use petasos_transports::{OpenError, Options, open};
use tokio_postgres::{Client, NoTls};

use crate::kit::{Server, Wait, disk::Disk, output, skip, store::Store};

/// A running server whose superuser has the password "secret".
pub struct Postgres(pub Server);

/// Where Debian and others put it; otherwise it is found by its name.
const DIRECTORIES: [&str; 4] =
    ["/usr/lib/postgresql/17", "/usr/lib/postgresql/16", "/usr/lib/postgresql/15", "/usr/lib/postgresql/14"];

#[async_trait]
impl Store for Postgres {
    /// A fast stop, an immediate one, and the end of all processes.
    const ENDS: &'static [&'static str] = &["INT", "QUIT", "KILL"];

    /// Without waiting for the disk: the stories append more than it may do in their time, and no system crashes in them.
    async fn start() -> Self {
        Self::with(&["fsync=off"]).await
    }

    fn url(&self, parameters: &str) -> String {
        self.url_of("postgres", parameters)
    }

    fn pause(&self) {
        self.signal_all("STOP");
    }

    fn resume(&self) {
        self.signal_all("CONT");
    }

    fn end(&mut self, signal: &str) {
        if signal == "KILL" {
            self.signal_all("KILL");
        }
        self.0.end(signal);
    }

    fn come_back(&mut self) {
        self.0.restart();
    }

    fn lose_everything(&mut self) {
        self.end("KILL");
        fs::remove_dir_all(self.0.directory().join("data")).expect("its files");
    }
}

impl Postgres {
    pub async fn durable() -> Self {
        Self::with(&[]).await
    }

    /// With these settings more.
    pub async fn with(settings: &'static [&'static str]) -> Self {
        Self::with_environment(settings, |_, _| {}).await
    }

    /// The tables are on a disk whose faults the test sets.
    pub async fn on(disk: &Arc<Disk>) -> Self {
        let disk = Arc::clone(disk);
        Self::with_environment(&[], move |command, data| disk.give(command, &data.join("base"))).await
    }

    async fn with_environment(
        settings: &'static [&'static str],
        environment: impl Fn(&mut Command, &Path) + Send + Sync + 'static,
    ) -> Self {
        Self(Server::start(move |directory, port| {
            let data = directory.join("data");
            if !data.exists() {
                initialize(directory);
            }
            let mut command = program("postgres");
            environment(&mut command, &data);
            command.arg("-D").arg(&data).args(["-p", &port.to_string()]);
            let defaults = ["listen_addresses=127.0.0.1", "unix_socket_directories=", "max_connections=300"];
            for setting in defaults.iter().chain(settings) {
                command.args(["-c", setting]);
            }
            command
        }))
    }

    pub fn url_of(&self, database: &str, parameters: &str) -> String {
        format!("postgres://postgres:secret@127.0.0.1:{}/{database}?{parameters}", self.0.port)
    }

    /// A log in the database postgres.
    pub async fn open(&self, parameters: &str, options: &Options) -> Arc<dyn Transport> {
        try_open(&self.url_of("postgres", parameters), options).await.expect("it opens")
    }

    /// A plain connection to the database postgres, waited for.
    pub async fn client(&self) -> Client {
        self.client_of("postgres").await
    }

    pub async fn client_of(&self, database: &str) -> Client {
        let url = self.url_of(database, "");
        let mut wait = Wait::new("the server answers");
        loop {
            if let Ok((client, connection)) = tokio_postgres::connect(&url, NoTls).await {
                // Its end is seen by the client.
                tokio::spawn(async move { drop(connection.await) });
                return client;
            }
            wait.goes_on().await;
        }
    }

    /// Every process of the server, its own included, gets a signal.
    pub fn signal_all(&self, name: &str) {
        let server = self.0.id();
        let parent = |process: u32| {
            let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
            stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse::<u32>().ok()
        };
        let all = fs::read_dir("/proc")
            .expect("/proc")
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
        let children: Vec<_> = all.filter(|process| parent(*process) == Some(server)).collect();
        // The server first, so that it starts nothing anew.
        for process in std::iter::once(server).chain(children) {
            // A child may have ended meanwhile.
            let _ = Command::new("kill").args(["-s", name, &process.to_string()]).status();
        }
    }
}

pub async fn try_open(url: &str, options: &Options) -> Result<Arc<dyn Transport>, OpenError> {
    open(&url.parse()?, options).await
}

fn initialize(directory: &Path) {
    let (data, password) = (directory.join("data"), directory.join("password"));
    fs::write(&password, "secret").expect("written");
    // PostgreSQL refuses to run as root.
    if is_root() {
        let owner = Command::new("chown").args(["-R", "65534:65534"]).arg(directory).status();
        assert!(owner.expect("chown").success());
    }
    let made = output(
        program("initdb")
            .args([
                "--username=postgres",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--no-locale",
                "--no-sync",
            ])
            .arg(format!("--pwfile={}", password.display()))
            .arg(&data),
    );
    assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
}

fn program(name: &str) -> Command {
    let directories = DIRECTORIES.iter().map(|directory| Path::new(directory).join("bin"));
    let others = env::var_os("PATH").unwrap_or_default();
    let directories = directories.chain(env::split_paths(&others));
    let path = directories.map(|directory| directory.join(name)).find(|path| path.exists());
    let path = path.unwrap_or_else(|| skip("postgres is not installed"));
    if !is_root() {
        return Command::new(path);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(path);
    command
}

fn is_root() -> bool {
    let output = Command::new("id").arg("-u").output().expect("id");
    output.stdout.starts_with(b"0\n")
}
