//! Certificates that a test makes for its own server.

use std::{path::Path, process::Command};

use super::output;

/// Makes `cert.pem` and `key.pem` in a directory, for `localhost`. `is_authority`: it may issue others, as openssl has it by
/// default; otherwise it is a server's alone.
pub fn make(directory: &Path, is_authority: bool) {
    let constraint = if is_authority { "critical,CA:TRUE" } else { "critical,CA:FALSE" };
    let mut make = Command::new("openssl");
    make.args([
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "2",
    ])
    .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"])
    .args(["-addext", &format!("basicConstraints={constraint}"), "-keyout"])
    .arg(directory.join("key.pem"))
    .arg("-out")
    .arg(directory.join("cert.pem"));
    let made = output(&mut make);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}
