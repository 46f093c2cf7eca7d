//! A hub with a file of settings, as a black box: it is started, its files change, and it is asked to read them again.

#![allow(dead_code, unreachable_pub, reason = "each test uses what it needs")]

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

/// How long a test waits for what happens in milliseconds.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Lines of the log that wait for the test.
const LINES_MAX: usize = 65_536;

/// The path of its URL.
pub const HUB: &str = "/.well-known/mercure";

/// The name of its file of settings.
pub const SETTINGS_FILE: &str = "petasos.toml";

/// A hub that is killed on drop.
pub struct Hub {
    child: Child,
    pub address: String,
    /// The address of the port for operators.
    pub operators: String,
    /// Lines of its log.
    log: mpsc::Receiver<String>,
    /// All that it has printed.
    printed: Vec<String>,
    directory: tempfile::TempDir,
}

impl Drop for Hub {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Hub {
    /// Starts with these settings, in a directory of its own. `prepare` writes further files there.
    pub fn start(settings: &str, prepare: impl FnOnce(&Path)) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        prepare(directory.path());
        write(directory.path(), SETTINGS_FILE, settings);
        let places = ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
        let times = ["--drain-delay", "0", "--drain", "0"];
        let arguments = [&places[..], &times, &["--compat", "--config", SETTINGS_FILE]].concat();
        let mut child = command(directory.path(), &arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let (tell, log) = mpsc::sync_channel(LINES_MAX);
        let error = BufReader::new(child.stderr.take().expect("piped"));
        thread::spawn(move || error.lines().map_while(Result::ok).try_for_each(|line| tell.send(line)));
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut next = |names: &[&str]| {
            let line = lines.next().expect("a line").expect("UTF-8");
            let rest = names.iter().find_map(|name| line.strip_prefix(name));
            rest.unwrap_or_else(|| panic!("{line:?}")).to_owned()
        };
        let url = next(&["Serving on http://", "Serving on https://"]);
        let operators = next(&["Metrics, health and status on http://"]);
        let address = url.strip_suffix(HUB).expect("the hub's path").to_owned();
        Self { child, address, operators, log, printed: Vec::new(), directory }
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        write(self.directory(), name, text);
    }

    pub fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &id]).status().expect("kill").success());
    }

    /// The next line of the log with that text.
    pub fn logged(&mut self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let rest = deadline.saturating_duration_since(Instant::now());
            let line = self.log.recv_timeout(rest).unwrap_or_else(|_| panic!("{text:?}: {:?}", self.printed));
            self.printed.push(line.clone());
            if line.contains(text) {
                return line;
            }
        }
    }

    /// Writes the settings and reloads them. Returns the line of the log with that text.
    pub fn reload(&mut self, settings: &str, text: &str) -> String {
        self.write(SETTINGS_FILE, settings);
        self.signal("HUP");
        self.logged(text)
    }

    /// Everything that it has printed, after it has been stopped.
    pub fn output(mut self) -> String {
        self.signal("TERM");
        assert!(self.child.wait().expect("it ends").success());
        self.printed.extend(self.log.iter());
        self.printed.join("\n")
    }
}

/// The program, in that directory, with none of the variables of this process.
pub fn command(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_petasos"));
    command.args(arguments).current_dir(directory).env_clear().env("NO_COLOR", "1").stdin(Stdio::null());
    command
}

/// Writes a file in one step, as a tool that deploys does it. It may hold secrets.
pub fn write(directory: &Path, name: &str, text: &str) {
    let new = directory.join(format!("{name}.new"));
    fs::write(&new, text).expect("written");
    fs::set_permissions(&new, fs::Permissions::from_mode(0o600)).expect("set");
    fs::rename(new, directory.join(name)).expect("renamed");
}
