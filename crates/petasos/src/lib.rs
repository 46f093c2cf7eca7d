//! petasos, a hub compatible with the Mercure protocol, ready to run: its settings, checked, and the engine, the log and the
//! HTTP side that they describe, started together.
//!
//! ```
//! use petasos::{Config, IssuerConfig, KeyConfig, Secret};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let publisher = KeyConfig::new(Some(Secret::random()));
//! let issuers = vec![IssuerConfig { publisher, ..IssuerConfig::default() }];
//! let mut config = Config { issuers, ..Config::default() };
//! config.http.anonymous = true;
//! let connections = config.check()?.start().await?;
//! let listener = petasos_server::Listener::bind("127.0.0.1", 0).await?;
//! println!("http://{}{}", listener.address(), connections.service().hub().url().path());
//! let serving = tokio::spawn(listener.serve(connections.clone(), std::time::Duration::from_secs(5)));
//! connections.stop().await;
//! serving.await?;
//! # Ok(())
//! # }
//! ```

#[cfg(feature = "cli")]
pub mod activation;
mod config;
pub mod deadline;
mod error;
mod issuers;
mod memory;
pub mod metrics;
#[cfg(feature = "cli")]
pub mod notify;
mod open_files;
pub mod output;
mod process;
mod secret;
#[cfg(feature = "cli")]
pub mod takeover;
pub mod telemetry;
mod warning;

pub use config::{Checked, Config, Log, cookie_name, origins, publish_origins};
pub use error::{ConfigError, StartError};
pub use issuers::{IssuerConfig, KeyConfig};
pub use secret::Secret;
pub use warning::Warning;
