//! Several servers, several scenarios, several rounds: each figure as the median of the rounds, and as a multiple of the
//! baseline's.
//!
//! Each run has a server of its own, started for it and ended after it, and a tool process of its own: nothing that one
//! run leaves behind is in the figures of the next. In a round every scenario meets every server, so that what else the
//! machine does is spread over all.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs, io,
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde::Deserialize;
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};

use crate::{Failure, report::number};

/// What is compared, as it stands in a TOML file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Comparison {
    /// How often each scenario meets each server.
    pub rounds: usize,
    /// The server that the others are multiples of.
    pub baseline: String,
    /// Who takes part.
    pub servers: Vec<Contestant>,
    /// What is run.
    pub scenarios: Vec<Run>,
}

/// One server. In all texts `{port}` is a free port, `{directory}` an empty directory and `{tool}` this program. In
/// `arguments`, `{url}` is what it writes after `Serving on ` on a line of its output.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contestant {
    /// What it is called.
    pub name: String,
    /// The program and its arguments; it must stay in the foreground. It is ready when it has written its URL, if that is
    /// used, else when it accepts connections on the port.
    pub command: Vec<String>,
    /// What the tool has to know about it: `--url` and so on.
    pub arguments: Vec<String>,
    /// Files to write into the directory before it starts.
    #[serde(default)]
    pub files: BTreeMap<String, String>,
    /// Whether it only takes part when it is asked for by name.
    #[serde(default)]
    pub optional: bool,
}

/// One scenario.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// What it is called.
    pub name: String,
    /// The subcommand and its arguments.
    pub arguments: Vec<String>,
    /// The figures of its report that are shown.
    pub figures: Vec<String>,
    /// The servers that it makes sense for; none named: all.
    #[serde(default)]
    pub servers: Vec<String>,
}

/// What a comparison has found.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The tables.
    pub text: String,
    /// The same, with the values of all rounds.
    pub json: Value,
    /// What was delivered wrongly or could not be run.
    pub faults: Vec<String>,
}

/// How long a server may take to start or to end.
const PATIENCE: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(10);

/// The values of all rounds, by scenario, server and figure.
type Values = BTreeMap<(usize, usize, String), Vec<f64>>;

impl Comparison {
    /// Reads the file.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(toml::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?)
    }

    /// Keeps the named servers and scenarios; no names: all that are not optional.
    ///
    /// # Errors
    /// If there is none of that name.
    pub fn select(&mut self, servers: &[String], scenarios: &[String]) -> Result<(), Failure> {
        let known = |name: &String| self.servers.iter().any(|server| server.name == *name);
        if let Some(name) = servers.iter().chain([&self.baseline]).find(|name| !known(name)) {
            return Err(format!("no server is called {name:?}").into());
        }
        let known =
            |name: &&String| !self.scenarios.iter().any(|scenario| scenario.name.contains(name.as_str()));
        if let Some(name) = scenarios.iter().find(known) {
            return Err(format!("no scenario has {name:?} in its name").into());
        }
        self.servers.retain(|server| match servers {
            [] => !server.optional,
            _ => servers.contains(&server.name),
        });
        let chosen =
            |run: &Run| scenarios.is_empty() || scenarios.iter().any(|name| run.name.contains(name.as_str()));
        self.scenarios.retain(chosen);
        Ok(())
    }

    /// Runs everything; `progress` is told what comes next.
    ///
    /// # Errors
    /// If a server cannot be started. A run that fails is a fault of the outcome.
    pub fn run(&self, mut progress: impl FnMut(&str)) -> Result<Outcome, Failure> {
        let mut values = Values::new();
        let mut faults = Vec::new();
        for round in 1..=self.rounds {
            for (scenario, run) in self.scenarios.iter().enumerate() {
                for (server, contestant) in self.servers.iter().enumerate().filter(|(_, s)| run.is_for(s)) {
                    let name = format!("round {round} of {}, {}, {}", self.rounds, run.name, contestant.name);
                    progress(&name);
                    let report = contestant.start()?.measure(&run.arguments);
                    let report = report.unwrap_or_else(|failure| json!({"faults": [failure.to_string()]}));
                    for fault in report["faults"].as_array().into_iter().flatten() {
                        faults.push(format!("{name}: {}", fault.as_str().unwrap_or_default()));
                    }
                    for (figure, value) in report["figures"].as_object().into_iter().flatten() {
                        let place = values.entry((scenario, server, figure.clone())).or_default();
                        place.extend(value.as_f64());
                    }
                }
            }
        }
        Ok(Outcome { text: self.tables(&values), json: self.json(&values, &faults), faults })
    }

    fn tables(&self, values: &Values) -> String {
        let mut out = String::new();
        let baseline = self.servers.iter().position(|server| server.name == self.baseline);
        for (scenario, run) in self.scenarios.iter().enumerate() {
            let servers: Vec<_> = self.servers.iter().enumerate().filter(|(_, s)| run.is_for(s)).collect();
            let width = run.figures.iter().map(String::len).max().unwrap_or_default();
            let _ = write!(out, "{}\n  {:width$}", run.name, "");
            for (_, contestant) in &servers {
                let _ = write!(out, "  {:>18}", contestant.name);
            }
            out.push('\n');
            for figure in &run.figures {
                let median = |server: usize| median(values.get(&(scenario, server, figure.clone()))?);
                let _ = write!(out, "  {:width$}", figure.replace('_', " "));
                for (server, _) in &servers {
                    let cell = median(*server).map_or("-".to_owned(), number);
                    let ratio = match (baseline.and_then(&median), median(*server)) {
                        (Some(floor), Some(value)) if baseline != Some(*server) && floor > 0.0 => {
                            format!("×{:.2}", value / floor)
                        }
                        _ => String::new(),
                    };
                    let _ = write!(out, "  {cell:>10} {ratio:>7}");
                }
                out.push('\n');
            }
            out.push('\n');
        }
        out
    }

    fn json(&self, values: &Values, faults: &[String]) -> Value {
        let mut scenarios = json!({});
        for ((scenario, server, figure), rounds) in values {
            let (scenario, server) = (&self.scenarios[*scenario].name, &self.servers[*server].name);
            scenarios[scenario][server][figure] = json!({"median": median(rounds), "rounds": rounds});
        }
        json!({"scenarios": scenarios, "faults": faults})
    }
}

impl Run {
    fn is_for(&self, contestant: &Contestant) -> bool {
        self.servers.is_empty() || self.servers.contains(&contestant.name)
    }
}

impl Contestant {
    fn start(&self) -> Result<Running, Failure> {
        let held = hold_port()?;
        let port = held.local_addr()?.as_socket().ok_or("the port has no address")?.port();
        let directory = std::env::temp_dir().join(format!("petasos-bench-{}-{port}", std::process::id()));
        let tool = std::env::current_exe()?;
        fs::create_dir_all(&directory)?;
        let fill = |text: &String| {
            text.replace("{port}", &port.to_string())
                .replace("{directory}", &directory.display().to_string())
                .replace("{tool}", &tool.display().to_string())
        };
        for (name, text) in &self.files {
            fs::write(directory.join(name), fill(text))?;
        }
        let command: Vec<String> = self.command.iter().map(fill).collect();
        let (program, arguments) =
            command.split_first().ok_or_else(|| format!("{}: there is no command", self.name))?;
        let (output, log) = (directory.join("output"), directory.join("log"));
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(fs::File::create(&output)?)
            .stderr(fs::File::create(&log)?)
            .spawn()
            .map_err(|error| format!("{}: {program}: {error}", self.name))?;
        let arguments = self.arguments.iter().map(fill).collect();
        let mut running = Running { child, directory, tool, arguments, _held: held };
        let writes_url = running.arguments.iter().any(|argument| argument.contains("{url}"));
        let ready = if writes_url {
            running.await_ready(|| url(&fs::read_to_string(&output).unwrap_or_default()))
        } else {
            running.await_ready(|| TcpStream::connect(("127.0.0.1", port)).ok().map(|_| String::new()))
        };
        let url = ready.map_err(|failure| {
            let log = fs::read_to_string(&log).unwrap_or_default();
            format!("{}: {failure}\n{log}", self.name)
        })?;
        for argument in &mut running.arguments {
            *argument = argument.replace("{url}", &url);
        }
        Ok(running)
    }
}

/// The URL in a server's output, once its line is complete.
fn url(output: &str) -> Option<String> {
    let (_, rest) = output.split_once("Serving on ")?;
    rest.split_once('\n').map(|(url, _)| url.trim().to_owned())
}

/// A server for one run. It ends with this value.
struct Running {
    child: Child,
    directory: PathBuf,
    tool: PathBuf,
    arguments: Vec<String>,
    _held: Socket,
}

/// A port for a server that is told its number. The socket is bound and does not listen, so that nobody else gets the
/// port; a server that sets SO_REUSEADDR, as all do, can listen on it.
fn hold_port() -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())?;
    Ok(socket)
}

impl Running {
    fn await_ready(&mut self, mut ready: impl FnMut() -> Option<String>) -> Result<String, Failure> {
        let started = Instant::now();
        loop {
            if let Some(url) = ready() {
                return Ok(url);
            }
            if let Some(status) = self.child.try_wait()? {
                return Err(format!("ended at once, {status}").into());
            }
            if started.elapsed() > PATIENCE {
                return Err("is not ready".into());
            }
            thread::sleep(LOOK);
        }
    }

    fn measure(&self, arguments: &[String]) -> Result<Value, Failure> {
        let output = Command::new(&self.tool)
            .args(arguments)
            .args(&self.arguments)
            .args(["--json", "--server-pid", &self.child.id().to_string()])
            .stdin(Stdio::null())
            .output()?;
        serde_json::from_slice(&output.stdout)
            .map_err(|_| String::from_utf8_lossy(&output.stderr).trim().to_owned().into())
    }

    fn ended_within(&mut self, time: Duration) -> bool {
        let started = Instant::now();
        while started.elapsed() < time {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return true;
            }
            thread::sleep(LOOK);
        }
        false
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Asked first: a server of several processes that is killed leaves the others behind.
        let id = self.child.id().to_string();
        let _ = Command::new("kill").args(["-TERM", &id]).status();
        if !self.ended_within(PATIENCE) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len().checked_sub(1)?;
    Some((sorted[middle / 2] + sorted[middle.div_ceil(2)]) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_says_where_it_is_in_one_whole_line() {
        assert_eq!(url("Publisher key: x\nServing on http://a:1/b\n").as_deref(), Some("http://a:1/b"));
        assert_eq!(url("Serving on http://a:1"), None);
    }

    #[test]
    fn medians_are_in_the_middle() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0]), Some(3.0));
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }
}
