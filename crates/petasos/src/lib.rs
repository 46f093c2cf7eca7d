//! petasos, a hub compatible with the Mercure protocol, ready to run: settings as people write them, checked, and wired
//! to an engine and an HTTP face.
//!
//! ```
//! use petasos::{Config, IssuerConfig, KeyConfig, Secret};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let publisher = KeyConfig::of(Some(Secret::random()));
//! let issuers = vec![IssuerConfig { publisher, ..IssuerConfig::default() }];
//! let config = Config { issuers, anonymous: true, ..Config::default() };
//! let connections = config.check()?.start().await?;
//! let listener = petasos_server::Listener::bind("127.0.0.1", 0).await?;
//! println!("http://{}{}", listener.address(), connections.service().hub().url().path());
//! let serving = tokio::spawn(listener.serve(connections.clone(), std::time::Duration::from_secs(5)));
//! connections.stop().await;
//! serving.await?;
//! # Ok(())
//! # }
//! ```

mod config;
pub mod deadline;
mod memory;
mod open_files;
pub mod output;
pub mod telemetry;
mod warning;

pub use config::{Checked, Config, ConfigError, IssuerConfig, KeyConfig, Secret, StartError};
pub use warning::Warning;
