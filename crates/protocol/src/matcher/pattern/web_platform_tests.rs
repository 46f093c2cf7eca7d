//! The web-platform tests of URL patterns, which come with the crate that parses patterns: strings as patterns and as
//! inputs, matched by the tests here.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use super::*;
use crate::matcher::comparable;

#[test]
fn they_agree() {
    let cases: Vec<Value> =
        serde_json::from_str(&fs::read_to_string(path()).expect("the data")).expect("JSON");
    let (mut compared, mut failed) = (0, Vec::new());
    for (number, case) in cases.iter().enumerate() {
        if case.get("skip").is_some() {
            continue;
        }
        let arguments = case["pattern"].as_array().expect("arguments");
        if arguments.iter().any(|argument| argument.get("ignoreCase").is_some()) {
            // No pattern here ignores case.
            continue;
        }
        let expects_error = case["expected_obj"] == "error";
        let Some(parsed) = pattern_from(arguments) else { continue };
        let outcome = match (&parsed, expects_error) {
            (Err(_), expected) => expected,
            (Ok(_), true) => false,
            (Ok(pattern), false) => {
                let inputs = case["inputs"].as_array().cloned().unwrap_or_default();
                let Some(Value::String(input)) = inputs.first() else { continue };
                let base = inputs.get(1).and_then(Value::as_str).map(Url::parse);
                let url = match base {
                    None => Url::parse(input).ok(),
                    Some(base) => base.ok().and_then(|base| base.join(input).ok()),
                };
                let expected = case.get("expected_match").is_some_and(Value::is_object);
                if let (true, Some(url)) = (expected, &url) {
                    let prefix = pattern.literal_prefix();
                    assert!(comparable(url).starts_with(&prefix), "{url} does not begin with {prefix}");
                }
                url.is_some_and(|url| pattern.matches_url(&url)) == expected
            }
        };
        compared += 1;
        if !outcome {
            failed.push((number, case["pattern"].to_string()));
        }
    }
    assert!(compared > 100, "{compared} cases compared");
    let reasons: Vec<_> = failed.iter().map(|(_, pattern)| pattern.as_str()).collect();
    assert_eq!(reasons, DIFFERENCES, "of {compared} cases");
}

/// Patterns for which the outcome differs here.
const DIFFERENCES: [&str; 0] = [];

/// Builds a pattern from the arguments of its constructor. `None`: a form that no request has.
fn pattern_from(arguments: &[Value]) -> Option<Result<Pattern, Reject>> {
    let init = match arguments {
        [Value::String(pattern)] => UrlPatternInit::parse_constructor_string::<Expression>(pattern, None),
        [Value::String(pattern), Value::String(base)] => match Url::parse(base) {
            Ok(base) => UrlPatternInit::parse_constructor_string::<Expression>(pattern, Some(base)),
            Err(_) => return Some(Err(Reject::PatternInvalid)),
        },
        [Value::Object(members)] => {
            let text = |name: &str| members.get(name).and_then(Value::as_str).map(str::to_owned);
            let base_url = match text("baseURL").map(|base| Url::parse(&base)).transpose() {
                Ok(base) => base,
                Err(_) => return Some(Err(Reject::PatternInvalid)),
            };
            Ok(UrlPatternInit {
                protocol: text("protocol"),
                username: text("username"),
                password: text("password"),
                hostname: text("hostname"),
                port: text("port"),
                pathname: text("pathname"),
                search: text("search"),
                hash: text("hash"),
                base_url,
            })
        }
        _ => return None,
    };
    Some(init.map_err(|_| Reject::PatternInvalid).and_then(|init| Pattern::build("", init)))
}

/// The file lies in the sources of the crate, wherever cargo keeps them.
fn path() -> PathBuf {
    let cargo = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO"));
        let output = command.args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output();
        output.expect("cargo runs")
    };
    // Without a platform, cargo would look for packages that only other systems need.
    let version = String::from_utf8(cargo(&["-vV"]).stdout).expect("UTF-8");
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).expect("a host");
    let arguments = ["metadata", "--format-version", "1", "--offline", "--filter-platform", host];
    let output = cargo(&arguments);
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    let package = packages.iter().find(|package| package["name"] == "urlpattern").expect("a dependency");
    let manifest = Path::new(package["manifest_path"].as_str().expect("a path"));
    manifest.with_file_name("src").join("testdata/urlpatterntestdata.json")
}
